"""Which points to try next: all of a small grid, otherwise what Optuna's TPE sampler suggests.

The study lives in memory. Whoever goes on with a tuning asks it the same questions and gets the same answers, because
the sampler is seeded and the run directories know what came of every point; so there is no second record to keep.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from drigm.core.config import FIELDS
from drigm.core.errors import UserError, check
from drigm.experiments.tune.asked import Axis

ROUND = 4  # points that TPE suggests at a time; they may run at once, and the same are suggested on any machine
TRIALS = 20  # where there is no grid and nobody says how many
MOST = 1000  # a slip rather than a plan
DIGITS = 3  # of a number that is suggested: a folder's name, and what one would type

Point = dict[str, Any]


class Told(NamedTuple):
    """What came of a point: its gain, and how far it is above the budget (0 or less: within); nan if it failed."""

    gain: float
    above: float
    pruned: bool = False


def load_optuna() -> Any:
    """Return the module ``optuna``, which says nothing by itself; `UserError` says how to install it."""
    try:
        optuna = importlib.import_module("optuna")
    except ModuleNotFoundError:
        raise UserError("tune: Optuna is not installed: pip install 'drigm[tune]'.") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def number_of_trials(axes: Sequence[Axis], trials: int) -> tuple[int, bool]:
    """Return how many points are tried, and whether that is the whole grid; ``trials`` 0: what fits.

    Raises:
        UserError: a number below 0, or a grid that is too large to be meant.
    """
    check(0 <= trials <= MOST, "trials", trials, f"a whole number from 0 (the whole grid, or {TRIALS}) to {MOST}")
    size = math.prod(len(axis.values) for axis in axes) if all(axis.values for axis in axes) else math.inf
    if size <= trials or (not trials and size < math.inf):
        check(size <= MOST, "over", f"{size} points", f"a grid of at most {MOST}, or give trials")
        return int(size), True
    return trials or TRIALS, False


def try_points(
    axes: Sequence[Axis], trials: int, first: Point, evaluate: Callable[[list[Point]], Sequence[Told]]
) -> list[Point]:
    """Try points, ``first`` first where it is one of them, and return them in their order, each once.

    Args:
        axes: what to search over.
        trials: see `number_of_trials`.
        first: the team without robustness.
        evaluate: returns what came of each of these points; it is told of some of them again.
    """
    optuna, (count, whole) = load_optuna(), number_of_trials(axes, trials)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0, constant_liar=True))
    grid = [{}]
    for axis in axes:
        grid = [{**point, axis.name: value} for point in grid for value in axis.values] if whole else []
    for point in grid or ([first] if all(_holds(axis, first[axis.name]) for axis in axes) else []):
        study.enqueue_trial(point)
    tried = list[Point]()
    left = count
    while left:
        asked = [study.ask() for _ in range(left if whole else min(left, ROUND))]
        points = [{axis.name: _suggested(trial, axis) for axis in axes} for trial in asked]
        tried += [point for i, point in enumerate(points) if point not in tried and point not in points[:i]]
        for trial, told in zip(asked, evaluate(points), strict=True):
            _tell(optuna, study, trial, told)
        left -= len(asked)
    return tried


def _holds(axis: Axis, value: Any) -> bool:
    return value in axis.values if axis.values else axis.low <= value <= axis.high


def _suggested(trial: Any, axis: Axis) -> Any:
    if axis.values:
        return trial.suggest_categorical(axis.name, axis.values)
    if isinstance(FIELDS[axis.name].default, int):
        return trial.suggest_int(axis.name, int(axis.low), int(axis.high))
    found = float(f"{trial.suggest_float(axis.name, axis.low, axis.high):.{DIGITS}g}")
    return min(max(found, axis.low), axis.high)


def _tell(optuna: Any, study: Any, trial: Any, told: Told) -> None:
    states = optuna.trial.TrialState
    if told.pruned:
        study.tell(trial, state=states.PRUNED)
    elif not math.isfinite(told.gain):
        study.tell(trial, state=states.FAIL)
    else:
        trial.set_constraint("budget", told.above)
        study.tell(trial, told.gain)


def by_radius(points: Sequence[Mapping[str, Any]], radii: Sequence[str]) -> list[int]:
    """Return the places of ``points`` in the order of their radii, so that of equals the smaller one is taken."""
    return sorted(range(len(points)), key=lambda i: [points[i].get(name, 0.0) for name in radii])
