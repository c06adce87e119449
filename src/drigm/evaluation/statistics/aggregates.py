"""Aggregates over seeds and worlds; each maps [..., K seeds, W worlds] to [...], so a bootstrap is one call.

Source: Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice", section 4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from drigm.core.errors import check
from drigm.evaluation.statistics.arrays import as_array


def mean(scores: ArrayLike) -> np.float64 | np.ndarray:
    """Return the mean over seeds and worlds, ``1/(KW) sum_kw x_kw``; [..., K, W] -> [...].

    Raises:
        UserError: `scores` has another shape, is empty or is not finite.
    """
    return _scores(scores).mean(axis=(-2, -1))


def median(scores: ArrayLike) -> np.float64 | np.ndarray:
    """Return the median over worlds of each world's mean, ``median_w 1/K sum_k x_kw``; [..., K, W] -> [...].

    Raises:
        UserError: `scores` has another shape, is empty or is not finite.
    """
    return np.median(_scores(scores).mean(axis=-2), axis=-1)


def iqm(scores: ArrayLike) -> np.float64 | np.ndarray:
    """Return the interquartile mean: of all n = KW scores, the mean without the n // 4 lowest and n // 4 highest.

    This is ``scipy.stats.trim_mean(x, 0.25)`` of the flattened scores: a whole number is cut, no score is split.
    Shapes [..., K, W] -> [...].

    Raises:
        UserError: `scores` has another shape, is empty or is not finite.
    """
    array = _scores(scores)
    ordered = np.sort(array.reshape(*array.shape[:-2], -1), axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def optimality_gap(scores: ArrayLike, limit: ArrayLike) -> np.float64 | np.ndarray:
    """Return how far scores stay below ``limit`` on average, ``mean(limit - min(x, limit))``; lower is better.

    Args:
        scores: [..., K, W].
        limit: the score that is good enough, one for all worlds or one for each [W]; what lies above it counts as it.

    Returns:
        [...]. For an interval: ``stratified_bootstrap(scores, functools.partial(optimality_gap, limit=limit))``.

    Raises:
        UserError: `scores` has another shape, is empty or is not finite; `limit` is not finite or has another shape.
    """
    found, bound = _scores(scores), np.asarray(limit, np.float64)
    check(bool(np.isfinite(bound).all()), "limit", limit, "give a finite number")
    check(bound.shape in ((), found.shape[-1:]), "limit", bound.shape, "give one number, or one for each world")
    return (bound - np.minimum(found, bound)).mean(axis=(-2, -1))


def _scores(scores: ArrayLike) -> np.ndarray:
    return as_array("scores", scores, "[..., K seeds, W worlds]")
