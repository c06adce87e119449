"""What a checkpoint holds of acting where environments live in other processes.

The environments themselves cannot be saved. They are made again: the slot's seed and the number of its episode give the
episode's seed, and the orders taken since its reset lead to where it was. A checksum of the last time-step tells
whether they did.

While acting, leading axes are [K, E]: runs, and the environments of each. In a `RunState` they are [shards, K, B].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents.recurrent import RecurrentAgents
from drigm.agents.subprocess_acting import Strengths, before_reset
from drigm.core.types import Array, EnvSpec, PyTree
from drigm.envs.episodes import RolloutState
from drigm.envs.subprocess.vector import SubprocessSteps, SubprocessVector
from drigm.envs.subprocess.worker.steps import checksums

LONGEST = 10_000  # steps of an episode that are kept at most
ALLOWANCE = 2  # times the limit that an environment declares, which is often wrong by one, are kept


class Past(NamedTuple):
    """What leads each environment to where it is."""

    episodes: Array  # [..., B] how many it has begun, the one that the next time-step begins included
    steps: Array  # [..., B] how many orders were given in this one, 0 if the next time-step begins it
    orders: Array  # [..., B, L, N] the first L of them
    checksum: Array  # [..., B] of the last time-step, as the environment sent it


class Acting(NamedTuple):
    """Stands where a `RolloutState` has the environments' state."""

    perturbed: PyTree
    agents: RecurrentAgents  # those that act, a round of updates older than those that learn
    past: Past


def begin(spec: EnvSpec, strengths: Strengths, agents: RecurrentAgents, envs: int) -> RolloutState:
    """Return what one shard of one run carries before its first tick."""
    carry = before_reset(spec, strengths, agents.initial_memory(envs), (envs,))
    length, kind = min(ALLOWANCE * spec.episode_limit, LONGEST), np.min_scalar_type(spec.num_actions - 1)
    past = Past(
        episodes=jnp.ones(envs, jnp.int32),
        steps=jnp.zeros(envs, jnp.int32),
        orders=jnp.zeros((envs, length, spec.num_agents), kind),
        checksum=jnp.zeros(envs, jnp.uint32),
    )
    return carry._replace(env_state=Acting(carry.env_state, agents, past))


def unpack(stored: RolloutState) -> tuple[RolloutState, Acting]:
    """Return the carry [K, E] and the rest of what a `RunState` holds of acting, as arrays of their own."""

    def envs(x: Any) -> np.ndarray:
        x = np.swapaxes(np.asarray(x), 0, 1)
        return x.reshape(x.shape[0], -1, *x.shape[3:]).copy()

    def rows(x: Any) -> Any:
        x = np.moveaxis(np.asarray(x), 0, 2)
        return x.reshape(*x.shape[:2], -1, x.shape[-1]).copy()

    acting: Acting = stored.env_state
    agents = jax.tree.map(lambda x: np.asarray(x)[0].copy(), acting.agents)
    rest = stored._replace(env_state=acting.perturbed, memory=())
    carry = jax.tree.map(envs, rest)._replace(memory=jax.tree.map(rows, stored.memory))
    return carry, Acting((), agents, jax.tree.map(envs, acting.past))


def pack(carry: RolloutState, acting: Acting, shards: int) -> RolloutState:
    """Return what a `RunState` holds of acting: copies, which are not touched when acting goes on."""

    def envs(x: Array) -> np.ndarray:
        runs, count, *rest = x.shape
        return np.swapaxes(np.asarray(x).reshape(runs, shards, count // shards, *rest), 0, 1).copy()

    def rows(x: Array) -> Any:
        runs, groups, count, width = x.shape
        return np.moveaxis(np.asarray(x).reshape(runs, groups, shards, count // shards, width), 2, 0).copy()

    rest = carry._replace(memory=())
    agents = jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], shards, axis=0), acting.agents)
    held = Acting(jax.tree.map(envs, carry.env_state), agents, jax.tree.map(envs, acting.past))
    return jax.tree.map(envs, rest)._replace(env_state=held, memory=jax.tree.map(rows, carry.memory))


def record(past: Any, over: np.ndarray, orders: np.ndarray) -> None:
    """Note in ``past`` the ``orders`` [K, E, N] that are given now, which begin an episode where one is ``over``."""
    k, e = np.nonzero(~over & (past.steps < past.orders.shape[2]))
    past.orders[k, e, past.steps[k, e]] = orders[k, e]
    past.steps[:] += 1
    _begin_another(past, over)


def _begin_another(past: Any, where: np.ndarray) -> None:
    past.steps[where] = 0
    past.episodes[where] += 1


def last_orders(past: Past) -> np.ndarray:
    """Return the orders [K, E, N] that were given last; any where an episode begins."""
    at = np.maximum(np.asarray(past.steps) - 1, 0)[..., None, None]
    return np.take_along_axis(np.asarray(past.orders), at, axis=2)[:, :, 0].astype(np.int32)


def checksums_of(steps: SubprocessSteps, axes: tuple[int, ...]) -> np.ndarray:
    """Return the checksums of time-steps, in the shape ``axes``."""
    return np.array(checksums(steps), np.uint32).reshape(axes)


def remake(past: Any, vector: SubprocessVector) -> np.ndarray:
    """Lead the new environments of ``vector`` to where ``past`` says, except for the orders that were given last.

    Returns:
        Where that failed [K, E]: another episode begins there, which ``past`` notes.
    """
    axes, length = past.steps.shape, past.orders.shape[2]
    lost = (past.steps > (length if vector.source.seeded else 0)).copy()
    _begin_another(past, lost)
    orders = past.orders.reshape(-1, *past.orders.shape[2:])
    differ = vector.replay(past.episodes.ravel(), past.steps.ravel(), orders, past.checksum.ravel()).reshape(axes)
    _begin_another(past, differ)
    return lost | differ
