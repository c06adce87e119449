"""Supply chains as networks of stages, and instances of the literature with their best base-stock levels.

Every stage has one supplier, another stage or the outside, which is never short; the stages that supply nobody serve
customers. Time is counted in weeks (the periods of the literature). A local base-stock level counts what a stage has on
hand and on order less what it owes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from drigm.core.errors import choose

OUTSIDE = -1  # the supplier that is never short


class Demand(NamedTuple):
    """Customers' demand of a week at one stage.

    ``counts`` are negative binomial with variance ``mean + mean^2 / size``, written as ``excess = 1 / size``: 0 is
    Poisson. Otherwise demand is normal with standard deviation ``deviation``, cut off at 0.
    """

    mean: float
    counts: bool = True
    excess: float = 0.0
    deviation: float = 0.0


class Chain(NamedTuple):
    """An instance: the network, its costs and its demand.

    Attributes:
        stages: N names, the ones that serve customers first.
        supplier: of each stage, its place among them, or `OUTSIDE`. Where stock is short a supplier serves the stage
            that stands first.
        lead: weeks from a shipment to its arrival, each 1 or more.
        holding: cost of a unit on hand at the end of a week, or on its way to the stages that this one supplies.
        penalty: cost of a unit that customers wait for at the end of a week.
        demand: of the customers at each stage that serves them.
        levels: local base-stock levels.
        cost: mean cost of a week in the long run at these levels.
        optimal: the levels are optimal among all policies; otherwise they are the best that were found.
        source: where the instance is from.
    """

    stages: tuple[str, ...]
    supplier: tuple[int, ...]
    lead: tuple[int, ...]
    holding: tuple[float, ...]
    penalty: float
    demand: Demand
    levels: tuple[float, ...]
    cost: float
    optimal: bool
    source: str


class Links(NamedTuple):
    """A chain's structure as arrays of zeros and ones, for N stages."""

    serves: np.ndarray  # [N] whether it serves customers
    outside: np.ndarray  # [N] whether it is supplied from outside
    supplies: np.ndarray  # [N, N] row: who supplies, column: who is supplied
    before: np.ndarray  # [N, N] row: who is supplied, column: who is served before it by the same supplier
    depth: int  # stages on the longest way from the outside to customers
    weekly: np.ndarray  # [N] units that pass through a stage in a mean week


def links_of(chain: Chain) -> Links:
    """Return the structure of ``chain``."""
    n, supplier = len(chain.stages), np.array(chain.supplier)
    supplies = (supplier[None, :] == np.arange(n)[:, None]).astype(np.float32)
    same = (supplier[:, None] == supplier[None, :]) & (supplier[:, None] != OUTSIDE)
    serves = (supplies.sum(axis=1) == 0).astype(np.float32)
    passing, weekly, depth = serves * chain.demand.mean, np.zeros(n), 0
    while passing.any():
        weekly, passing, depth = weekly + passing, supplies @ passing, depth + 1
    before = np.tril(same, -1).astype(np.float32)
    return Links(serves, (supplier == OUTSIDE).astype(np.float32), supplies, before, depth, weekly)


SERIAL4 = ("retailer", "wholesaler", "distributor", "factory")
IN_LINE = (1, 2, 3, OUTSIDE)


def _shang_song(row: int, levels: tuple[float, ...], cost: float, middle: float, penalty: float) -> Chain:
    """A row of Table 1 of Shang and Song (2003): demand 16 and lead time 1/4, so that a week is a quarter of theirs."""
    echelon = np.array([0.25, middle, middle, 0.25]) / 4  # retailer first
    local = tuple(np.cumsum(echelon[::-1])[::-1].tolist())
    source = f"Shang and Song, Management Science 49(5), 2003, Table 1, row {row}, in quarters of its period"
    return Chain(SERIAL4, IN_LINE, (1,) * 4, local, penalty / 4, Demand(4.0), levels, cost, True, source)


# Optimal levels and costs are exact: those of stockpyl's algorithm for serial systems where it has the instance, and
# for whole demand also those of tests/envs/supply/clark_scarf.py. Those of the distribution network are the best found
# with one level for all stages of a kind.
CHAINS: dict[str, Chain] = {
    "newsvendor": Chain(
        stages=("shop",),
        supplier=(OUTSIDE,),
        lead=(2,),
        holding=(1.0,),
        penalty=9.0,
        demand=Demand(6.0, excess=1 / 6),
        levels=(19.0,),
        cost=9.649,
        optimal=True,
        source="one stage with a lead time: base stock at the 0.9 quantile of the demand of two weeks",
    ),
    "serial2": Chain(
        stages=("retailer", "warehouse"),
        supplier=(1, OUTSIDE),
        lead=(1, 1),
        holding=(2.0, 1.0),
        penalty=15.0,
        demand=Demand(100.0, counts=False, deviation=15.0),
        levels=(123.94, 104.55),
        cost=166.27,
        optimal=True,
        source="Snyder and Shen, Fundamentals of Supply Chain Theory, 2nd edition, 2019, Problem 6.1",
    ),
    "serial3": Chain(
        stages=("retailer", "warehouse", "factory"),
        supplier=(1, 2, OUTSIDE),
        lead=(1, 1, 2),
        holding=(7.0, 4.0, 2.0),
        penalty=37.12,
        demand=Demand(5.0, counts=False, deviation=1.0),
        levels=(6.49, 5.53, 10.69),
        cost=47.65,
        optimal=True,
        source="Snyder and Shen, Fundamentals of Supply Chain Theory, 2nd edition, 2019, Example 6.1",
    ),
    "serial4": Chain(
        stages=SERIAL4,
        supplier=IN_LINE,
        lead=(2,) * 4,
        holding=(2.0, 1.5, 1.0, 0.5),
        penalty=20.0,
        demand=Demand(6.0, excess=1 / 6),
        levels=(23.0, 15.0, 13.0, 13.0),
        cost=70.318,
        optimal=True,
        source="drigm's own: the stages of the beer game with overdispersed demand",
    ),
    "distribution7": Chain(
        stages=("shop 1", "shop 2", "shop 3", "shop 4", "warehouse 1", "warehouse 2", "factory"),
        supplier=(4, 4, 5, 5, 6, 6, OUTSIDE),
        lead=(1,) * 7,
        holding=(1.0,) * 4 + (2 / 3,) * 2 + (1 / 3,),
        penalty=20.0,
        demand=Demand(8.0, counts=False, deviation=8.0**0.5),
        levels=(13.2,) * 4 + (20.1,) * 2 + (37.7,),
        cost=65.9,
        optimal=False,
        source="Rong, Atan and Snyder, Production and Operations Management, 2017, Figure 1(a), as stockpyl has it",
    ),
    "shang-song-1": _shang_song(1, (8.0, 5.0, 5.0, 4.0), 3.1717, 0.25, 9.0),
    "shang-song-9": _shang_song(9, (9.0, 1.0, 3.0, 6.0), 13.2516, 2.5, 9.0),
    "shang-song-17": _shang_song(17, (11.0, 6.0, 5.0, 5.0), 4.0495, 0.25, 99.0),
    "shang-song-25": _shang_song(25, (11.0, 3.0, 4.0, 8.0), 18.6386, 2.5, 99.0),
}


def chain(name: str) -> Chain:
    """Return the instance ``name``; `UserError` with the names that there are."""
    return CHAINS[choose("supply", name, tuple(CHAINS))]
