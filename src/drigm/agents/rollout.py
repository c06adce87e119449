"""Acting in parallel environments, and greedy episodes for evaluation."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from drigm.agents.recurrent import AgentInputs, Memory, RecurrentAgents
from drigm.core.types import NO_ACTION, Array, PyTree, StoredStep, TimeStep
from drigm.envs.api import Environment, reset_all, step_or_reset


class RolloutState(NamedTuple):
    """The loop carry of acting; leading axis [B] except for the memory (see `networks`)."""

    env_state: PyTree
    timestep: TimeStep
    last_action: Array  # [B, N]
    first: Array  # [B] bool
    memory: Memory
    episode_return: Array  # [B] undiscounted, so far


class EpisodeStats(NamedTuple):
    """Sums over the episodes that ended."""

    returns: Array  # []
    episodes: Array  # [] how many
    wins: Array  # [] how many of them were won


def start(env: Environment, agents: RecurrentAgents, key: Array, num_envs: int) -> RolloutState:
    """Reset ``num_envs`` environments."""
    return begin(agents, *reset_all(env, key, num_envs))


def begin(agents: RecurrentAgents, env_state: PyTree, timestep: TimeStep) -> RolloutState:
    """Return the carry at the first time-steps [B] of episodes."""
    num_envs, num_agents = timestep.obs.shape[:2]
    return RolloutState(
        env_state=env_state,
        timestep=timestep,
        last_action=jnp.full((num_envs, num_agents), NO_ACTION, jnp.int32),
        first=jnp.ones(num_envs, bool),
        memory=agents.initial_memory(num_envs),
        episode_return=jnp.zeros(num_envs, jnp.float32),
    )


def row_of(env: Environment, carry: RolloutState) -> StoredStep:
    """Return the row that replay stores for the present time-step."""
    step = carry.timestep
    avail = step.avail_actions if env.spec.masks_actions else None
    alive = step.alive if env.spec.agents_die else None
    return StoredStep(
        step.obs, step.state, avail, carry.last_action, step.reward, step.terminated, step.truncated, carry.first, alive
    )


def perceive(agents: RecurrentAgents, memory: Memory, row: StoredStep) -> tuple[Memory, Array, Array]:
    """Advance the agents' memories by one step.

    Returns:
        The memories, the head's features [1, G, rows, F], and the agents' greedy actions [B, N].
    """
    inputs = AgentInputs(row.obs[None], row.last_action[None], row.first[None])
    memory, features = agents.unroll(memory, inputs)
    avail = None if row.avail_actions is None else row.avail_actions[None]
    return memory, features, agents.greedy(features, avail)[0]


def act(agents: RecurrentAgents, memory: Memory, row: StoredStep) -> tuple[Memory, Array]:
    """Advance the agents' memories by one step and return their greedy actions [B, N]."""
    memory, _, action = perceive(agents, memory, row)
    return memory, action


class Exploration(NamedTuple):
    """How to explore: with ``epsilon`` per agent, of which ``local`` * (1 - epsilon) stays near the greedy action.

    ``width`` is the standard deviation of "near" in levels. ``joint``: one coin for the whole team. Early on greedy
    actions are arbitrary, so exploration is uniform.
    """

    epsilon: Array  # []
    local: float = 0.0
    width: float = 0.0
    joint: bool = False


def explore(key: Array, action: Array, avail: Array | None, how: Exploration, num_actions: int) -> Array:
    """Replace each agent's action, with probability epsilon each, by another available one; [B, N].

    Replacements are uniform, or, for the share ``how.local``, normally distributed around the greedy level. With
    200 levels uniform exploration alone almost never shows what lies next to the greedy one.
    """
    key_coin, key_action, key_local, key_noise = jax.random.split(key, 4)
    if avail is None:
        other = jax.random.randint(key_action, action.shape, 0, num_actions, jnp.int32)
    else:
        other = jax.random.categorical(key_action, jnp.where(avail, 0.0, -jnp.inf)).astype(jnp.int32)
    if how.local > 0.0:
        noise = jnp.round(how.width * jax.random.normal(key_noise, action.shape)).astype(jnp.int32)
        near = jnp.clip(action + noise, 0, num_actions - 1)
        other = jnp.where(jax.random.uniform(key_local, action.shape) < how.local * (1.0 - how.epsilon), near, other)
    tosses = (action.shape[0], 1) if how.joint else action.shape
    coin = jnp.broadcast_to(jax.random.uniform(key_coin, tosses), action.shape) < how.epsilon
    return jnp.where(coin, other, action)


def advance(
    env: Environment, carry: RolloutState, key: Array, action: Array, memory: Memory
) -> tuple[RolloutState, EpisodeStats]:
    """Step every environment that is inside an episode and reset every one that has ended.

    A reset takes a tick of its own, so the final observation is stored like any other and the reset
    observation is never mistaken for its successor.
    """
    last = carry.timestep.terminated | carry.timestep.truncated
    env_state, timestep = step_or_reset(env, key, carry.env_state, action, last)
    return arrive(carry, env_state, timestep, action, memory)


def arrive(
    carry: RolloutState, env_state: PyTree, timestep: TimeStep, action: Array, memory: Memory, xp: Any = jnp
) -> tuple[RolloutState, EpisodeStats]:
    """Return the carry at the time-steps [..., B] that ``action`` [..., B, N] led to, resets where an episode was over.

    ``xp`` is the module whose arrays all of these are: ``jax.numpy`` or ``numpy``.
    """
    last = carry.timestep.terminated | carry.timestep.truncated
    ended = timestep.terminated | timestep.truncated
    episode_return = xp.where(last, xp.float32(0.0), carry.episode_return) + timestep.reward
    count, won = xp.sum(ended.astype(xp.float32), axis=-1), timestep.won
    wins = xp.zeros_like(count) if won is None else xp.sum((ended & won).astype(xp.float32), axis=-1)
    stats = EpisodeStats(xp.sum(xp.where(ended, episode_return, xp.float32(0.0)), axis=-1), count, wins)
    last_action = xp.where(last[..., None], xp.int32(NO_ACTION), action)
    return RolloutState(env_state, timestep, last_action, last, memory, episode_return), stats


class Outcome(NamedTuple):
    """How an episode went."""

    episode_return: Array  # [] undiscounted
    won: Array  # [] bool, False where nothing can be won


def greedy_outcome(env: Environment, agents: RecurrentAgents, key: Array, params: PyTree) -> Outcome:
    """Return the outcome of one greedy episode in the world ``params``."""
    shown, _ = greedy_episode(env, agents, key, params)
    won = jnp.bool_(False) if shown.won is None else jnp.any(shown.won)
    return Outcome(jnp.sum(shown.reward), won)


def greedy_episode(env: Environment, agents: RecurrentAgents, key: Array, params: PyTree) -> tuple[TimeStep, Array]:
    """Play one greedy episode; steps after its end have reward 0 and are not won.

    Returns:
        The time-steps [L, ...] that followed each action, L being the episode limit, and the joint actions [L, N].
    """
    world = env._replace(params=params)
    key_reset, key_steps = jax.random.split(key)
    carry = start(world, agents, key_reset, 1)

    def body(
        state: tuple[RolloutState, Array], step_key: Array
    ) -> tuple[tuple[RolloutState, Array], tuple[TimeStep, Array]]:
        carry, alive = state
        memory, action = act(agents, carry.memory, row_of(world, carry))
        carry, _ = advance(world, carry, step_key, action, memory)
        won = None if carry.timestep.won is None else carry.timestep.won & alive
        shown = carry.timestep._replace(reward=jnp.where(alive, carry.timestep.reward, 0.0), won=won)
        alive = alive & ~(carry.timestep.terminated | carry.timestep.truncated)
        return (carry, alive), (shown, action)

    keys = jax.random.split(key_steps, env.spec.episode_limit)
    _, (timesteps, actions) = jax.lax.scan(body, (carry, jnp.ones(1, bool)), keys)
    return jax.tree.map(lambda x: x[:, 0], (timesteps, actions))
