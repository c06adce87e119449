"""Order-up-to rules of supply chains (`drigm.agents.order_up_to`), and the best base stock of each world.

``base_stock`` has the instance's levels everywhere, ``moving_average`` its safety stocks above what the last weeks'
orders make a lead time's demand, and ``s_S`` reorders at the levels and orders up to the economic order quantity
sqrt(2 K m / h) above them (K an order's cost, m the mean demand, h the holding cost): where an order costs nothing it
is ``base_stock``.
``best_base_stock`` has the levels that are best in the world that it plays in: nobody knows them there, and it is the
limit for rules of this kind.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents import rollout
from drigm.agents.order_up_to import order_up_to
from drigm.agents.policies import Policy
from drigm.core.types import Array, PyTree, jit
from drigm.envs.api import Environment, Shift
from drigm.envs.perturbations import unperturbed
from drigm.envs.supply.base_stock import best_levels
from drigm.envs.supply.network import links_of
from drigm.envs.supply.simulator import SupplyParams, chain_of
from drigm.evaluation.families.api import Family
from drigm.evaluation.players import Players
from drigm.evaluation.scores import episode_scores

BEST = "best_base_stock"
TITLES = {
    "base_stock": "Base stock, the instance's levels",
    "moving_average": "Order up to a moving average",
    "s_S": "(s, S)",
    BEST: "Base stock, the world's best levels",
}
RULES = ("base_stock", "moving_average", "s_S")


def _names(env: Environment, trained_in: Environment) -> list[str]:
    """Return all; where agents' readings or actions are perturbed, without the best levels."""
    del trained_in
    if not isinstance(unperturbed(env.params), SupplyParams):
        return []
    return list(TITLES) if isinstance(env.params, SupplyParams) else list(RULES)


def _scores(
    env: Environment, tried: list[Shift], names: Sequence[str], trained_in: Environment
) -> dict[str, np.ndarray]:
    del trained_in
    found: dict[str, np.ndarray] = {}
    rules = [name for name in names if name in RULES]
    if rules:
        parts = [_parts(name, env) for name in rules]
        weights = tuple(jnp.asarray(np.stack(side), jnp.float32) for side in zip(*parts, strict=True))
        scores = episode_scores(env, _players(env, weights), tried).mean(axis=-1)
        found = {name: scores[:, i] for i, name in enumerate(rules)}
    if BEST in names:
        found[BEST] = _best_scores(env, tried)
    return found


def _policy(name: str, env: Environment, trained_in: Environment) -> Policy:
    del trained_in
    if name == BEST:
        return _base_stock(env, np.asarray(jit(functools.partial(best_levels, env))(env.params)[0]))
    return order_up_to(env.spec, tuple(side.astype(np.float32) for side in _parts(name, env)))


def _parts(name: str, env: Environment) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the level, the weeks and the reorder point of a rule, each [N]."""
    chain = chain_of(env.spec)
    levels, weekly, lead = np.array(chain.levels), links_of(chain).weekly, np.array(chain.lead, np.float64)
    nothing, always = np.zeros(len(levels)), np.full(len(levels), np.inf)
    if name == "moving_average":
        return levels - lead * weekly, lead, always
    if name == "s_S":
        costs = jax.tree.map(np.asarray, unperturbed(env.params).costs)
        reorder = np.where(costs.fixed > 0.0, levels, always)  # free orders are never put off
        return levels + np.sqrt(2.0 * costs.fixed * weekly / costs.holding), nothing, reorder
    return levels, nothing, always


def _players(env: Environment, weights: PyTree) -> Players:
    rule = functools.partial(order_up_to, env.spec)
    return Players(weights, rule, rule)


def _base_stock(env: Environment, levels: Any) -> Policy:
    nothing = np.zeros(env.spec.num_agents, np.float32)
    return order_up_to(env.spec, (levels, nothing, nothing + np.float32(np.inf)))


def _best_scores(env: Environment, tried: list[Shift]) -> np.ndarray:
    """Return the mean scores [W] of the best base stock of each world."""
    episodes = jnp.arange(env.num_eval_episodes, dtype=jnp.int32)

    def returns(params: PyTree) -> Array:
        policy = _base_stock(env, best_levels(env, params)[0])

        def one(index: Array) -> Array:
            return rollout.outcome(env, policy, jax.random.key(index), env.episode(params, index)).episode_return

        return jax.vmap(one)(episodes)

    play = jit(returns)
    return np.array([np.asarray(env.score(play(world.params)), np.float64).mean() for world in tried])


SUPPLY_CHAINS = Family(TITLES, _names, _scores, _policy, tuple(TITLES))
