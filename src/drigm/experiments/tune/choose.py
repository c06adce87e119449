"""Which radius to take: the best in worlds of one's own among those that home can bear, and what it will gain.

Everything is about P points (radii), the first of which is the team without robustness, and K seeds of each. ``home``
[P, K] is what they get where nothing shifts, ``source`` [P, K, G] what they get in G groups of worlds: returns, or of
battles the share that is won. Higher is better, also of costs, which are negative.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from drigm.evaluation.statistics import Interval, difference, interval, mean


class Fold(NamedTuple):
    """One group held out: the point that all others choose, and its gain there as a share."""

    group: int
    chosen: int
    gain: Interval


def gains(found: np.ndarray) -> list[Interval]:
    """Return the gain of every point over the first, by the same seeds, as a share of it; [P, K] -> P intervals."""
    return [difference(x, found[0], paired=True).share_of(float(found[0].mean())) for x in found]


def prices(home: np.ndarray) -> list[Interval]:
    """Return how much worse every point is at home than the first, as a share; [P, K] -> P intervals."""
    return [Interval(0.0 - gain.estimate, 0.0 - gain.high, 0.0 - gain.low) for gain in gains(home)]


def allowed(home: np.ndarray, budget: float) -> np.ndarray:
    """Return which points cost at most ``budget`` at home, in the mean over seeds; [P, K] -> [P] bool.

    The first always does, though it is 0 / 0 where it gets nothing.
    """
    means = home.mean(axis=1)
    fine = means[0] - means <= budget * abs(means[0])
    fine[0] = True
    return fine


def choose_point(home: np.ndarray, source: np.ndarray, budget: float) -> int:
    """Return the point that gains most over all groups within the budget; the first where none gains anything.

    Of equals it is the earlier one: points come by their radius.
    """
    gain = (source - source[0]).mean(axis=(1, 2))
    return int(np.argmax(np.where(allowed(home, budget), gain, -np.inf)))


def folds(home: np.ndarray, source: np.ndarray, budget: float) -> list[Fold]:
    """Return what is chosen without each group, and what that gains in it."""
    found = list[Fold]()
    for g in range(source.shape[2]):
        chosen = choose_point(home, np.delete(source, g, axis=2), budget)
        found.append(Fold(g, chosen, gains(source[[0, chosen], :, g])[1]))
    return found


def predicted_gain(home: np.ndarray, source: np.ndarray, budget: float) -> Interval:
    """Return the gain to expect in a group of worlds that had no part in the choice, as a share, with its interval.

    Every seed's gain in every group is that of the point which the *other* seeds choose in the *other* groups: a point
    that was lucky, in worlds or seeds, is not rewarded for it. The interval is over seeds
    (`drigm.evaluation.statistics.interval`: Student's while they are few). One seed has none, and chooses itself.
    """
    seeds, groups = source.shape[1:]
    gained = np.zeros((seeds, groups))
    for k in range(seeds):
        rest = np.arange(seeds) != k if seeds > 1 else np.ones(1, bool)
        for g in range(groups):
            chosen = choose_point(home[:, rest], np.delete(source[:, rest], g, axis=2), budget)
            gained[k, g] = source[chosen, k, g] - source[0, k, g]
    return interval(gained, mean, whole_seeds=True).share_of(float(source[0].mean()))
