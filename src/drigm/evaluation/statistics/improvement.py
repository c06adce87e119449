"""The probability that one method beats another."""

from __future__ import annotations

import functools
from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike

from drigm.evaluation.statistics.arrays import as_pair
from drigm.evaluation.statistics.bootstrap import Arrays, BootstrapOptions, Interval, arrays_of, check_paired
from drigm.evaluation.statistics.student import improvement_ends


def probability_of_improvement(
    x: ArrayLike,
    y: ArrayLike,
    paired: bool = False,
    whole_seeds: bool = False,
    **options: Unpack[BootstrapOptions],
) -> Interval:
    """Return the probability that a seed of ``x`` scores higher than one of ``y``, averaged over worlds.

    ``1/W sum_w 1/(KL) sum_kl [x_kw > y_lw] + [x_kw = y_lw] / 2``, the Mann-Whitney U over KL (Agarwal et al. 2021,
    section 4.3). With fewer than 20 seeds of either its interval is a score interval
    (`drigm.evaluation.statistics.student.improvement_ends`), else a bootstrap's that resamples the seeds of each method
    in each world apart.

    Args:
        x: [K, W]; or [K], one number a seed, such as `worst_per_seed`.
        y: [L, W] or [L].
        paired: row k of both is the same seed; a resample draws the same seeds of both. The estimate
            stays, and so does a score interval.
        whole_seeds: draw seeds with all their worlds; see `stratified_bootstrap`.
        options: see `BootstrapOptions`.

    Raises:
        UserError: a shape does not fit, an array is empty or not finite, `paired` scores differ in seeds, or an
            option is out of range.
    """
    return _improvement(x, y, paired, whole_seeds, True, **options).interval()


def probability_of_improvement_per_world(
    x: ArrayLike, y: ArrayLike, paired: bool = False, **options: Unpack[BootstrapOptions]
) -> list[Interval]:
    """Return the `probability_of_improvement` in each of the W worlds; arguments and errors are the same."""
    return _improvement(x, y, paired, False, False, **options).intervals()


def _improvement(
    x: ArrayLike, y: ArrayLike, paired: bool, whole_seeds: bool, average: bool, **options: Unpack[BootstrapOptions]
) -> Arrays:
    x, y = as_pair(x, y)
    check_paired(paired, x, y)
    wins = _wins(x, y)
    strata = 1 if whole_seeds else x.shape[1]

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        times_x = _times_drawn(rng, n, strata, len(x))
        times_y = times_x if paired else _times_drawn(rng, n, strata, len(y))
        return reduce(_weighted_wins(times_x, wins, times_y))

    def reduce(per_world: np.ndarray) -> np.ndarray:  # [..., W]
        return per_world.mean(axis=-1) if average else per_world

    estimate = reduce(wins.mean(axis=(-2, -1)))
    few_seeds = functools.partial(improvement_ends, estimate, (len(x), len(y)))
    return arrays_of(estimate, draw, few_seeds, min(len(x), len(y)), x.size + 2 * y.size, **options)


def _wins(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return ``[x > y] + [x = y] / 2`` of each pair of seeds; [K, W], [L, W] -> [W, K, L]."""
    first, second = x.T[:, :, None], y.T[:, None, :]
    return (first > second) + 0.5 * (first == second)


def _times_drawn(rng: np.random.Generator, n: int, strata: int, seeds: int) -> np.ndarray:
    """Return how often each seed is drawn in a resample of all, [strata, n, seeds]."""
    times = rng.multinomial(seeds, np.full(seeds, 1.0 / seeds), size=(n, strata))
    return times.swapaxes(0, 1).astype(np.float64)


def _weighted_wins(times_x: np.ndarray, wins: np.ndarray, times_y: np.ndarray) -> np.ndarray:
    """Return ``sum_kl n_k wins_kl m_l / (KL)``; [W, n, K], [W, K, L], [W, n, L] -> [n, W]."""
    return ((times_x @ wins) * times_y).sum(axis=-1).T / (wins.shape[1] * wins.shape[2])
