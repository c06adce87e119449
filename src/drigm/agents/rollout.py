"""Agents in parallel environments: one step of them, and greedy episodes."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from drigm.agents.policies import Policy
from drigm.agents.recurrent import AgentInputs, Memory, RecurrentAgents
from drigm.core.types import Array, PyTree, StoredStep, TimeStep
from drigm.envs.api import Environment, reset_all
from drigm.envs.episodes import Act, Played, RolloutState, begin, play, stored_step


def start(env: Environment, agents: RecurrentAgents, key: Array, num_envs: int) -> RolloutState:
    """Reset ``num_envs`` environments."""
    return begin(agents.initial_memory(num_envs), *reset_all(env, key, num_envs))


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


class Greedy(NamedTuple):
    """Agents as a policy: each takes its own greedy action."""

    agents: RecurrentAgents

    def initial_memory(self, batch: int) -> Memory:
        """Return cleared memories for ``batch`` parallel joint histories."""
        return self.agents.initial_memory(batch)

    def act(self, memory: Memory, row: StoredStep) -> tuple[Memory, Array]:
        """Return `act` of the agents."""
        return act(self.agents, memory, row)


class Outcome(NamedTuple):
    """How an episode went."""

    episode_return: Array  # [] undiscounted
    won: Array  # [] bool, False where nothing can be won


def outcome(env: Environment, policy: Policy, key: Array, params: PyTree) -> Outcome:
    """Return the outcome of one episode of ``policy`` in the world ``params``."""
    shown, _ = episode(env, policy, key, params)
    won = jnp.bool_(False) if shown.won is None else jnp.any(shown.won)
    return Outcome(jnp.sum(shown.reward), won)


def greedy_episode(env: Environment, agents: RecurrentAgents, key: Array, params: PyTree) -> tuple[TimeStep, Array]:
    """Play one greedy episode; see `episode`."""
    return episode(env, Greedy(agents), key, params)


def episode(env: Environment, policy: Policy, key: Array, params: PyTree) -> tuple[TimeStep, Array]:
    """Play one episode of ``policy``; steps after its end have reward 0 and are not won.

    Returns:
        The time-steps [L, ...] that followed each action, L being the episode limit, and the joint actions [L, N].
    """
    played = played_episode(env, policy.initial_memory(1), acting(env, policy), key, params)
    shown, inside = played.after, played.inside
    won = None if shown.won is None else shown.won & inside
    return shown._replace(reward=jnp.where(inside, shown.reward, 0.0), won=won), played.action


def played_episode(env: Environment, memory: PyTree, act: Act, key: Array, params: PyTree) -> Played:
    """Play one episode from ``memory`` in the world ``params``; returns the steps [L, ...] with what ``act`` notes."""
    key_reset, key_steps = jax.random.split(key)
    world = env._replace(params=params)
    carry = begin(memory, *reset_all(world, key_reset, 1))
    _, played = play(world, act, carry, jax.random.split(key_steps, env.spec.episode_limit))
    return jax.tree.map(lambda x: x[:, 0], played)


def acting(env: Environment, policy: Policy) -> Act:
    """Return what `play` takes for a policy that does not draw."""

    def act(carry: RolloutState, key: Array) -> tuple[PyTree, Array, None]:
        del key
        memory, action = policy.act(carry.memory, stored_step(env, carry))
        return memory, action, None

    return act


def greedy(env: Environment, agents: RecurrentAgents) -> Act:
    """Return what `play` takes for the agents' own greedy actions; it notes the head's features [G, rows, F]."""

    def act_greedily(carry: RolloutState, key: Array) -> tuple[Memory, Array, Array]:
        del key
        memory, features, action = perceive(agents, carry.memory, stored_step(env, carry))
        return memory, action, features[0]

    return act_greedily
