"""What acts for an agent that does not answer: its contract's fallback, on its own readings alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from drigm.deployment.guard import Fallback, Guard, allowed, possible


class StandIn:
    """The fallback of one agent, outside its process, as an actuator has a default of its own.

    It sees the readings at every step, so that PI has held ones, and decides only when it is asked to.

    Args:
        contract: of the agent.
    """

    def __init__(self, contract: Mapping[str, Any]) -> None:
        actions, safety = contract["actions"], contract["safety"]
        self.first, self.count, self.idle = actions["first"], actions["count"], actions["idle"] - actions["first"]
        self.guard, self.fallback = Guard(contract["readings"], safety), Fallback.of(contract)
        self.reset()

    def reset(self) -> None:
        """Begin a new episode."""
        self.guard.reset(1)
        self.fallback.reset(1)

    def act(self, readings: Any, available: Any, *, decides: bool) -> int:
        """Return the fallback's action, as the environment counts; without ``decides`` it only looks."""
        values, _, lost = self.guard.check(readings)
        chosen = self.fallback.act(values, lost, np.array([decides]))
        mask = None if available is None else allowed(available, (1, self.count))
        return int((chosen if mask is None else possible(chosen, mask, self.idle))[0]) + self.first
