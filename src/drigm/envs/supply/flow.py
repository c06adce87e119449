"""One week of a supply chain: orders go up, goods come down. Pure arithmetic, without chance.

The order of events, and the costs, are those of stockpyl's simulation, with which tests compare it week by week::

    1. every stage receives what arrives this week
    2. customers order; from them up, every stage orders  min(capacity, max(0, accepted + x))
    3. from what is on hand every stage ships what it owes and what was ordered, in the order of those it supplies
    4. cost = holding (on hand + on the way from here) + penalty (customers who wait, or were lost)

``accepted`` is what is ordered from a stage in the same week, less lost sales, and x is what it orders beyond that: the
d + x rule of Oroojlooyjadid, Nazari, Snyder and Takac, *A deep Q-network for the beer game*,
Manufacturing & Service Operations Management 24(1), 2022. What is accepted leaves the inventory position

    position = on hand - owed to others + on order,

and the order comes back to it. So the next position is ``position + x`` whatever the demand, and a base-stock policy
with level S is ``x = S - position``, exactly: it needs nothing that is not yet known when x is chosen.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from drigm.core.types import Array
from drigm.envs.supply.network import Links


class Costs(NamedTuple):
    """What a week costs, by stage [N]."""

    holding: Array  # of a unit on hand, or on its way from here
    penalty: Array  # of a unit that customers wait for, or that they no longer want
    fixed: Array  # of an order that is not empty


class Stocks(NamedTuple):
    """What lies where at the end of a week, in units."""

    hand: Array  # [N]
    owed: Array  # [N] what the supplier of a stage still owes it
    waiting: Array  # [N] what customers wait for
    way: Array  # [N, W] what arrives at a stage next week, in two weeks, ...


class Luck(NamedTuple):
    """What chance decides in a week."""

    demand: Array  # [N] units that customers want
    good: Array  # [N] share of what arrives that is good
    rounding: Array  # [N] at which fraction of a good unit one more is good; 0 where parts of units are
    lead: Array  # [N] int32, weeks from this week's shipment to its arrival, 1 to W
    up: Array  # [N] 1 where a stage ships


class Week(NamedTuple):
    """What happened in a week, by stage [N]."""

    received: Array  # orders from stages and customers
    order: Array  # its own
    cost: Array


def on_order(stocks: Stocks) -> Array:
    """Return what each stage has ordered and not received [N]."""
    return stocks.owed + jnp.sum(stocks.way, axis=1)


def owed_by(links: Links, stocks: Stocks) -> Array:
    """Return what each stage owes to customers and to the stages that it supplies [N]."""
    return stocks.waiting + _sum(links.supplies, stocks.owed)


def position(links: Links, stocks: Stocks) -> Array:
    """Return the inventory positions [N]: on hand, less what is owed, and what is on order."""
    return stocks.hand - owed_by(links, stocks) + on_order(stocks)


def week(
    links: Links, costs: Costs, capacity: Array, lost: bool, stocks: Stocks, x: Array, luck: Luck
) -> tuple[Stocks, Week]:
    """Return the stocks at the end of a week, and what happened in it.

    Args:
        links: the network.
        costs: its costs.
        capacity: [N] most units that a stage can order.
        lost: customers who find nothing leave.
        stocks: at the end of the week before.
        x: [N] units that each stage orders beyond what it accepts.
        luck: what chance decided.
    """
    serves, outside = jnp.asarray(links.serves), jnp.asarray(links.outside)
    hand = stocks.hand + _good(stocks.way[:, 0], luck)
    shippable = luck.up * hand
    sold = jnp.minimum(shippable, stocks.waiting + luck.demand)
    accepted = sold if lost else luck.demand
    received, order = _orders(links, accepted, luck.demand, x, capacity)
    wanted = (1.0 - outside) * (stocks.owed + order)
    rest = _sum(links.supplies.T, shippable) - _sum(links.before, wanted)
    shipped = jnp.clip(rest, 0.0, wanted)
    hand = hand - serves * sold - _sum(links.supplies, shipped)
    unmet = serves * (stocks.waiting + luck.demand - sold)
    way = _sent(stocks.way, shipped + outside * order, luck.lead)
    after = Stocks(hand, wanted - shipped, jnp.zeros_like(unmet) if lost else unmet, way)
    on_the_way = _sum(links.supplies, jnp.sum(way, axis=1))
    cost = costs.holding * (hand + on_the_way) + costs.penalty * unmet + costs.fixed * (order > 0).astype(jnp.float32)
    return after, Week(received, order, cost)


def _orders(links: Links, accepted: Array, demand: Array, x: Array, capacity: Array) -> tuple[Array, Array]:
    """Return what is ordered from each stage and what it orders [N]; the stages on a level at a time, from below."""
    order = jnp.zeros_like(x)
    for _ in range(links.depth):
        from_stages = _sum(links.supplies, order)
        order = jnp.clip(accepted + from_stages + x, 0.0, capacity)
    return demand + from_stages, order  # pyright: ignore[reportPossiblyUnboundVariable] (a chain has a stage)


def _good(arrived: Array, luck: Luck) -> Array:
    """Return the good units [N] of what arrived."""
    good = arrived * luck.good
    return jnp.where(luck.rounding > 0.0, jnp.floor(good + luck.rounding), good)


def _sent(way: Array, shipped: Array, lead: Array) -> Array:
    """Return what is on the way [N, W] a week later, with what was shipped."""
    moved = jnp.concatenate([way[:, 1:], jnp.zeros_like(way[:, :1])], axis=1)
    return moved + shipped[:, None] * jax.nn.one_hot(lead - 1, way.shape[1], dtype=way.dtype)


def _sum(weights: object, amounts: Array) -> Array:
    """Return ``weights @ amounts`` with the additions of single precision, on accelerators too."""
    return jnp.matmul(jnp.asarray(weights), amounts, precision=jax.lax.Precision.HIGHEST)
