"""The best base-stock levels of a world, by search on common luck: what is possible in it for whoever knows it.

In a serial chain without capacity, lost sales or bad yields a base-stock policy is optimal among all (Clark and Scarf,
1960); elsewhere it is the usual best that is known.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.types import Array
from drigm.envs.api import Environment
from drigm.envs.supply import simulator
from drigm.envs.supply.network import links_of
from drigm.envs.supply.simulator import SupplyParams, SupplyState, chain_of, level_step, nearest

SEED = 77  # of the search's episodes: others than an evaluation plays


class Effort(NamedTuple):
    """How long is searched."""

    rounds: int
    candidates: int
    episodes: int


THOROUGH = Effort(rounds=60, candidates=24, episodes=64)
QUICK = Effort(rounds=20, candidates=8, episodes=16)
SHRINK = 0.92  # of the steps, each round


def best_levels(env: Environment, params: SupplyParams, effort: Effort = THOROUGH) -> tuple[Array, Array]:
    """Return the best base-stock levels [N] that were found in the world ``params``, and the mean return with them.

    Every round tries steps in all directions around the best so far, on the same episodes, and steps become smaller.

    Args:
        env: a supply chain.
        params: its world.
        effort: how long is searched.
    """
    links = links_of(chain_of(env.spec))
    weekly, weekly_demand = jnp.asarray(links.weekly, jnp.float32), float(np.sum(links.serves * links.weekly))
    keys = jax.random.split(jax.random.key(SEED), effort.episodes)

    def value(levels: Array) -> Array:
        return jnp.mean(jax.vmap(lambda key: base_stock_return(env, params, levels, key))(keys))

    def improve(i: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        levels, score = best
        size = SHRINK ** i.astype(jnp.float32)
        steps = jax.random.normal(jax.random.fold_in(jax.random.key(SEED), i), (effort.candidates, *levels.shape))
        tried = levels[None, :] + size * steps * jnp.broadcast_to(0.5 * weekly, steps.shape)
        values = jax.vmap(value)(tried)
        k = jnp.argmax(values)
        return jnp.where(values[k] > score, tried[k], levels), jnp.maximum(values[k], score)

    # From the instance's levels, moved by what the demand of a lead time is more.
    weeks = jnp.sum(params.mean) / jnp.float32(weekly_demand) * (params.lead + params.more_lead)
    start = params.start + weekly * (weeks - params.lead)
    return jax.lax.fori_loop(0, effort.rounds, improve, (start, value(start)))


def base_stock_return(env: Environment, params: SupplyParams, levels: Array, key: Array) -> Array:
    """Return the return [] of one episode with base-stock ``levels`` [N]."""
    action = nearest(levels, level_step(env.spec), env.spec.num_actions)
    k_reset, k_steps = jax.random.split(key)

    def one(state: SupplyState, key: Array) -> tuple[SupplyState, Array]:
        state, step = env.step(key, state, action, params)
        return state, step.reward

    state, _ = env.reset(k_reset, params)
    _, rewards = jax.lax.scan(one, state, jax.random.split(k_steps, env.spec.episode_limit))
    return jnp.sum(rewards)


def possible_return(env: Environment, params: SupplyParams) -> Array:
    """Return about what the best base stock of the world ``params`` gets: []."""
    return best_levels(env, params, QUICK)[1]


def supply(name: str, **options: Any) -> Environment:
    """Return `drigm.envs.supply.simulator.supply` that knows what is possible in its worlds."""
    env = simulator.supply(name, **options)
    vary = env.vary
    assert vary is not None
    return env._replace(
        possible=functools.partial(possible_return, env), vary=lambda strengths: _known(vary(strengths))
    )


def _known(env: Environment) -> Environment:
    return env._replace(possible=functools.partial(possible_return, env))
