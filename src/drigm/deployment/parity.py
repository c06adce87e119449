"""Exported agents beside the trainer's, step by step on the same observations: they must not differ but by ties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from drigm.deployment.agent import Agent
from drigm.deployment.recording import Episodes

TIE = 1e-5  # of two values; relative where they are above 1


class Slice(NamedTuple):
    """What one agent saw and did in whole episodes."""

    obs: np.ndarray  # [T, B, O]
    last_action: np.ndarray  # [T, B]
    avail: np.ndarray | None  # [T, B, A]
    there: np.ndarray  # [T, B]
    q: np.ndarray  # [T, B, A]
    action: np.ndarray  # [T, B]


class Compared(NamedTuple):
    """How an exported agent compares with the trainer's.

    Attributes:
        steps: decisions that were compared.
        differing: other actions, whose value is lower by more than `TIE`.
        ties: other actions whose value is as good.
        largest_q_difference: of any available action's value.
        flagged: decisions at which the agent said that something was wrong with its readings.
    """

    steps: int = 0
    differing: int = 0
    ties: int = 0
    largest_q_difference: float = 0.0
    flagged: int = 0

    def plus(self, other: Compared) -> Compared:
        """Return both together."""
        largest = max(self.largest_q_difference, other.largest_q_difference)
        summed = (a + b for a, b in zip(self, other, strict=True))
        return Compared(*summed)._replace(largest_q_difference=largest)  # type: ignore[arg-type]


Step = Callable[[np.ndarray, np.ndarray | None, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""``step(obs [B, O], avail [B, A] or None, last action [B]) -> (action [B], Q [B, A], flagged [B])``."""


def slice_of(found: Episodes, agent: int, own: list[int], actions: int) -> Slice:
    """Return what the agent saw and did, with its ``own`` readings and as many ``actions``."""
    avail = None if found.avail is None else found.avail[:, :, agent, :actions]
    return Slice(
        found.obs[:, :, agent][..., own],
        found.last_action[:, :, agent],
        avail,
        found.there[:, :, agent],
        found.q[:, :, agent, :actions],
        found.action[:, :, agent],
    )


def compared(seen: Slice, step: Step) -> Compared:
    """Return how ``step``, at the start of episodes, compares with what the trainer's agent did."""
    total = Compared()
    for t in range(len(seen.obs)):
        there = seen.there[t]
        if not there.any():
            break
        avail = None if seen.avail is None else seen.avail[t]
        action, q, flagged = step(seen.obs[t], avail, seen.last_action[t])
        allowed = np.ones(q.shape, bool) if avail is None else avail
        best, taken = (np.take_along_axis(seen.q[t], a[:, None], axis=1)[:, 0] for a in (seen.action[t], action))
        other = there & (action != seen.action[t])
        tie = best - taken <= TIE * np.maximum(1.0, np.abs(best))
        apart = np.where(allowed & there[:, None], np.abs(q - seen.q[t]), 0.0)
        total = total.plus(
            Compared(
                int(there.sum()),
                int((other & ~tie).sum()),
                int((other & tie).sum()),
                float(apart.max()) if np.isfinite(apart).all() else float("inf"),
                int((flagged & there).sum()),
            )
        )
    return total


def step_of(agent: Agent, batch: int) -> Step:
    """Return the step of an agent as a device takes it, with all that watches over its readings."""
    agent.reset(batch)

    def step(obs: np.ndarray, avail: np.ndarray | None, last: np.ndarray) -> Any:
        previous = None if agent.steps == 0 else np.maximum(last, 0) + agent.first
        decision = agent.step(obs, avail, previous=previous)
        flagged = np.zeros(batch, bool)
        flagged[[flag.row for flag in decision.flags]] = True
        return decision.action - agent.first, agent.q_values(), flagged

    return step
