"""Order-up-to rules of inventory control: each stage of a supply chain orders by its own readings, and learns nothing.

With the inventory position y of a stage (on hand, less what it owes, and what is on order) and the mean m of the orders
that it received in the last weeks::

    base stock          x = S - y                               S: a level (Clark and Scarf, 1960)
    moving average      x = L m + safety - y                    L: its lead time (Chen et al., 2000)
    (s, S)              x = S - y where y <= s, else the least  s: a reorder point

x is what it orders beyond what it accepts this week (`drigm.envs.supply.flow`), rounded to the nearest possible.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from drigm.agents.policies import Policy, module_of
from drigm.core.types import StoredStep
from drigm.envs.supply.simulator import HAND, ON_ORDER, ORDERED, OWED


class OrderUpTo(NamedTuple):
    """All of these rules: up to ``level + weeks m`` where the position is at most ``reorder``."""

    units: Any  # [A] what an action orders beyond what is accepted, ascending by equal steps
    level: Any  # [N]
    weeks: Any  # [N]
    reorder: Any  # [N] infinite: always

    def initial_memory(self, batch: int) -> tuple[()]:
        """Return nothing: there is none."""
        del batch
        return ()

    def act(self, memory: tuple[()], row: StoredStep) -> tuple[tuple[()], Any]:
        """Return the actions [..., N]."""
        xp, obs = module_of(row.obs), row.obs
        position = obs[..., HAND] - obs[..., OWED] + obs[..., ON_ORDER]
        level, weeks, reorder = (xp.broadcast_to(xp.asarray(x), position.shape) for x in self[1:])
        x = level + weeks * xp.mean(obs[..., ORDERED:], axis=-1) - position
        units = xp.asarray(self.units)
        x = xp.where(position <= reorder, x, units[0])
        action = xp.round((x - units[0]) / (units[1] - units[0]))
        return memory, xp.clip(action, 0, len(units) - 1).astype(xp.int32)


def order_up_to(units: np.ndarray, parts: tuple[Any, ...]) -> Policy:
    """Return the rule of (level, weeks, reorder), each [N]."""
    return OrderUpTo(units, *parts)
