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


def got_lately(directory: RunDirectory, config: TrainConfig, step: int) -> float:
    """Return what the exploring teams of a run got up to ``step``, over `LATELY` of it; nan where no episode ended."""
    since = step - LATELY * config.steps
    rows = [row for seed in seeds_of(config) for row in directory.read_metrics(seed) if since < row["step"] <= step]
    values = [row["win_rate"] if math.isfinite(row["win_rate"]) else row["return"] for row in rows]
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def loss(reference: float, found: float) -> float:
    """Return how much worse than ``reference`` something is, as a share of the reference's size: costs are negative."""
    return (reference - found) / max(abs(reference), 1e-9)


def pruning_callback(
    prune: Pruning, reference: tuple[RunDirectory, TrainConfig], own: tuple[RunDirectory, TrainConfig]
) -> Callback:
    """Return what a training asks after every row of metrics whether to go on."""

    def goes_on(reached: Reached) -> bool:
        if not FROM * reached.steps <= reached.step < reached.steps:
            return True
        behind = loss(got_lately(*reference, reached.step), got_lately(*own, reached.step))
        return not behind > prune.worse  # nan: nobody knows

    return goes_on
