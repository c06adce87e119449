"""What acts for an agent that does not answer: its contract's fallback, on its own readings alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from drigm.deployment.guard import Fallback, Guard, allowed


class StandIn:
    """The fallback of one agent, outside its process, as an actuator has a default of its own.

    It sees the readings at every step, so that PI has held ones, and decides only when it is asked to.

    Args:
        contract: of the agent.
    """

    def __init__(self, contract: Mapping[str, Any]) -> None:
        actions, safety = contract["actions"], contract["safety"]
        self.first, self.count, self.idle = actions["first"], actions["count"], actions["idle"] - actions["first"]
        levels = None if actions["values"] is None else np.array(actions["values"])
        self.guard = Guard(contract["readings"], safety)
        self.fallback = Fallback(safety["fallback"], self.idle, self.first, levels)
        self.reset()

    def reset(self) -> None:
        """Begin a new episode."""
        self.guard.reset(1)
        self.fallback.reset(1)

    def act(self, readings: Any, available: Any, *, decides: bool) -> int:
        """Return the fallback's action, as the environment counts; without ``decides`` it only looks."""
        values, _, lost = self.guard.check(readings)
        chosen = int(self.fallback.act(values, lost, np.array([decides]))[0])
        mask = None if available is None else allowed(available, (1, self.count))
        if mask is not None and not mask[0, chosen]:
            chosen = self.idle if mask[0, self.idle] else int(mask[0].argmax())
        return chosen + self.first
