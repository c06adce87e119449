"""make_train: the whole of training as two compiled programs; seeds and radii are vmap axes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from drigm import replay, rollout
from drigm.config import TrainConfig
from drigm.envs.api import Environment
from drigm.envs.perturbations import parse_grid, perturbed
from drigm.errors import check
from drigm.learner import Learner, LearnerState, Metrics, make_learner, make_robustness
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
    """The two compiled programs of a run; every leaf of a state has leading axes [shards, runs].

    Attributes:
        shapes: ``shapes(seeds, rho)``: the shapes of a state, without what a baseline fits beforehand.
        init: ``init(seeds [K] int32, rho [K] float32) -> RunState``.
        chunk: ``chunk(state, tick, ticks) -> (state, ChunkSums)`` advances ``ticks`` ticks from number ``tick``.
            Seeds and radii are `vmap` axes of this one program; ``ticks`` is traced, so chunks of any
            length share one compilation.
    """

    init: Callable[[Array, Array], RunState]
    chunk: Callable[[RunState, Array, Array], tuple[RunState, ChunkSums]]
    shapes: Callable[[Array, Array], RunState]


def make_train(config: TrainConfig, env: Environment) -> Train:
    """Return the compiled training programs of ``config`` in ``env``.

    The parallel environments, the replay and each batch of windows are split into ``config.shards`` shares whose
    gradients are averaged: on two CPU devices each core works on its own share; on one device the same
    arithmetic runs as a `vmap`.
    """
    learner = make_learner(config, env.spec)
    baseline = learner.method.baseline
    envs = config.num_envs // config.shards
    env = perturbed(env, training_strengths(config.perturb))
    nominal, env = env, baseline.environment(env, envs)

    def init_one(seed: Array, rho: Array, shard: Array) -> RunState:
        key = jax.random.key(seed)
        k_learner, k_run = jax.random.split(key)
        k_reset, k_loop = jax.random.split(jax.random.fold_in(k_run, shard))
        state = learner.init(k_learner)
        carry = rollout.start(env, state.params.agents, k_reset, envs)
        ring = replay.make_replay(rollout.row_of(env, carry), config.replay_size // config.num_envs)
        return RunState(state, carry, ring, jax.random.key_data(k_loop), make_robustness(config, env.spec, rho))

    def init(seeds: Array, rho: Array) -> RunState:
        per_run = jax.vmap(init_one, in_axes=(0, 0, None))
        return jax.vmap(per_run, in_axes=(None, None, 0))(seeds, rho, jnp.arange(config.shards, dtype=jnp.int32))

    def chunk(state: RunState, tick: Array, ticks: Array) -> tuple[RunState, ChunkSums]:
        per_run = jax.vmap(lambda s, t: _tick(learner, env, s, t), in_axes=(0, None))
        shapes = jax.eval_shape(per_run, state, tick)[1]
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        def body(i: Array, carry: tuple[RunState, ChunkSums]) -> tuple[RunState, ChunkSums]:
            state, sums = carry
            state, more = per_run(state, tick + i)
            return state, jax.tree.map(jnp.add, sums, more)

        state, sums = jax.lax.fori_loop(0, ticks, body, (state, zero))
        episodes = jax.tree.map(lambda x: jax.lax.psum(x, SHARD_AXIS), sums.episodes)
        return state, sums._replace(episodes=episodes)

    mesh = shard_mesh(config.shards)
    sharding = None if mesh is None else NamedSharding(mesh, PartitionSpec(SHARD_AXIS))
    # The output's sharding is stated because an empty array would lose its own, and the next call compile anew.
    step = jax.jit(over_shards(chunk, mesh), donate_argnums=0, out_shardings=sharding)
    # What runs once need not be optimised: this compiles the start in a third of the time.
    start = jax.jit(init, out_shardings=sharding, compiler_options={"xla_backend_optimization_level": 0})
    shapes = functools.partial(jax.eval_shape, init)
    if baseline.reward_models is None:
        return Train(start, step, shapes)
    fit = functools.partial(baseline.reward_models, nominal, config.preset in LEAKY_PRESETS)

    def start_with_models(seeds: Array, rho: Array) -> RunState:
        state, models = start(seeds, rho), fit(seeds)
        models = jax.tree.map(lambda x: jnp.broadcast_to(x, (config.shards, *x.shape)), models)
        models = models if sharding is None else jax.device_put(models, sharding)
        return state._replace(learner=state.learner._replace(reward_models=models))

    return Train(start_with_models, step, shapes)


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


def over_shards(chunk, mesh: Mesh | None):
    """Map ``chunk`` over the leading shard axis: over the devices of ``mesh``, or as a `vmap` without one."""
    if mesh is not None:
        split, whole = PartitionSpec(SHARD_AXIS), PartitionSpec()

        def local(state, tick, ticks):
            state, sums = chunk(jax.tree.map(lambda x: x[0], state), tick, ticks)
            return jax.tree.map(lambda x: x[None], (state, sums))

        return jax.shard_map(local, mesh=mesh, in_specs=(split, whole, whole), out_specs=split, check_vma=False)
    return jax.vmap(chunk, in_axes=(0, None, None), axis_name=SHARD_AXIS)


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


def _tick(learner: Learner, env: Environment, state: RunState, tick: Array) -> tuple[RunState, ChunkSums]:
    """Act once in every environment, store it, and learn when it is time."""
    config = learner.method.config
    key, k_explore, k_env, k_sample = jax.random.split(jax.random.wrap_key_data(state.key), 4)
    row = rollout.row_of(env, state.rollout)
    ring = replay.insert(state.ring, row, tick)
    memory, action = rollout.act(state.learner.params.agents, state.rollout.memory, row)
    action = rollout.explore(k_explore, action, row.avail_actions, exploration_at(learner, tick), env.spec.num_actions)
    carry, episodes = rollout.advance(env, state.rollout, k_env, action, memory)
    starts = max(-(-config.learning_starts // config.num_envs), config.window + 1)
    due = (tick + 1 >= starts) & (tick % config.update_every == 0)

    def rest(learner_state: LearnerState) -> tuple[LearnerState, Metrics, Array]:
        nothing = jnp.float32(0.0)
        return learner_state, Metrics(nothing, nothing, nothing, nothing), nothing

    def learn(learner_state: LearnerState) -> tuple[LearnerState, Metrics, Array]:
        learner_state, total, updates = rest(learner_state)
        for k in jax.random.split(k_sample, config.updates):
            window = replay.sample(ring, k, tick + 1, config.batch // config.shards, config.window)
            learner_state, metrics = learner.update(learner_state, window, state.robustness)
            total = jax.tree.map(jnp.add, total, metrics)
        return learner_state, total, updates + config.updates

    learned, metrics, updates = jax.lax.cond(due, learn, rest, state.learner)
    state = RunState(learned, carry, ring, jax.random.key_data(key), state.robustness)
    return state, ChunkSums(episodes, metrics, updates)
