"""Trainings of a sweep that end early, because they have fallen far behind one of its points at home.

What is compared is what the exploring teams got lately: returns, or of battles the share that was won, over a tenth of
the training and all seeds, at the same step of both. Rows of metrics come at fixed steps and the point that others are
held against is trained first, so who is pruned depends on neither engine nor workers nor on where a sweep was stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from drigm.core.config import TrainConfig
from drigm.core.errors import check, choose
from drigm.storage.run_directory import RunDirectory, seeds_of
from drigm.training.session import Callback, Reached

FROM = 0.5  # of the training: before, teams explore too much to say anything
LATELY = 0.1  # of the training: what a comparison is about
SURE = 3.0  # standard errors that are taken for chance


class Pruning(NamedTuple):
    """End trainings that are ``worse`` than the point ``against`` by that share of the size of what it got."""

    against: str
    worse: float = 0.25


def read_pruning(given: Any, names: Sequence[str], together: int) -> Pruning | None:
    """Return what a sweep file's table ``[prune]`` says; `UserError` if it is not as it should be."""
    if given is None:
        return None
    fine = isinstance(given, dict) and "against" in given
    check(fine, "prune", given, "it must be a table with against, the name of a point, and worse")
    for key in given:
        choose("prune", key, Pruning._fields)
    choose("prune.against", given["against"], list(names))
    worse = given.get("worse", Pruning("").worse)
    number = isinstance(worse, int | float) and not isinstance(worse, bool) and 0.0 <= worse < math.inf
    check(number, "prune.worse", worse, "a share of 0 or more, as in 0.25")
    message = "give together = 1 too: points that train as one program end together"
    check(together == 1, "prune", given["against"], message)
    return Pruning(given["against"], float(worse))


def got_lately(directory: RunDirectory, config: TrainConfig, step: int) -> tuple[float, float]:
    """Return what the exploring teams of a run got up to ``step``, over `LATELY` of it, and its standard error.

    It is nan where no episode ended; with one row alone nobody knows the error, and it is infinite.
    """
    since = step - LATELY * config.steps
    rows = [row for seed in seeds_of(config) for row in directory.read_metrics(seed) if since < row["step"] <= step]
    values = [row["win_rate"] if math.isfinite(row["win_rate"]) else row["return"] for row in rows]
    known = np.array([value for value in values if math.isfinite(value)])
    if len(known) < 2:
        return float(known.mean()) if len(known) else math.nan, math.inf
    return float(known.mean()), float(known.std(ddof=1) / math.sqrt(len(known)))


def is_hopeless(prune: Pruning, reference: tuple[float, float], own: tuple[float, float]) -> bool:
    """Return whether a team is worse than the reference by more than is allowed, whatever chance has done to both.

    Each is a mean and its standard error. What is allowed is a share of the reference's size: costs are negative.
    """
    clear = reference[0] - own[0] - SURE * math.hypot(reference[1], own[1])
    return clear > prune.worse * abs(reference[0])  # nan: nobody knows


def pruning_callback(
    prune: Pruning, reference: tuple[RunDirectory, TrainConfig], own: tuple[RunDirectory, TrainConfig]
) -> Callback:
    """Return what a training asks after every row of metrics whether to go on."""

    def goes_on(reached: Reached) -> bool:
        if not FROM * reached.steps <= reached.step < reached.steps:
            return True
        return not is_hopeless(prune, got_lately(*reference, reached.step), got_lately(*own, reached.step))

    return goes_on
