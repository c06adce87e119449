"""make_train: the whole of training as two compiled programs, for any number of seeds and radii."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from drigm.agents import rollout
from drigm.agents.recurrent import RecurrentAgents
from drigm.algorithms import replay
from drigm.algorithms.learner import Learner, make_learner
from drigm.algorithms.value_bounds import make_robustness
from drigm.algorithms.worst_world import no_returns
from drigm.core.config import TrainConfig
from drigm.core.errors import UserError
from drigm.core.presets import LEAKY_PRESETS
from drigm.core.strengths import parse_strengths
from drigm.core.types import Array, PyTree
from drigm.envs.api import Environment
from drigm.envs.episodes import RolloutState, steps_ahead, stored_step
from drigm.envs.persistent import parse_ranges, persistent
from drigm.envs.perturbations import split, wrap
from drigm.runtime import devices
from drigm.runtime.sharding import Layout, layout_of
from drigm.training.tick import ChunkSums, RunState, advance_all, no_sums


class Train(NamedTuple):
    """The compiled programs of a run; every leaf of a state has leading axes [shards, runs].

    Attributes:
        shapes: ``shapes(seeds, rho)``: the shapes of a state.
        init: ``init(seeds [K] int32, rho [K] float32) -> RunState``.
        chunk: ``chunk(state, tick, ticks) -> (state, ChunkSums)`` advances ``ticks`` ticks from number ``tick``.
            Seeds and radii are the runs axis of this one program; ``ticks`` is traced, so chunks of any
            length share one compilation. The sums are those since the last chunk that began a row of metrics
            (`row_ticks`): equal bit for bit however a row is cut into chunks.
        close: ends what runs beside this process.
        settle: ``settle(state) -> RunState``: what a chunk returned, once everything that it began has finished.
            Of environments in other processes the next chunk may go on while the last one's updates still run.
        place: ``place(state)``: a state where a chunk wants it; more runs than devices can share evenly are filled up.
        layout: where that is; None for environments in other processes.
        notes: what a user should know since it was last called.
    """

    init: Callable[[Array, Array], RunState]
    chunk: Callable[[Any, Array, Array], tuple[Any, ChunkSums]]
    shapes: Callable[[Array, Array], RunState]
    close: Callable[[], None] = lambda: None
    settle: Callable[[Any], RunState] = lambda state: state
    place: Callable[[RunState], Any] = lambda state: state
    layout: Layout | None = None
    notes: Callable[[], Sequence[str]] = tuple


class StoppedError(UserError):
    """Training cannot go on; ``state``, ``tick`` and the ``sums`` of the row of metrics are as far as it came."""

    def __init__(self, why: str, state: RunState, tick: int, sums: ChunkSums) -> None:
        super().__init__(why)
        self.state, self.tick, self.sums = state, tick, sums


def make_train(
    config: TrainConfig,
    env: Environment,
    *,
    runs: int | None = None,
    in_turn: bool | None = None,
) -> Train:
    """Return the compiled training programs of ``config`` in ``env``.

    The parallel environments, the replay and each batch of windows are split into ``config.shards`` shares whose
    gradients are averaged; `drigm.runtime.sharding` says which device does what.

    Args:
        config: the settings that all runs share.
        env: the environment.
        runs: how many; None: the seeds of ``config``.
        in_turn: a device's runs one after the other within a chunk, not as a `vmap`; None: see `devices.runs_in_turn`.
    """
    learner = make_learner(config, env.spec)
    baseline = learner.method.baseline
    envs = config.num_envs // config.shards
    nominal, strengths = split(env, parse_strengths(config.perturb))
    if config.worlds:
        env = persistent(nominal, parse_ranges(config.worlds), config.world_count, strengths)
    else:
        env = wrap(baseline.environment(nominal, envs), strengths)
    init = initial_state(config, env, learner, lambda agents, key: rollout.start(env, agents, key, envs))
    layout = layout_of(config.shards, config.seeds if runs is None else runs)
    in_turn = devices.runs_in_turn() if in_turn is None else in_turn
    advance = functools.partial(advance_all, learner, env, in_turn)
    # The output's sharding is stated because an empty array would lose its own, and the next call compile anew.
    step = jax.jit(
        layout.spread(advance),
        donate_argnums=0,
        out_shardings=layout.sharding,
        compiler_options=devices.compiler_options(),
    )
    start, shapes = compiled_start(init, layout.sharding if layout.full else None)
    if baseline.reward_models is not None:
        fit = functools.partial(baseline.reward_models, nominal, config.preset in LEAKY_PRESETS, config.steps)
        both = functools.partial(_with_models, fit=fit, shards=config.shards)
        # The fit is worth optimising, the rest is not; where nothing is saved by that, they are one program.
        start = both(start) if devices.runs_in_turn() else jax.jit(both(init))
        shapes = functools.partial(jax.eval_shape, both(init))
    return Train(start, step, shapes, settle=layout.strip, place=layout.fill, layout=layout)


def _with_models(
    init: Callable[[Array, Array], RunState], fit: Callable[[Array], PyTree], shards: int
) -> Callable[[Array, Array], RunState]:
    """Return ``init(seeds, rho)`` that also fits what the baseline needs."""

    def start(seeds: Array, rho: Array) -> RunState:
        state, models = init(seeds, rho), fit(seeds)
        models = jax.tree.map(lambda x: jnp.broadcast_to(x, (shards, *x.shape)), models)
        return state._replace(learner=state.learner._replace(reward_models=models))

    return start


def compiled(train: Train, seeds: Array, rho: Array) -> Train:
    """Return ``train`` with its programs compiled for these seeds and radii, or any others as many.

    Args:
        train: as `make_train` returns it.
        seeds: [K] int32.
        rho: [K] float32.
    """
    if train.layout is None:
        raise ValueError("environments in other processes have no single program")
    state, tick = train.layout.shapes(train.shapes(seeds, rho)), jax.ShapeDtypeStruct((), jnp.int32)
    init: Any = train.init
    if hasattr(init, "lower"):  # otherwise it is more than one program
        init = init.lower(seeds, rho).compile()
    chunk: Any = train.chunk
    return train._replace(init=init, chunk=chunk.lower(state, tick, tick).compile())


def initial_state(
    config: TrainConfig, env: Environment, learner: Learner, start: Callable[[RecurrentAgents, Array], RolloutState]
) -> Callable[[Array, Array], RunState]:
    """Return ``init(seeds, rho)``; ``start(agents, key)`` begins the episodes of one shard of one seed."""
    possible = possible_returns(config, env)

    def init_one(seed: Array, rho: Array, shard: Array) -> RunState:
        key = jax.random.key(seed)
        k_learner, k_run = jax.random.split(key)
        k_reset, k_loop = jax.random.split(jax.random.fold_in(k_run, shard))
        state = learner.init(k_learner)
        carry = start(state.params.agents, k_reset)
        row = stored_step(env, carry)
        if config.samples:  # their shapes alone: nothing is drawn
            action = jnp.zeros(row.last_action.shape, jnp.int32)
            ahead = jax.eval_shape(lambda: steps_ahead(env, carry, k_loop, action, config.samples))
            row = row._replace(ahead=ahead)
        if config.stored_state:
            agents = state.params.agents
            row = row._replace(memory=agents.memory_by_agent(agents.initial_memory(row.reward.shape[0])))
        ring = replay.make_replay(row, config.replay_size // config.num_envs)
        robustness = make_robustness(config, env.spec, rho)
        worlds = None if possible is None else no_returns(possible)
        return RunState(state, carry, ring, jax.random.key_data(k_loop), robustness, no_sums(), worlds)

    def init(seeds: Array, rho: Array) -> RunState:
        per_run = jax.vmap(init_one, in_axes=(0, 0, None))
        return jax.vmap(per_run, in_axes=(None, None, 0))(seeds, rho, jnp.arange(config.shards, dtype=jnp.int32))

    return init


def possible_returns(config: TrainConfig, env: Environment) -> Array | None:
    """Return what can be had in each persistent world [K]; None where all worlds count alike, and nobody asks."""
    if env.persistent is None or config.alpha == 1.0:
        return None
    return jax.jit(env.persistent.possible)(env.params)


def compiled_start(
    init: Callable[[Array, Array], RunState], sharding: NamedSharding | None
) -> tuple[Any, Callable[[Array, Array], RunState]]:
    """Return the compiled start of a run, spread as ``sharding`` says, and the shapes it returns."""
    # What runs once need not be optimised: this compiles the start in a third of the time. On CPUs, where it was tried.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    start = jax.jit(init, out_shardings=sharding, compiler_options=options)
    return start, functools.partial(jax.eval_shape, init)
