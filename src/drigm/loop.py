"""make_train: the whole of training as two compiled programs; seeds and radii are vmap axes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from drigm import replay, rollout
from drigm.config import TrainConfig
from drigm.envs.api import Environment
from drigm.envs.perturbations import parse_grid, split, wrap
from drigm.errors import UserError, check
from drigm.learner import Learner, LearnerState, Metrics, make_learner, make_robustness
from drigm.networks import Memory, RecurrentAgents
from drigm.presets import LEAKY_PRESETS
from drigm.replay import Row
from drigm.robust_targets import SHARD_AXIS, Robustness
from drigm.rollout import EpisodeStats, Exploration, RolloutState
from drigm.types import Array


class RunState(NamedTuple):
    """One shard of one seed: all that a run carries from tick to tick."""

    learner: LearnerState
    rollout: RolloutState
    ring: Row
    key: Array
    robustness: Robustness


class ChunkSums(NamedTuple):
    """Sums over a chunk, turned into means on the host."""

    episodes: EpisodeStats
    metrics: Metrics
    updates: Array


class Train(NamedTuple):
    """The compiled programs of a run; every leaf of a state has leading axes [shards, runs].

    Attributes:
        shapes: ``shapes(seeds, rho)``: the shapes of a state, without what a baseline fits beforehand.
        init: ``init(seeds [K] int32, rho [K] float32) -> RunState``.
        chunk: ``chunk(state, tick, ticks) -> (state, ChunkSums)`` advances ``ticks`` ticks from number ``tick``.
            Seeds and radii are `vmap` axes of this one program; ``ticks`` is traced, so chunks of any
            length share one compilation.
        close: ends what runs beside this process.
        settle: ``settle(state) -> RunState``: what a chunk returned, once everything that it began has finished.
            Of environments in other processes the next chunk may go on while the last one's updates still run.
    """

    init: Callable[[Array, Array], RunState]
    chunk: Callable[[Any, Array, Array], tuple[Any, ChunkSums]]
    shapes: Callable[[Array, Array], RunState]
    close: Callable[[], None] = lambda: None
    settle: Callable[[Any], RunState] = lambda state: state


class StoppedError(UserError):
    """Training cannot go on; ``state`` and ``tick`` are as far as it came."""

    def __init__(self, why: str, state: RunState, tick: int) -> None:
        super().__init__(why)
        self.state, self.tick = state, tick


def make_train(config: TrainConfig, env: Environment) -> Train:
    """Return the compiled training programs of ``config`` in ``env``.

    The parallel environments, the replay and each batch of windows are split into ``config.shards`` shares whose
    gradients are averaged: on two CPU devices each core works on its own share; on one device the same
    arithmetic runs as a `vmap`.
    """
    learner = make_learner(config, env.spec)
    baseline = learner.method.baseline
    envs = config.num_envs // config.shards
    nominal, lies = split(env, training_strengths(config.perturb))
    env = wrap(baseline.environment(nominal, envs), lies)
    init = initial_state(config, env, learner, lambda agents, key: rollout.start(env, agents, key, envs))

    def chunk(state: RunState, tick: Array, ticks: Array) -> tuple[RunState, ChunkSums]:
        # Stated rather than asked of JAX: to find out the shapes, it would trace a tick a second time.
        zero = jnp.zeros(state.robustness.rho.shape, jnp.float32)
        zeros = ChunkSums(EpisodeStats(zero, zero, zero), Metrics(zero, zero, zero, zero), zero)

        def body(i: Array, carry: tuple[RunState, ChunkSums]) -> tuple[RunState, ChunkSums]:
            state, sums = carry
            state, more = _tick(learner, env, state, tick + i)
            return state, jax.tree.map(jnp.add, sums, more)

        state, sums = jax.lax.fori_loop(0, ticks, body, (state, zeros))
        episodes = jax.tree.map(lambda x: jax.lax.psum(x, SHARD_AXIS), sums.episodes)
        return state, sums._replace(episodes=episodes)

    mesh = shard_mesh(config.shards)
    sharding = sharding_of(mesh)
    # The output's sharding is stated because an empty array would lose its own, and the next call compile anew.
    step = jax.jit(over_shards(chunk, mesh, (True, False, False)), donate_argnums=0, out_shardings=sharding)
    start, shapes = compiled_start(init, mesh)
    if baseline.reward_models is None:
        return Train(start, step, shapes)
    fit = functools.partial(baseline.reward_models, nominal, config.preset in LEAKY_PRESETS, config.steps)

    def start_with_models(seeds: Array, rho: Array) -> RunState:
        state, models = start(seeds, rho), fit(seeds)
        models = jax.tree.map(lambda x: jnp.broadcast_to(x, (config.shards, *x.shape)), models)
        models = models if sharding is None else jax.device_put(models, sharding)
        return state._replace(learner=state.learner._replace(reward_models=models))

    return Train(start_with_models, step, shapes)


def initial_state(
    config: TrainConfig, env: Environment, learner: Learner, start: Callable[[RecurrentAgents, Array], RolloutState]
) -> Callable[[Array, Array], RunState]:
    """Return ``init(seeds, rho)``; ``start(agents, key)`` begins the episodes of one shard of one seed."""

    def init_one(seed: Array, rho: Array, shard: Array) -> RunState:
        key = jax.random.key(seed)
        k_learner, k_run = jax.random.split(key)
        k_reset, k_loop = jax.random.split(jax.random.fold_in(k_run, shard))
        state = learner.init(k_learner)
        carry = start(state.params.agents, k_reset)
        ring = replay.make_replay(rollout.row_of(env, carry), config.replay_size // config.num_envs)
        return RunState(state, carry, ring, jax.random.key_data(k_loop), make_robustness(config, env.spec, rho))

    def init(seeds: Array, rho: Array) -> RunState:
        per_run = jax.vmap(init_one, in_axes=(0, 0, None))
        return jax.vmap(per_run, in_axes=(None, None, 0))(seeds, rho, jnp.arange(config.shards, dtype=jnp.int32))

    return init


def compiled_start(init: Callable[[Array, Array], RunState], mesh: Mesh | None):
    """Return the compiled start of a run, and the shapes it returns."""
    # What runs once need not be optimised: this compiles the start in a third of the time. On CPUs, where it was tried.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    start = jax.jit(init, out_shardings=sharding_of(mesh), compiler_options=options)
    return start, functools.partial(jax.eval_shape, init)


def sharding_of(mesh: Mesh | None) -> NamedSharding | None:
    """Return how a state's leading axis is spread over ``mesh``."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec(SHARD_AXIS))


def training_strengths(text: str) -> dict[str, float]:
    """Return the strengths of the setting ``perturb``; `UserError` where a name has more than one."""
    grid = parse_grid(text)
    for name, strengths in grid.items():
        check(len(strengths) == 1, f"perturb {name}", strengths, "training takes one strength of each")
    return {name: strengths[0] for name, strengths in grid.items()}


def shard_mesh(shards: int) -> Mesh | None:
    """Return a mesh with one device per shard, or None where there are too few devices."""
    if shards > jax.local_device_count():
        return None
    return Mesh(np.array(jax.local_devices()[:shards]), (SHARD_AXIS,))


def over_shards(function, mesh: Mesh | None, split: tuple[bool, ...]):
    """Map ``function`` over the leading shard axis of the arguments that are ``split``; every result has that axis.

    Over the devices of ``mesh``, or as a `vmap` without one.
    """
    if mesh is None:
        return jax.vmap(function, in_axes=tuple(0 if s else None for s in split), axis_name=SHARD_AXIS)

    def local(*arguments):
        mine = [jax.tree.map(lambda x: x[0], a) if s else a for a, s in zip(arguments, split, strict=True)]
        return jax.tree.map(lambda x: x[None], function(*mine))

    shares = tuple(PartitionSpec(SHARD_AXIS) if s else PartitionSpec() for s in split)
    return jax.shard_map(local, mesh=mesh, in_specs=shares, out_specs=PartitionSpec(SHARD_AXIS), check_vma=False)


def epsilon_at(config: TrainConfig, tick: Array) -> Array:
    """Return exploration's epsilon: linear from start to end over the first ``epsilon_fraction`` of the run."""
    span = max(1.0, config.epsilon_fraction * config.ticks)
    share = jnp.minimum(jnp.float32(tick) / span, 1.0)
    return config.epsilon_start + share * (config.epsilon_end - config.epsilon_start)


def exploration_at(learner: Learner, tick: Array) -> Exploration:
    """Return how to explore at ``tick``; only ordered, unmasked actions have neighbours to explore."""
    config, spec, ordered = learner.method.config, learner.method.spec, learner.method.ordered
    local = config.local_exploration if ordered and not spec.masks_actions else 0.0
    width = config.local_width * (spec.num_actions - 1) / 2.0
    return Exploration(epsilon_at(config, tick), local, width, config.joint_exploration)


class Decision(NamedTuple):
    """What the agents do at a tick, one shard of one seed."""

    action: Array  # [B, N]
    memory: Memory
    env_key: Array
    sample_key: Array


def decide(
    learner: Learner, env: Environment, agents: RecurrentAgents, carry: RolloutState, key: Array, tick: Array
) -> tuple[Array, Row, Decision]:
    """Choose what to do at the present time-steps; returns the next key, the row to store and the decision."""
    next_key, k_explore, k_env, k_sample = jax.random.split(jax.random.wrap_key_data(key), 4)
    row = rollout.row_of(env, carry)
    memory, action = rollout.act(agents, carry.memory, row)
    action = rollout.explore(k_explore, action, row.avail_actions, exploration_at(learner, tick), env.spec.num_actions)
    return jax.random.key_data(next_key), row, Decision(action, memory, k_env, k_sample)


def first_update(config: TrainConfig) -> int:
    """The number of rows after which learning starts."""
    return max(-(-config.learning_starts // config.num_envs), config.window + 1)


def nothing_learnt() -> tuple[Metrics, Array]:
    """The metrics and number of updates of a tick without one."""
    nothing = jnp.float32(0.0)
    return Metrics(nothing, nothing, nothing, nothing), nothing


def learn(learner: Learner, state: RunState, key: Array, tick: Array) -> tuple[LearnerState, Metrics, Array]:
    """Take the updates of a tick; returns the sums of their metrics and their number."""
    config = learner.method.config

    def update(carry: tuple[LearnerState, Metrics], k: Array) -> tuple[tuple[LearnerState, Metrics], None]:
        learnt, total = carry
        window = replay.sample(state.ring, k, tick + 1, config.batch // config.shards, config.window)
        learnt, metrics = learner.update(learnt, window, state.robustness)
        return (learnt, jax.tree.map(jnp.add, total, metrics)), None

    total, updates = nothing_learnt()
    # Written out where there is one, a loop where there are several: compiling takes as long as for one.
    (learnt, total), _ = jax.lax.scan(
        update, (state.learner, total), jax.random.split(key, config.updates), unroll=config.updates == 1
    )
    return learnt, total, updates + config.updates


def _tick(learner: Learner, env: Environment, state: RunState, tick: Array) -> tuple[RunState, ChunkSums]:
    """Act once in every environment, store it, and learn when it is time; all runs of one shard.

    The runs are mapped within the condition, not around it: its branches would be traced once to see what is in them
    and once more to map that.
    """
    config = learner.method.config
    decided = jax.vmap(lambda s: decide(learner, env, s.learner.params.agents, s.rollout, s.key, tick))
    key, row, decision = decided(state)
    ring = jax.vmap(replay.insert, in_axes=(0, 0, None))(state.ring, row, tick)
    state = state._replace(ring=ring, key=key)
    step = jax.vmap(lambda s, d: rollout.advance(env, s.rollout, d.env_key, d.action, d.memory))
    carry, episodes = step(state, decision)

    def update() -> tuple[LearnerState, Metrics, Array]:
        return jax.vmap(lambda s, key: learn(learner, s, key, tick))(state, decision.sample_key)

    def skip() -> tuple[LearnerState, Metrics, Array]:
        nothing = jax.tree.map(lambda x: jnp.broadcast_to(x, state.robustness.rho.shape), nothing_learnt())
        return state.learner, *nothing

    due = (tick + 1 >= first_update(config)) & (tick % config.update_every == 0)
    learnt, metrics, updates = jax.lax.cond(due, update, skip)
    return state._replace(learner=learnt, rollout=carry), ChunkSums(episodes, metrics, updates)
