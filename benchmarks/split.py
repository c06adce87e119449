"""Where the time of training goes: environment, acting, replay, update, and the host between chunks."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measure import CONFIG, Table, Work, interleaved, say
from drigm.algorithms import replay
from drigm.algorithms.learner import Learner, make_learner
from drigm.core.config import TrainConfig
from drigm.core.types import Array
from drigm.envs import make_env
from drigm.envs.api import Environment
from drigm.envs.episodes import advance
from drigm.runtime.sharding import over_shards, shard_mesh, sharding_of
from drigm.storage.run_directory import RunDirectory
from drigm.training.loop import axes, train_session
from drigm.training.programs import make_train
from drigm.training.session import Member, Session
from drigm.training.tick import ROWS, RunState, decide

One = Callable[[RunState, Array], RunState]  # one shard of one seed


def measure(quick: bool, config: TrainConfig = CONFIG) -> dict[str, Any]:
    """Time the parts of a tick in loops of their own, a whole tick beside them; the update is what is left."""
    say("compiling a tick and its parts")
    env = make_env(config.env)
    programs = make_train(config, env)
    parts = {
        "environment": _environment(env),
        "acting": _acting(make_learner(config, env.spec), env),
        "replay": _sampling(config),
    }
    works = {name: _loop(one, config, programs.init(*axes([config]))) for name, one in parts.items()}
    works["tick"] = _ticks(programs, config)
    say("parts of a tick side by side")
    costs = interleaved(works, quick=quick)
    host = _host_seconds(config, programs)
    seconds = {name: cost.best for name, cost in costs.items()}
    inside = {name: seconds[name] for name in parts}
    inside["update"] = seconds["tick"] - sum(inside.values())
    run = seconds["tick"] * config.ticks + host
    shares = {name: per_tick * config.ticks / run for name, per_tick in inside.items()}
    return {
        "seconds_per_tick": {**inside, "whole": seconds["tick"]},
        "host_seconds_per_run": host,
        "shares": {**shares, "host": host / run},
    }


def tables(result: dict[str, Any]) -> list[Table]:
    per_tick = result["seconds_per_tick"]
    rows = [
        {"part": name, "ms per tick": f"{1e3 * per_tick[name]:.2f}" if name in per_tick else None, "%": 100 * share}
        for name, share in result["shares"].items()
    ]
    note = (
        "Acting: networks, exploration, storing the row. Replay: drawing the windows. Update: the rest of a tick. "
        f"Host: log, progress and files of a whole run, {result['host_seconds_per_run']:.2f} s in {ROWS} chunks."
    )
    return [Table("Where the time goes", rows, note)]


def _environment(env: Environment) -> One:
    def one(state: RunState, tick: Array) -> RunState:
        carry = state.rollout
        action = (carry.last_action + 1 + tick) % env.spec.num_actions
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), tick)
        return state._replace(rollout=advance(env, carry, key, action, carry.memory)[0])

    return one


def _acting(learner: Learner, env: Environment) -> One:
    def one(state: RunState, tick: Array) -> RunState:
        key, row, decision = decide(learner, env, state.learner.params.agents, state.rollout, state.key, tick)
        carry = state.rollout._replace(last_action=decision.action, memory=decision.memory)
        return state._replace(ring=replay.insert(state.ring, row, tick), key=key, rollout=carry)

    return one


def _sampling(config: TrainConfig) -> One:
    def one(state: RunState, tick: Array) -> RunState:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), tick)
        count = config.batch // config.shards
        window = replay.sample(state.ring, key, tick + config.window + 1, count, config.window)
        # All of the window is read, and the carry depends on it: nothing can be left out.
        total = sum(jnp.sum(x.astype(jnp.float32)) for x in jax.tree.leaves(window))
        return state._replace(robustness=state.robustness._replace(rho=state.robustness.rho + 1e-20 * total))

    return one


def _loop(one: One, config: TrainConfig, state: RunState) -> Work:
    """Return the work of repeating ``one``, spread over cores as training is."""

    def many(state: RunState, ticks: Array) -> RunState:
        return jax.lax.fori_loop(0, ticks, lambda i, s: jax.vmap(lambda run: one(run, i))(s), state)

    mesh = shard_mesh(config.shards)
    program = jax.jit(over_shards(many, mesh, (True, False)), donate_argnums=0, out_shardings=sharding_of(mesh))
    held = [state]

    def work(ticks: int) -> None:
        held[0] = jax.block_until_ready(program(held[0], jnp.int32(ticks)))

    return work


def _ticks(programs: Any, config: TrainConfig) -> Work:
    held = [programs.init(*axes([config])), 0]

    def work(ticks: int) -> None:
        held[0], sums = programs.chunk(held[0], jnp.int32(held[1]), jnp.int32(ticks))
        jax.block_until_ready(sums)
        held[1] += ticks

    work(config.first_update)
    return work


def _host_seconds(config: TrainConfig, programs: Any) -> float:
    """What `drigm train` spends on a whole run outside its two programs: as many chunks, of one tick each."""
    say("the host between chunks")
    inside = 0.0

    def timed(program: Any) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal inside
            began = time.perf_counter()
            out = jax.block_until_ready(program(*arguments))
            inside += time.perf_counter() - began
            return out

        return call

    short = dataclasses.replace(config, steps=ROWS * config.num_envs)
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(Path(folder, "run"))
        directory.create(short)
        watched = programs._replace(init=timed(programs.init), chunk=timed(programs.chunk))
        session = Session(
            [Member(short, directory)], make_env(config.env), watched, directory.checkpoint_file, "", quiet=True
        )
        began = time.perf_counter()
        train_session(session)
        return time.perf_counter() - began - inside
