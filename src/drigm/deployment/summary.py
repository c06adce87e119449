"""What a closed loop came to: episode by episode, and in shadow mode how far the team is from the controller."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from drigm.deployment.loop import LoopStep


class EpisodeSums(NamedTuple):
    """An episode, or what was played of it."""

    episode: int
    steps: int
    episode_return: float
    score: float | None  # None: it was not played to its end
    won: bool | None
    flags: int  # that agents raised
    fallbacks: int  # decisions of a fallback


class Difference(NamedTuple):
    """How often and how far an agent would have done otherwise than the controller did."""

    agent: str
    steps: int
    differing: int
    far: float | None  # mean distance in levels, or None where actions have no order
    farthest: float | None


def episode_sums(steps: Iterable[LoopStep]) -> list[EpisodeSums]:
    """Return the sums of each episode, in the order in which they were played."""
    found = dict[int, EpisodeSums]()
    for one in steps:
        before = found.get(one.episode, EpisodeSums(one.episode, 0, 0.0, None, None, 0, 0))
        found[one.episode] = EpisodeSums(
            one.episode,
            before.steps + 1,
            before.episode_return + one.reward,
            before.score if one.end is None else one.end.score,
            before.won if one.end is None else one.end.won,
            before.flags + sum(len(agent.flags) for agent in one.agents.values()),
            before.fallbacks + sum(agent.fallback for agent in one.agents.values()),
        )
    return list(found.values())


def differences(steps: Iterable[LoopStep], actions: Mapping[str, Mapping[str, Any]]) -> list[Difference]:
    """Return how each agent differs from the controller in shadow mode.

    Args:
        steps: of the loop.
        actions: the ``actions`` of each agent's contract.
    """
    pairs: dict[str, list[tuple[int, int]]] = {name: [] for name in actions}
    for one in steps:
        for name, agent in one.agents.items():
            if agent.would is not None:
                pairs[name].append((agent.action, agent.would))
    return [_difference(name, np.array(found, np.int64).reshape(-1, 2), actions[name]) for name, found in pairs.items()]


def _difference(name: str, pairs: np.ndarray, actions: Mapping[str, Any]) -> Difference:
    differing = int((pairs[:, 0] != pairs[:, 1]).sum())
    if actions["values"] is None or not len(pairs):
        return Difference(name, len(pairs), differing, None, None)
    levels = np.array(actions["values"], np.float64)[pairs - actions["first"]]
    apart = np.abs(levels[:, 0] - levels[:, 1])
    return Difference(name, len(pairs), differing, float(apart.mean()), float(apart.max()))


def episode_line(sums: EpisodeSums) -> str:
    """Return an episode as ``key=value`` words."""
    words = [f"episode={sums.episode}", f"steps={sums.steps}", f"return={sums.episode_return:.5g}"]
    words += [] if sums.score is None else [f"score={sums.score:.5g}"]
    words += [] if sums.won is None else [f"won={int(sums.won)}"]
    words += [] if sums.score is not None else ["unfinished=1"]
    return " ".join([*words, f"flags={sums.flags}", f"fallbacks={sums.fallbacks}"])


def difference_line(one: Difference) -> str:
    """Return how an agent differs as ``key=value`` words."""
    words = [f"agent={one.agent.replace(' ', '_')}", f"steps={one.steps}", f"differing={one.differing}"]
    if one.far is not None and one.farthest is not None:
        words += [f"mean_distance={one.far:.4g}", f"largest_distance={one.farthest:.4g}"]
    return " ".join(words)


def mean_score(sums: Iterable[EpisodeSums]) -> float | None:
    """Return the mean score of the episodes that were played to their end; None where there is none."""
    scores = [one.score for one in sums if one.score is not None]
    return float(np.mean(scores)) if scores else None
