"""Episodes in parallel environments, whoever acts: the carry of acting, one step of it, and `play`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from drigm.core.types import NO_ACTION, Array, NextSteps, PyTree, StoredStep, TimeStep, map_tree
from drigm.envs.api import Environment, step_or_reset

AHEAD = 7  # folded into the key of a step, for the next steps that are only drawn: those that happen keep theirs


class RolloutState(NamedTuple):
    """What acting carries from step to step; leading axis [B] except for the memory, which is the policy's."""

    env_state: PyTree
    timestep: TimeStep
    last_action: Array  # [B, N]
    first: Array  # [B] bool
    memory: PyTree
    episode_return: Array  # [B] undiscounted, so far


class EpisodeStats(NamedTuple):
    """Sums over the episodes that ended."""

    returns: Array  # []
    episodes: Array  # [] how many
    wins: Array  # [] how many of them were won


def begin(memory: PyTree, env_state: PyTree, timestep: TimeStep) -> RolloutState:
    """Return the carry at the first time-steps [B] of episodes, with the policy's ``memory``."""
    num_envs, num_agents = timestep.obs.shape[:2]
    return RolloutState(
        env_state=env_state,
        timestep=timestep,
        last_action=jnp.full((num_envs, num_agents), NO_ACTION, jnp.int32),
        first=jnp.ones(num_envs, bool),
        memory=memory,
        episode_return=jnp.zeros(num_envs, jnp.float32),
    )


def stored_step(env: Environment, carry: RolloutState) -> StoredStep:
    """Return what replay stores of the present time-step."""
    step = carry.timestep
    avail = step.avail_actions if env.spec.masks_actions else None
    alive = step.alive if env.spec.agents_die else None
    return StoredStep(
        step.obs, step.state, avail, carry.last_action, step.reward, step.terminated, step.truncated, carry.first, alive
    )


def steps_ahead(env: Environment, carry: RolloutState, key: Array, action: Array, count: int) -> NextSteps:
    """Return ``count`` next steps of every parallel environment, drawn from its state and its joint action.

    Hidden parts of the state, such as the world of an episode, are those of the state. After an episode's last step
    there are none: all is 0.

    Args:
        env: in JAX.
        carry: where the environments are.
        key: of the step that really happens; what is drawn here is independent of it.
        action: [B, N] the joint actions.
        count: K.
    """
    last = carry.timestep.terminated | carry.timestep.truncated
    keys = jax.random.split(jax.random.fold_in(key, AHEAD), (last.shape[0], count))
    again = jax.vmap(env.step, in_axes=(0, None, None, None))
    worlds = 0 if env.world_per_env else None
    _, step = jax.vmap(again, in_axes=(0, 0, 0, worlds))(keys, carry.env_state, action, env.params)
    avail = step.avail_actions if env.spec.masks_actions else None
    alive = step.alive if env.spec.agents_die else None
    drawn = NextSteps(step.obs, step.state, avail, step.reward, step.terminated, alive)
    return map_tree(lambda x: jnp.where(last.reshape(-1, *(1,) * (x.ndim - 1)), jnp.zeros_like(x), x), drawn)


def advance(
    env: Environment, carry: RolloutState, key: Array, action: Array, memory: PyTree
) -> tuple[RolloutState, EpisodeStats]:
    """Step every environment that is inside an episode and reset every one that has ended.

    A reset takes a tick of its own, so the final observation is stored like any other and the reset
    observation is never mistaken for its successor.
    """
    last = carry.timestep.terminated | carry.timestep.truncated
    env_state, timestep = step_or_reset(env, key, carry.env_state, action, last)
    return arrive(carry, env_state, timestep, action, memory)


def arrive(
    carry: RolloutState, env_state: PyTree, timestep: TimeStep, action: Array, memory: PyTree, xp: Any = jnp
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


Act = Callable[[RolloutState, Array], tuple[PyTree, Array, PyTree]]
"""``act(carry, key) -> (memory, joint actions [B, N], whatever is to be noted of the step)``."""


class Played(NamedTuple):
    """Steps of `play`, leading axes [L, B]."""

    before: TimeStep
    action: Array  # [L, B, N]
    after: TimeStep
    env_state: PyTree  # after
    inside: Array  # [L, B] bool, the first episode was not over before the step
    noted: PyTree


def key_pairs(key: Array, steps: int) -> Array:
    """Return two keys for each of ``steps`` steps, [2, steps]: of a policy that draws, and of its environments."""
    return jnp.moveaxis(jax.vmap(jax.random.split)(jax.random.split(key, steps)), 1, 0)


def play(
    env: Environment, act: Act, carry: RolloutState, keys: Array, act_keys: Array | None = None
) -> tuple[RolloutState, Played]:
    """Advance B environments by a step for each of ``keys`` [L]; an episode that is over begins anew.

    Args:
        env: the environment, in the world of its ``params``.
        act: chooses the joint actions.
        carry: where to start from.
        keys: what the environments draw with.
        act_keys: what the policy draws with; None: the same keys, of which a policy that does not draw makes no use.

    Returns:
        The carry after the last step, and all steps.
    """

    def body(state: tuple[RolloutState, Array], key: tuple[Array, Array]) -> tuple[tuple[RolloutState, Array], Played]:
        (carry, inside), (k_env, k_act) = state, key
        memory, action, noted = act(carry, k_act)
        after, _ = advance(env, carry, k_env, action, memory)
        step = Played(carry.timestep, action, after.timestep, after.env_state, inside, noted)
        return (after, inside & ~(after.timestep.terminated | after.timestep.truncated)), step

    start = (carry, ~(carry.timestep.terminated | carry.timestep.truncated))
    (carry, _), steps = jax.lax.scan(body, start, (keys, keys if act_keys is None else act_keys))
    return carry, steps
