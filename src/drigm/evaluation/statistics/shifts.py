"""How a method bears the shift: the scores of each world, of the worst, of the tail, and what robustness costs."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import numpy as np
from numpy.typing import ArrayLike

from drigm.core.errors import check
from drigm.evaluation.statistics.arrays import as_array, as_scores
from drigm.evaluation.statistics.bootstrap import BootstrapOptions, Interval, difference, interval_arrays


class Profile(NamedTuple):
    """The share of scores above each threshold and its pointwise interval; each field is [P]."""

    thresholds: np.ndarray
    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray


def performance_profile(
    scores: ArrayLike, thresholds: ArrayLike, whole_seeds: bool = False, **options: Unpack[BootstrapOptions]
) -> Profile:
    """Return the share of seeds and worlds above each threshold, ``1/(KW) sum_kw [x_kw > tau]``.

    Source: Agarwal et al. 2021, section 4.2 (score distributions); a score equal to a threshold is not above it.

    Args:
        scores: [K, W].
        thresholds: tau [P].
        whole_seeds: draw seeds with all their worlds; see `stratified_bootstrap`.
        options: see `BootstrapOptions`.

    Raises:
        UserError: a shape does not fit, an array is empty or not finite, or an option is out of range.
    """
    array, taus = as_scores("scores", scores), as_array("thresholds", thresholds, "[P]")

    def above(s: np.ndarray) -> np.ndarray:
        return (s[..., None] > taus).mean(axis=(-3, -2))

    estimate, low, high = interval_arrays(array, above, whole_seeds, **options)
    return Profile(taus, estimate, low.clip(0.0, 1.0), high.clip(0.0, 1.0))  # Student's ends know no limits


def per_world(scores: ArrayLike, **options: Unpack[BootstrapOptions]) -> list[Interval]:
    """Return the mean over seeds in each world, ``1/K sum_k x_kw``, with its interval; [K, W] -> W intervals.

    Raises:
        UserError: `scores` has another shape, is empty or is not finite; an option is out of range.
    """
    return interval_arrays(as_scores("scores", scores), lambda s: s.mean(axis=-2), **options).intervals()


def worst_per_seed(scores: ArrayLike) -> np.ndarray:
    """Return each seed's score in its own worst world, ``min_w x_kw``; [K, W] -> [K].

    Raises:
        UserError: `scores` has another shape, is empty or is not finite.
    """
    return as_scores("scores", scores).min(axis=1)


def worst_world(scores: ArrayLike, **options: Unpack[BootstrapOptions]) -> Interval:
    """Return the mean over seeds of `worst_per_seed`, with its interval; errors as `per_world`."""
    return _mean_over_seeds(worst_per_seed(scores), **options)


def cvar_per_seed(scores: ArrayLike, alpha: float) -> np.ndarray:
    """Return each seed's mean over the worst share ``alpha`` of its worlds, all worlds weighing the same.

    ``1/(alpha W) sum_i clip(alpha W - i, 0, 1) x_(i)`` with the scores in rising order, i = 0..W-1: the last world
    of the tail counts by the part of it that belongs there (Rockafellar and Uryasev 2002). ``alpha <= 1 / W`` is the
    worst world, ``alpha = 1`` the mean.

    Args:
        scores: [K, W].
        alpha: the share of worlds, within (0, 1].

    Returns:
        [K].

    Raises:
        UserError: `scores` has another shape, is empty or is not finite; `alpha` is out of range.
    """
    check(0.0 < alpha <= 1.0, "alpha", alpha, "give a share of the worlds above 0 and at most 1")
    ordered = np.sort(as_scores("scores", scores), axis=1)
    weights = np.clip(alpha * ordered.shape[1] - np.arange(ordered.shape[1], dtype=float), 0.0, 1.0)
    return ordered @ (weights / weights.sum())


def cvar(scores: ArrayLike, alpha: float, **options: Unpack[BootstrapOptions]) -> Interval:
    """Return the mean over seeds of `cvar_per_seed`, with its interval; errors are the same."""
    return _mean_over_seeds(cvar_per_seed(scores, alpha), **options)


def area_per_seed(strengths: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """Return each seed's mean score over a range of shift strengths, by the trapezoidal rule.

    ``1/(s_P - s_1) sum_p (s_p+1 - s_p) (x_p + x_p+1) / 2``, in the units of the score.

    Args:
        strengths: s [P], rising, P >= 2.
        scores: [K, P].

    Returns:
        [K].

    Raises:
        UserError: a shape does not fit, an array is empty or not finite, or `strengths` does not rise.
    """
    s, array = as_array("strengths", strengths, "[P]"), as_array("scores", scores, "[K seeds, P strengths]")
    rising = len(s) >= 2 and bool((np.diff(s) > 0).all())
    check(rising, "strengths", s.tolist(), "give at least 2, each above the one before")
    check(array.shape[1] == len(s), "scores", array.shape, f"give a score for each of the {len(s)} strengths")
    return np.trapezoid(array, s, axis=1) / (s[-1] - s[0])


def area_under_curve(strengths: ArrayLike, scores: ArrayLike, **options: Unpack[BootstrapOptions]) -> Interval:
    """Return the mean over seeds of `area_per_seed`, with its interval; errors are the same."""
    return _mean_over_seeds(area_per_seed(strengths, scores), **options)


def nominal_cost(robust: ArrayLike, baseline: ArrayLike, **options: Unpack[BootstrapOptions]) -> Interval:
    """Return what robustness costs where nothing shifts, ``1/K sum_k baseline_k - robust_k``, paired by seed.

    Args:
        robust: scores [K] of the robust method in the nominal world.
        baseline: scores [K] of the method without robustness there, by the same seeds.
        options: see `BootstrapOptions`.

    Returns:
        The cost, positive where the robust method scores less. `significant` at level 0 says whether it is real.

    Raises:
        UserError: a shape does not fit, an array is empty or not finite, or an option is out of range.
    """
    first = as_array("robust", robust, "[K seeds]")
    second = as_array("baseline", baseline, "[K seeds]")
    check(first.shape == second.shape, "baseline", second.shape, f"give the {len(first)} seeds of robust")
    return difference(second, first, paired=True, **options)


def _mean_over_seeds(per_seed: np.ndarray, **options: Unpack[BootstrapOptions]) -> Interval:
    return interval_arrays(per_seed[:, None], lambda s: s.mean(axis=(-2, -1)), **options).interval()
