"""How agents explore: epsilon-greedy, near the greedy level where actions are levels of one quantity."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.config import TrainConfig
from drigm.core.types import Array, EnvSpec


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


def explore_in_numpy(
    draws: np.ndarray,
    action: np.ndarray,
    avail: np.ndarray | None,
    epsilon: float,
    num_actions: int,
    *,
    joint: bool = False,
) -> np.ndarray:
    """Replace each action [K, E, N], with probability ``epsilon`` each, by an available one drawn uniformly.

    The law is that of `explore` for actions without an order; ``draws`` [2, K, E, N] are uniform
    in [0, 1).
    """
    tosses = draws[0, ..., :1] if joint else draws[0]
    if avail is None:
        other = (draws[1] * num_actions).astype(np.int32)
    else:
        rank = np.cumsum(avail, axis=-1)  # of each available action among them, from 1
        other = np.argmax(rank > (draws[1] * rank[..., -1])[..., None], axis=-1).astype(np.int32)
    return np.where(tosses < epsilon, other, action)


def epsilon_at(config: TrainConfig, tick: Any, xp: Any = jnp) -> Any:
    """Return exploration's epsilon: linear from start to end over the first ``epsilon_fraction`` of the run.

    ``xp``: ``jax.numpy``, or ``numpy`` where the tick is known.
    """
    span = max(1.0, config.epsilon_fraction * config.ticks)
    share = xp.minimum(xp.float32(tick) / span, 1.0)
    return config.epsilon_start + share * (config.epsilon_end - config.epsilon_start)


def exploration_at(config: TrainConfig, spec: EnvSpec, tick: Array, *, ordered: bool) -> Exploration:
    """Return how to explore at ``tick``; only ordered, unmasked actions have neighbours to explore."""
    local = config.local_exploration if ordered and not spec.masks_actions else 0.0
    width = config.local_width * (spec.num_actions - 1) / 2.0
    return Exploration(epsilon_at(config, tick), local, width, config.joint_exploration)
