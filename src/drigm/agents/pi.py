"""PI control, the controller on the wall: each agent holds its own reading at its setpoint, and learns nothing.

With the error e of an agent's own reading (setpoint less reading, so that a positive error asks for a higher level)::

    PI    level = kp e + ki (s + e)             s: the sum of the errors so far
    trim  level = the team's level + ki (s + e)

rounded to the nearest level that is available. The sum stands still while the level is beyond its range and the error
would drive it farther out (conditional integration; Astrom and Hagglund, *Advanced PID Control*, 2006, section 3.5):
without that it winds up and the level stays at its end long after the error has changed its sign. Time is counted in
steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from drigm.agents.policies import Policy, module_of
from drigm.core.errors import check
from drigm.core.types import NO_ACTION, EnvSpec, PyTree, StoredStep

HAND_PICKED = (0.2, 0.05)  # kp per unit of error, ki per unit of error and step, of zones in C and powers in [-1, 1]


class Loop(NamedTuple):
    """What each agent holds where, and with which levels."""

    reading: int
    setpoint: np.ndarray  # [N]
    levels: np.ndarray  # [A], ascending

    def error(self, row: StoredStep) -> Any:
        """Return the errors [..., N]."""
        xp = module_of(row.obs)
        reading = row.obs[..., self.reading]
        return xp.broadcast_to(xp.asarray(self.setpoint), reading.shape) - reading

    def integrate(self, row: StoredStep, total: Any, base: Any, ki: Any) -> tuple[Any, Any]:
        """Return the sums [..., N] after this step and the actions [..., N] int32 for ``base + ki (total + error)``.

        Args:
            row: what is seen.
            total: the sums of the errors before it, [..., N]; cleared where an episode begins.
            base: levels [..., N] that are corrected.
            ki: a number, or [N].
        """
        xp = module_of(row.obs)
        error = self.error(row)
        total = xp.where(row.first[..., None], 0.0, total)
        level = base + xp.broadcast_to(xp.asarray(ki, np.float32), error.shape) * (total + error)
        inside = (level > float(self.levels[0])) & (level < float(self.levels[-1]))
        total = total + xp.where(inside | (level * error <= 0.0), error, 0.0)
        levels = xp.broadcast_to(xp.asarray(self.levels), (*level.shape, len(self.levels)))
        distance = xp.abs(levels - level[..., None])
        if row.avail_actions is not None:
            distance = xp.where(row.avail_actions, distance, np.inf)
        return total, xp.argmin(distance, axis=-1).astype(xp.int32)


def loop_of(spec: EnvSpec) -> Loop:
    """Return the loops of an environment's agents; `UserError` where it does not say what they hold."""
    regulated, levels = spec.regulated, spec.action_values
    message = "a controller needs a reading that is held at a setpoint, and levels as actions (EnvSpec.regulated)"
    check(regulated is not None and levels is not None, "env", spec.name, message)
    assert regulated is not None
    assert levels is not None
    return Loop(regulated.reading, np.asarray(regulated.setpoint, np.float32), np.asarray(levels, np.float32))


class PI(NamedTuple):
    """A PI controller for each agent; P where ``ki`` is 0."""

    loop: Loop
    kp: Any  # [N], level per unit of error
    ki: Any  # [N], level per unit of error and step

    def initial_memory(self, batch: int) -> Any:
        """Return the sums of errors [batch, N]."""
        return np.zeros((batch, len(self.loop.setpoint)), np.float32)

    def act(self, memory: Any, row: StoredStep) -> tuple[Any, Any]:
        """Return the sums and the actions [..., N]."""
        error = self.loop.error(row)
        xp = module_of(error)
        return self.loop.integrate(row, memory, xp.broadcast_to(xp.asarray(self.kp), error.shape) * error, self.ki)


class Trimmed(NamedTuple):
    """A trained team whose levels are corrected by a slow integral of each agent's own error; nothing is trained.

    The team is shown what it chose itself as its last action, not what the correction made of it.
    """

    team: Policy
    loop: Loop
    ki: float

    def initial_memory(self, batch: int) -> tuple[PyTree, Any, Any]:
        """Return the team's memory, the sums of errors and the team's own last actions [batch, N]."""
        shape = (batch, len(self.loop.setpoint))
        return self.team.initial_memory(batch), np.zeros(shape, np.float32), np.full(shape, NO_ACTION, np.int32)

    def act(self, memory: tuple[PyTree, Any, Any], row: StoredStep) -> tuple[tuple[PyTree, Any, Any], Any]:
        """Return the memory and the corrected actions [..., N]."""
        own, total, chosen = memory
        xp = module_of(row.obs)
        last = xp.where(row.first[..., None], xp.int32(NO_ACTION), chosen)
        own, chosen = self.team.act(own, row._replace(last_action=last))
        total, action = self.loop.integrate(row, total, xp.asarray(self.loop.levels)[chosen], self.ki)
        return (own, total, chosen), action
