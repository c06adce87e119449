"""One tick of training: act once in every environment, store it, and learn when it is time; then many of them."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from drigm.agents import rollout
from drigm.agents.exploration import exploration_at, explore
from drigm.agents.recurrent import Memory, RecurrentAgents
from drigm.algorithms import replay
from drigm.algorithms.learner import Learner, LearnerState
from drigm.algorithms.value_bounds import Robustness
from drigm.algorithms.worst_world import WorldReturns, with_episodes, worst_weights
from drigm.core.config import TrainConfig
from drigm.core.metrics import Metrics, no_metrics
from drigm.core.types import Array, PyTree, StoredStep
from drigm.envs.api import Environment
from drigm.envs.episodes import EpisodeStats, RolloutState, advance, steps_ahead, stored_step
from drigm.runtime.sharding import SHARD_AXIS

ROWS = 100  # of metrics in a run, about


class ChunkSums(NamedTuple):
    """Sums over a chunk, turned into means on the host."""

    episodes: EpisodeStats
    metrics: Metrics
    updates: Array


class RunState(NamedTuple):
    """One shard of one seed: all that a run carries from tick to tick.

    ``worlds`` are the returns of this shard's episodes in each persistent world. ``sums`` are those since the row of
    metrics began (`row_ticks`): carried, so that they are added in the same order however a row is cut into chunks, and
    whether or not the run was stopped within it.
    """

    learner: LearnerState
    rollout: RolloutState
    ring: StoredStep
    key: Array
    robustness: Robustness
    sums: ChunkSums
    worlds: WorldReturns | None = None  # of persistent worlds, where training is about the worst of them


class Decision(NamedTuple):
    """What the agents do at a tick, one shard of one seed."""

    action: Array  # [B, N]
    memory: Memory
    env_key: Array
    sample_key: Array


def decide(
    learner: Learner, env: Environment, agents: RecurrentAgents, carry: RolloutState, key: Array, tick: Array
) -> tuple[Array, StoredStep, Decision]:
    """Choose what to do at the present time-steps; returns the next key, the row to store and the decision."""
    next_key, k_explore, k_env, k_sample = jax.random.split(jax.random.wrap_key_data(key), 4)
    row = stored_step(env, carry)
    memory, action = rollout.act(agents, carry.memory, row)
    if learner.method.config.stored_state:
        row = row._replace(memory=agents.memory_by_agent(carry.memory))
    how = exploration_at(learner.method.config, env.spec, tick, ordered=learner.method.ordered)
    action = explore(k_explore, action, row.avail_actions, how, env.spec.num_actions)
    if learner.method.config.samples:
        row = row._replace(ahead=steps_ahead(env, carry, k_env, action, learner.method.config.samples))
    return jax.random.key_data(next_key), row, Decision(action, memory, k_env, k_sample)


def row_ticks(config: TrainConfig) -> int:
    """Return how many ticks a row of metrics sums up; a row begins with every tick that is a multiple of it."""
    return max(1, config.ticks // ROWS)


def nothing_learnt() -> tuple[Metrics, Array]:
    """The metrics and number of updates of a tick without one."""
    return no_metrics(), jnp.float32(0.0)


def no_sums(shape: tuple[int, ...] = ()) -> ChunkSums:
    """The sums that a chunk starts from.

    Stated rather than asked of JAX: to find out the shapes, it would trace a tick a second time.
    """
    zero = jnp.zeros(shape, jnp.float32)
    return ChunkSums(EpisodeStats(zero, zero, zero), no_metrics(shape), zero)


def learn(
    learner: Learner,
    learnt: LearnerState,
    ring: StoredStep,
    keys: Array,
    tick: Array,
    robustness: Robustness,
    place: replay.Place | None = None,
) -> tuple[LearnerState, Metrics, Array]:
    """Take the updates of a tick on the windows of all local shards, ``ring`` and ``keys`` [local shards, ...].

    Returns:
        The learner's state, the sums of the updates' metrics, and their number.
    """
    config = learner.method.config
    count = config.batch // config.shards

    def sample(keys: Array) -> StoredStep:
        """Return the windows [T + 1, B] of one update, the local shards' side by side."""
        draw = jax.vmap(lambda rows, key: replay.sample(rows, key, tick + 1, count, config.window, place), out_axes=1)
        return side_by_side(draw(ring, keys))

    def side_by_side(tree: PyTree) -> PyTree:
        """[T, K, B, ...] -> [T, K * B, ...]."""
        return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), tree)

    def update(carry: tuple[LearnerState, Metrics], given: Any) -> tuple[tuple[LearnerState, Metrics], None]:
        (learnt, total), (keys, known) = carry, given
        window, following = (sample(keys), None) if known is None else known
        learnt, metrics = learner.update(learnt, window, robustness, ring.reward.shape[0], following)
        return (learnt, jax.tree.map(jnp.add, total, metrics)), None

    total, updates = nothing_learnt()
    keys = jax.vmap(lambda key: jax.random.split(key, config.updates), out_axes=1)(keys)
    known = None
    if learner.keeps_target:  # then the target network reads all windows in one go
        windows = jax.vmap(sample, out_axes=1)(keys)
        team = learner.following(learnt, side_by_side(windows))
        team = jax.tree.map(lambda x: x.reshape(x.shape[0], config.updates, -1, *x.shape[2:]), team)
        known = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), (windows, team))
    # Written out where there is one, a loop where there are several: compiling takes as long as for one.
    (learnt, total), _ = jax.lax.scan(update, (learnt, total), (keys, known), unroll=config.updates == 1)
    return learnt, total, updates + config.updates


def _tick(
    learner: Learner, env: Environment, state: RunState, tick: Array, place: replay.Place | None
) -> tuple[RunState, ChunkSums]:
    """Act once in every environment, store it, and learn when it is time.

    ``state`` is of one run: its rollout, ring and key [local shards, ...], the rest without a leading axis. So are the
    returned sums: those of episodes [local shards].
    """
    config, agents = learner.method.config, state.learner.params.agents
    decided = jax.vmap(lambda carry, key: decide(learner, env, agents, carry, key, tick))
    key, row, decision = decided(state.rollout, state.key)
    ring = jax.vmap(lambda rows, row: replay.insert(rows, row, tick, place))(state.ring, row)
    step = jax.vmap(lambda carry, d, worlds: _advance_worlds(config, env, carry, d, worlds))
    carry, worlds, episodes = step(state.rollout, decision, state.worlds)

    def update() -> tuple[LearnerState, Metrics, Array]:
        return learn(learner, state.learner, ring, decision.sample_key, tick, state.robustness, place)

    due = (tick + 1 >= config.first_update) & (tick % config.update_every == 0)
    learnt, metrics, updates = jax.lax.cond(due, update, lambda: (state.learner, *nothing_learnt()))
    state = state._replace(learner=learnt, rollout=carry, ring=ring, key=key, worlds=worlds)
    return state, ChunkSums(episodes, metrics, updates)


def _advance_worlds(
    config: TrainConfig, env: Environment, carry: RolloutState, decision: Decision, worlds: WorldReturns | None
) -> tuple[RolloutState, WorldReturns | None, EpisodeStats]:
    """Step the environments of one shard; where there are ``worlds``, resets draw from the team's worst of them."""
    if env.persistent is not None and worlds is not None:
        env = env._replace(params=env.persistent.weigh(env.params, worst_weights(worlds, config.alpha)))
    after, episodes = advance(env, carry, decision.env_key, decision.action, decision.memory)
    if env.persistent is not None and worlds is not None:
        ended = after.timestep.terminated | after.timestep.truncated
        world = jax.vmap(env.persistent.world)(after.env_state)
        worlds = with_episodes(worlds, world, after.episode_return, ended)
    return after, worlds, episodes


def _advance(
    learner: Learner,
    env: Environment,
    state: RunState,
    tick: Array,
    ticks: Array,
    place: replay.Place | None = None,
) -> tuple[RunState, ChunkSums]:
    """Advance one run, leaves [local shards, ...]; the sums have that axis too, all the same on it."""
    shards = state.key.shape[0]
    begins = tick % row_ticks(learner.method.config) == 0

    def every(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (shards, *x.shape)), tree)

    def body(i: Array, carry: tuple[RunState, ChunkSums]) -> tuple[RunState, ChunkSums]:
        going, sums = carry
        going, more = _tick(learner, env, going, tick + i, place)
        return going, jax.tree.map(jnp.add, sums, more)

    learnt, robustness = jax.tree.map(lambda x: x[0], (state.learner, state.robustness))
    sums = jax.tree.map(lambda x: jnp.where(begins, jnp.zeros_like(x), x), state.sums)
    sums = sums._replace(metrics=jax.tree.map(lambda x: x[0], sums.metrics), updates=sums.updates[0])
    going = state._replace(learner=learnt, robustness=robustness, sums=None)  # pyright: ignore[reportArgumentType]
    going, sums = jax.lax.fori_loop(0, ticks, body, (going, sums))
    carried = sums._replace(metrics=every(sums.metrics), updates=every(sums.updates))
    total = jax.tree.map(lambda x: jax.lax.psum(jnp.sum(x, axis=0), SHARD_AXIS), sums.episodes)
    going = going._replace(learner=every(going.learner), robustness=state.robustness, sums=carried)
    return going, every(sums._replace(episodes=total))


def advance_all(
    learner: Learner,
    env: Environment,
    in_turn: bool,
    state: RunState,
    tick: Array,
    ticks: Array,
    runs: Array | int,
) -> tuple[RunState, ChunkSums]:
    """Advance the first ``runs`` of a device's runs, leaves [local shards, local runs, ...].

    In turn, the runs' rings lie one after the other in one: they are too large to be cut out and put back.
    """
    shards, places = state.key.shape[:2]
    if places == 1:
        found = _advance(learner, env, jax.tree.map(lambda x: x[:, 0], state), tick, ticks)
        return jax.tree.map(lambda x: x[:, None], found)
    if not in_turn:
        one = functools.partial(_advance, learner, env)
        return jax.vmap(lambda mine: one(mine, tick, ticks), in_axes=1, out_axes=1)(state)
    capacity = state.ring.reward.shape[2]
    rings = jax.tree.map(lambda x: x.reshape(shards, places * capacity, *x.shape[3:]), state.ring)

    def body(k: Array, carry: tuple[RunState, ChunkSums, StoredStep]) -> tuple[RunState, ChunkSums, StoredStep]:
        state, sums, rings = carry
        mine = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, k, 1, keepdims=False), state)
        place = replay.Place(k * capacity, capacity)
        mine, more = _advance(learner, env, mine._replace(ring=rings), tick, ticks, place)
        put = functools.partial(jax.lax.dynamic_update_index_in_dim, index=k, axis=1)
        state, sums = jax.tree.map(put, (state, sums), (mine._replace(ring=nothing), more))
        return state, sums, mine.ring

    nothing: Any = None
    carry = (state._replace(ring=nothing), no_sums((shards, places)), rings)
    state, sums, rings = jax.lax.fori_loop(0, runs, body, carry)
    ring = jax.tree.map(lambda x: x.reshape(shards, places, capacity, *x.shape[2:]), rings)
    return state._replace(ring=ring), sums
