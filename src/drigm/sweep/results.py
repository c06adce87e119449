"""What came out of a sweep: one row per point and world, as a CSV file and as a table."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from drigm.config import TrainConfig
from drigm.evaluate import ShiftScore, shift_score
from drigm.report.tables import Score, format_table
from drigm.run_directory import seeds_of
from drigm.sweep.plan import Plan, differing
from drigm.train import Run, load_run

EXPLORING = "exploring"  # the column of points that are only trained: the score of the last tenth of training


class Swept(NamedTuple):
    """A sweep that has come to its end; prints as a table.

    Attributes:
        path: its folder, with a run directory per point.
        points: config of every point.
        scores: of the finished points, in each world.
        failures: a sentence for every point that failed.
    """

    path: Path
    points: dict[str, TrainConfig]
    scores: dict[str, list[ShiftScore]]
    failures: dict[str, str]

    def run(self, point: str) -> Run:
        """Return the finished run of ``point``."""
        config = self.points[point]  # what the caller has named, whichever machine has trained it
        return load_run(self.path / point, env=config.env, env_python=config.env_python)

    def __str__(self) -> str:
        rows = [
            {"point": name, **{s.name: Score(s.mean, s.se if len(s.per_seed) > 1 else math.nan) for s in scores}}
            for name, scores in self.scores.items()
        ]
        return format_table(rows) if rows else "no point has finished"


def collect(plan: Plan, failures: dict[str, str]) -> Swept:
    """Return the scores of all finished points, and write ``scores.csv``."""
    scores = {name: _scores(plan, name) for name in plan.points if plan.is_finished(name)}
    swept = Swept(plan.folder, plan.points, scores, failures)
    _write(swept)
    return swept


def _scores(plan: Plan, point: str) -> list[ShiftScore]:
    evaluation = plan.evaluation(point)
    if evaluation is not None:
        return evaluation.scores
    per_seed = []
    for seed in seeds_of(plan.points[point]):
        scores = [row["score"] for row in plan.directory(point).read_metrics(seed)]
        last = [x for x in scores[-max(1, len(scores) // 10) :] if math.isfinite(x)]
        per_seed.append(float(np.mean(last)) if last else math.nan)
    return [shift_score(EXPLORING, np.asarray(per_seed))]


def _write(swept: Swept) -> None:
    """One line per point and world: the settings that differ, mean and standard error over seeds, each seed's score."""
    settings = differing(list(swept.points.values()))
    with open(swept.path / "scores.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["point", *settings, "world", "mean", "se", "per_seed"])
        for name, scores in swept.scores.items():
            given = [getattr(swept.points[name], setting) for setting in settings]
            for s in scores:
                per_seed = " ".join(repr(x) for x in s.per_seed)
                writer.writerow([name, *given, s.name, repr(s.mean), repr(s.se), per_seed])
