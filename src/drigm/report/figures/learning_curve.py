"""How runs learnt: the curve of a method, and its picture in the run directory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drigm.core.naming import short
from drigm.evaluation.statistics import per_world
from drigm.report.figures.curves import Band, leaders, learning_bands
from drigm.report.figures.style import save, score_axis
from drigm.training.runs import Run


def draw_learning_curve(run: Run) -> None:
    """Save the run's learning curve (score of the exploring team over environment steps) in its directory."""
    band, label = learning_band([run], "score"), f"{short(run.config.factorization)} {short(run.config.uncertainty)}"
    title = "No values yet" if band is None else leaders({label: band.intervals[-1]}, "at the end")
    bands = {} if band is None else {label: band}
    save(
        learning_bands(bands, ylabel=score_axis(run.config.env, when="while exploring"), title=title),
        run.directory.curve_file,
    )


def learning_band(runs: Sequence[Run], column: str) -> Band | None:
    """Return the learning curve of all seeds with its interval, or None where no episode ended.

    Seeds may have measured at different steps: the curve covers those that all reached, by linear interpolation.
    """
    curves = [curve for run in runs for seed in run.seeds if len((curve := _curve(run, seed, column))[0])]
    if not curves:
        return None
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    steps = np.unique(np.concatenate([x for x, _ in curves]))
    steps = steps[(steps >= first) & (steps <= last)]
    if not len(steps):
        return None
    return Band(steps.tolist(), per_world(np.stack([np.interp(steps, *curve) for curve in curves])))


def _curve(run: Run, seed: int, column: str) -> tuple[np.ndarray, np.ndarray]:
    rows = run.directory.read_metrics(seed)
    points = np.array([(row["step"], row.get(column, np.nan)) for row in rows]).reshape(-1, 2)
    return tuple(points[np.isfinite(points[:, 1])].T)  # type: ignore[return-value]
