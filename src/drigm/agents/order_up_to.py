"""Order-up-to rules of inventory control: each stage of a supply chain orders by its own readings, and learns nothing.

With the inventory position y of a stage (on hand, less what it owes, and what is on order) and the mean m of the orders
that it received in the last weeks, it orders up to::

    base stock          S                        S: a level (Clark and Scarf, 1960)
    moving average      L m + safety             L: its lead time (Chen et al., 2000)
    (s, S)              S where y <= s, else 0   s: a reorder point

rounded to the nearest level that an action has.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from drigm.agents.policies import Policy, module_of
from drigm.core.types import EnvSpec, StoredStep
from drigm.envs.supply.simulator import HAND, ON_ORDER, ORDERED, OWED, level_step, nearest


class OrderUpTo(NamedTuple):
    """All of these rules: up to ``level + weeks m`` where the position is at most ``reorder``."""

    num_actions: int
    step: Any  # [N] units between the levels of two actions; action 0 orders up to a level of 0
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
        step, level, weeks, reorder = (xp.broadcast_to(xp.asarray(x), position.shape) for x in self[1:])
        up_to = level + weeks * xp.mean(obs[..., ORDERED:], axis=-1)
        return memory, nearest(xp.where(position <= reorder, up_to, 0.0), step, self.num_actions)


def order_up_to(spec: EnvSpec, parts: tuple[Any, ...]) -> Policy:
    """Return the rule of (level, weeks, reorder), each [N], in the supply chain ``spec``."""
    return OrderUpTo(spec.num_actions, level_step(spec), *parts)
