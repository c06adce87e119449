"""The team's worst persistent worlds: which of a finite set training is about.

Nature keeps one world for a whole episode, of the share alpha of the worlds in which the team does worst::

    max over teams of  min over q in Q_alpha of  sum_k q_k (J_k - J*_k),   Q_alpha = {q : 0 <= q_k <= 1 / (alpha K)}

the conditional value at risk (Rockafellar and Uryasev 2000) of the regret J*_k - J_k: what is possible in world k,
less what the team gets there. The raw return would dwell on worlds that nobody can do well in. With alpha = 1 all
worlds have the same weight, which is domain randomization. Nature's q follows the team: a world is drawn at a reset
with chance q_k.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from drigm.core.types import Array

FOLLOWS = 0.3  # how much of a world's mean return each new episode in it is


class WorldReturns(NamedTuple):
    """What the team gets in each of K worlds."""

    mean: Float[Array, " K"]  # undiscounted return of an episode, an exponential mean
    episodes: Float[Array, " K"]
    possible: Float[Array, " K"]  # J*_k


def no_returns(possible: Float[Array, " K"]) -> WorldReturns:
    """Return the record before the first episode."""
    return WorldReturns(jnp.zeros_like(possible), jnp.zeros_like(possible), possible)


def with_episodes(
    returns: WorldReturns, world: Int[Array, " B"], episode_return: Float[Array, " B"], ended: Bool[Array, " B"]
) -> WorldReturns:
    """Return the record with the episodes that have ``ended``."""
    zeros = jnp.zeros_like(returns.mean)
    count = zeros.at[world].add(ended.astype(jnp.float32))
    now = zeros.at[world].add(jnp.where(ended, episode_return, 0.0)) / jnp.maximum(count, 1.0)
    share = jnp.where(returns.episodes == 0.0, 1.0, 1.0 - (1.0 - FOLLOWS) ** count)
    mean = jnp.where(count > 0.0, returns.mean + share * (now - returns.mean), returns.mean)
    return returns._replace(mean=mean, episodes=returns.episodes + count)


def worst_weights(returns: WorldReturns, alpha: float | Float[Array, ""]) -> Float[Array, " K"]:
    """Return nature's q [K]: equal chances of the share ``alpha`` of the worlds with the largest regret.

    A world in which no episode has ended counts as the worst of all: nothing is known against it.
    """
    regret = jnp.where(returns.episodes > 0.0, returns.possible - returns.mean, jnp.inf)
    rank = jnp.argsort(jnp.argsort(-regret))  # 0: the worst
    most = alpha * regret.shape[0]  # worlds that nature may choose; the last of them in part
    return jnp.clip(most - rank.astype(jnp.float32), 0.0, 1.0) / most
