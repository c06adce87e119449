"""The host loop: compiled chunks, and between them the log, the progress display and the checkpoint.

Runs that differ in seeds and radius alone are one program.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.baselines import BASELINES
from drigm.checkpoint import load_metadata, load_tree, save_tree
from drigm.config import TrainConfig
from drigm.envs.api import Environment
from drigm.errors import UserError, check
from drigm.learner import LearnerState
from drigm.loggers import Slot, open_logs
from drigm.loop import ChunkSums, RunState, StoppedError, Train, epsilon_at
from drigm.networks import RecurrentAgents
from drigm.progress import Progress
from drigm.run_directory import RunDirectory, seeds_of
from drigm.types import PyTree

CHUNKS = 100  # rows of metrics.csv
CHECKPOINT_SECONDS = 30.0
CHEAP_SAVE = 1.5  # seconds; a larger state that takes longer is saved as much more seldom, a twentieth of the time
OWN_AXES = {"rho": 0.0, "seeds": 1, "first_seed": 0}  # what members of one session may differ in


class Weights(NamedTuple):
    """What a finished seed keeps."""

    agents: RecurrentAgents
    mixer: PyTree
    dual: PyTree


class Member(NamedTuple):
    """One run of a session."""

    config: TrainConfig
    directory: RunDirectory


class Session(NamedTuple):
    """Runs that one compiled program trains.

    Attributes:
        members: their configs are equal but for `OWN_AXES`.
        env: the environment of all.
        programs: its training programs.
        checkpoint_file: where the state of all members is kept until they have finished.
        again: how a user continues when it is stopped.
        quiet: show no progress.
        log: loggers besides the CSV.
    """

    members: Sequence[Member]
    env: Environment
    programs: Train
    checkpoint_file: Path
    again: str
    quiet: bool = False
    log: tuple[str, ...] = ()

    @property
    def config(self) -> TrainConfig:
        """The settings that all members share; its radius and seeds are those of the first."""
        return self.members[0].config

    @property
    def slots(self) -> list[tuple[Member, int]]:
        """Each member with each of its seeds, as they stand on the axis of runs."""
        return [(member, seed) for member in self.members for seed in seeds_of(member.config)]


def axes(configs: Sequence[TrainConfig]) -> tuple[jax.Array, jax.Array]:
    """Return seeds [K] int32 and radii [K] float32 of all configs, one after the other."""
    seeds = np.concatenate([seeds_of(config) for config in configs])
    rho = np.concatenate([np.full(config.seeds, config.rho) for config in configs])
    return jnp.asarray(seeds, jnp.int32), jnp.asarray(rho, jnp.float32)


def shared(config: TrainConfig) -> TrainConfig:
    """Return the settings of ``config`` that every run of its program has: without its own of `OWN_AXES`."""
    return config.replace(**OWN_AXES)


def stopped(again: str) -> KeyboardInterrupt:
    """Return the interruption that tells how to continue."""
    return KeyboardInterrupt(f"stopped; continue with {again}")


def check_together(configs: Sequence[TrainConfig]) -> None:
    """Raise `UserError` unless one program can train all ``configs``."""
    for config in configs[1:]:
        given, first = (dataclasses.asdict(shared(c)) for c in (config, configs[0]))
        for name, value in given.items():
            same = f"{first[name]!r}, as in the first of the runs that train together"
            check(value == first[name], name, value, same)


def train_session(session: Session) -> None:
    """Train every member to its end, from the checkpoint if there is one.

    Raises:
        UserError: training diverged, or an environment failed; what was learnt is kept.
        KeyboardInterrupt: with a message that says how to continue.
    """
    state, tick = _start(session), 0
    if session.checkpoint_file.exists():
        state, tick = _restored(session, state)
    try:
        state = session.programs.place(state)  # the name must not keep what a chunk is given
        state = _train(session, state, tick)
    finally:
        session.programs.close()
    _save_finished(session, state)


def _start(session: Session) -> RunState:
    """Return the state before the first tick; where a baseline fits something first, say so."""
    config, both = session.config, axes([member.config for member in session.members])
    if BASELINES[config.baseline].reward_models is None:
        return session.programs.init(*both)
    runs = len(session.slots)
    with Progress(f"{config.baseline}: fitting reward estimators", runs, quiet=session.quiet) as progress:
        state = jax.block_until_ready(session.programs.init(*both))
        progress.update(runs)
    return state


def _restored(session: Session, state: RunState) -> tuple[RunState, int]:
    """Return the state and tick of the checkpoint; ``state`` has its shapes."""
    file, ticks = session.checkpoint_file, session.config.ticks
    text = load_metadata(file).get("tick", "")
    known = text.isdecimal() and int(text) <= ticks
    check(known, f"{file}: tick", text, f"it must be a whole number from 0 to {ticks}")
    saved = load_tree(file, state)
    return jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), saved, state), int(text)


def _train(session: Session, state: RunState, tick: int) -> RunState:
    """Return the state after the last tick; chunk by chunk it is logged, shown and saved."""
    config, runs = session.config, len(session.slots)
    chunk = max(1, config.ticks // CHUNKS)
    saved_at, pause = time.monotonic(), CHECKPOINT_SECONDS
    done = min(tick * config.num_envs, config.steps)
    slots = [Slot(member.directory, member.config, seed, tick * config.num_envs) for member, seed in session.slots]
    with (
        Progress(label_of(session), config.steps, quiet=session.quiet, start=done) as progress,
        open_logs(session.log, slots, progress.note) as write,
    ):
        if tick == 0:
            for note in (*session.env.notes, "compiling"):
                progress.note(note)
        while tick < config.ticks:
            ticks = min(chunk, config.ticks - tick)
            began = time.monotonic()
            state, sums = _advance(session, state, tick, ticks)
            tick += ticks
            for note in session.programs.notes():
                progress.note(note)
            rate = ticks * config.num_envs * runs / (time.monotonic() - began)
            rows = _metric_rows(session, sums, tick, rate)
            write(rows)
            progress.update(int(rows[0]["step"]), **_shown(rows))
            _refuse_divergence(session, sums, int(rows[0]["step"]))
            due = time.monotonic()
            if due - saved_at > pause and tick < config.ticks:
                save_tree(session.checkpoint_file, session.programs.settle(state), {"tick": str(tick)})
                saved_at = time.monotonic()
                pause = CHECKPOINT_SECONDS * max(1.0, (saved_at - due) / CHEAP_SAVE)
    return session.programs.settle(state)


def _advance(session: Session, state: Any, tick: int, ticks: int) -> tuple[Any, ChunkSums]:
    """Run one chunk; whatever stops it says how to continue."""
    try:
        return jax.block_until_ready(session.programs.chunk(state, jnp.int32(tick), jnp.int32(ticks)))
    except StoppedError as stop:
        save_tree(session.checkpoint_file, stop.state, {"tick": str(stop.tick)})
        raise UserError(f"{stop} What was learnt is kept: {session.again}") from None
    except KeyboardInterrupt:
        raise stopped(session.again) from None


def label_of(session: Session) -> str:
    """Return ``qmix tv rho 0.2 x5``, with every radius."""
    radii = list(dict.fromkeys(f"{member.config.rho:g}" for member in session.members if member.config.rho))
    name = method_name(session.config.replace(rho=0.0))
    return f"{name}{' rho ' + ', '.join(radii) if radii else ''} x{len(session.slots)}"


def method_name(config: TrainConfig) -> str:
    """Return ``qmix tv rho 0.2``, and the baseline where there is one."""
    baseline = "" if config.baseline == "none" else f" {config.baseline}"
    radius = f" rho {config.rho:g}" if config.rho else ""
    return f"{config.factorization} {config.uncertainty}{baseline}{radius}"


def _metric_rows(session: Session, sums: ChunkSums, tick: int, rate: float) -> list[dict[str, float]]:
    """One row of metrics per slot; the sums have leading axes [shards, K or more] and are equal on every shard."""
    config, env = session.config, session.env
    sums = jax.tree.map(lambda x: np.asarray(x)[0], sums)
    epsilon = float(epsilon_at(config, tick, np))
    rows = []
    for k in range(len(session.slots)):
        count, updates = float(sums.episodes.episodes[k]), float(sums.updates[k])
        mean = float(sums.episodes.returns[k]) / count if count else math.nan
        means = {
            name: float(value[k]) / updates if updates else math.nan for name, value in sums.metrics._asdict().items()
        }
        wins = float(sums.episodes.wins[k]) / count if count and env.spec.has_wins else math.nan
        score = wins if env.spec.has_wins else float(env.score(jnp.float32(mean)))
        row = {
            "step": min(tick * config.num_envs, config.steps),
            "return": mean,
            "score": score,
            "win_rate": wins,
            "episodes": count,
            **means,
            "epsilon": epsilon,
            "steps_per_s": rate,
        }
        rows.append(row)
    return rows


def _shown(rows: list[dict[str, float]]) -> dict[str, float]:
    """The means over seeds that the progress display shows."""
    shown = {}
    for name in ("return", "score", "loss", "epsilon"):
        values = [row[name] for row in rows if math.isfinite(row[name])]
        if values:
            shown[name] = sum(values) / len(values)
    return shown


def _refuse_divergence(session: Session, sums: ChunkSums, step: int) -> None:
    loss = np.asarray(sums.metrics.loss)[0, : len(session.slots)]  # 0 where nothing was learnt in the chunk
    for (member, seed), finite in zip(session.slots, np.isfinite(loss), strict=True):
        told = f"the loss of seed {seed} became infinite by step {step}; give a smaller one"
        check(bool(finite), "learning_rate", member.config.learning_rate, told)


def weights_of(learner: LearnerState) -> Weights:
    """Return what is kept of a learner."""
    return Weights(learner.average.agents, learner.average.mixer, learner.dual)


def _save_finished(session: Session, state: RunState) -> None:
    """Write the weights of every slot (all shards hold the same), then drop the checkpoint they replace."""
    weights = jax.tree.map(lambda x: np.asarray(x[0]), weights_of(state.learner))
    for k, (member, seed) in enumerate(session.slots):
        member.directory.save_weights(seed, jax.tree.map(lambda x: x[k], weights))  # noqa: B023 (used at once)
    session.checkpoint_file.unlink(missing_ok=True)
