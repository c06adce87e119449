"""What came out of a sweep: one row per point, world and seed as a CSV file, one per point as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from drigm.core.config import TrainConfig
from drigm.evaluation.scores import ShiftScore, shift_score
from drigm.experiments.sweep.plan import Plan, differing
from drigm.report.tables import format_table, scores_by_world, write_csv
from drigm.storage.run_directory import seeds_of
from drigm.training.runs import Run, load_run

EXPLORING = "exploring"  # the column of points that are only trained; see `exploring_score`


class Swept(NamedTuple):
    """A sweep that has come to its end; prints as a table.

    Attributes:
        path: its folder, with a run directory per point.
        points: config of every point.
        scores: of the finished points, in each world.
        failures: a sentence for every point that failed.
        pruned: environment steps of every point whose training was ended early.
    """

    path: Path
    points: dict[str, TrainConfig]
    scores: dict[str, list[ShiftScore]]
    failures: dict[str, str]
    pruned: Mapping[str, int] = MappingProxyType({})

    def run(self, point: str) -> Run:
        """Return the finished run of ``point``."""
        config = self.points[point]  # what the caller has named, whichever machine has trained it
        return load_run(self.path / point, env=config.env, env_python=config.env_python)

    def __str__(self) -> str:
        rows = [{"point": name, **scores_by_world(scores)} for name, scores in self.scores.items()]
        unknown = [name for name, (s, *_) in self.scores.items() if s.name == EXPLORING and math.isnan(s.mean)]
        notes = [f"no score: no episode ended in the training of a seed of {', '.join(unknown)}"] if unknown else []
        notes += [f"{name} fell too far behind and was ended after {step} steps" for name, step in self.pruned.items()]
        return "\n".join([format_table(rows), *notes]) if rows else "no point has finished"


def collect(plan: Plan, failures: dict[str, str]) -> Swept:
    """Return the scores of all finished points, and write ``scores.csv``."""
    finished = [name for name in plan.points if plan.is_finished(name)]
    pruned = {name: plan.directory(name).steps_trained(plan.points[name]) for name in finished if plan.is_pruned(name)}
    scores = {name: _scores(plan, name) for name in finished if name not in pruned}
    swept = Swept(plan.folder, plan.points, scores, failures, pruned)
    _write(swept)
    return swept


def _scores(plan: Plan, point: str) -> list[ShiftScore]:
    evaluation = plan.evaluation(point)
    if evaluation is not None:
        return evaluation.scores
    per_seed = []
    for seed in seeds_of(plan.points[point]):
        per_seed.append(exploring_score([row["score"] for row in plan.directory(point).read_metrics(seed)]))
    return [shift_score(EXPLORING, np.asarray(per_seed))]


def exploring_score(scores: list[float]) -> float:
    """Return the mean over the last tenth of the rows, or the last row where any episode ended; nan if none did."""
    last = [x for x in scores[-max(1, len(scores) // 10) :] if math.isfinite(x)]
    last = last or [x for x in scores if math.isfinite(x)][-1:]
    return float(np.mean(last)) if last else math.nan


def _write(swept: Swept) -> None:
    """One line per point (as ``method``), world and seed, with the settings that differ: as every study's scores."""
    settings = differing(list(swept.points.values()))
    rows = [["method", *settings, "world", "seed", "score"]]
    for name, scores in swept.scores.items():
        config = swept.points[name]
        given = [getattr(config, setting) for setting in settings]
        for s in scores:
            played = zip(seeds_of(config), s.per_seed, strict=True)
            rows += [[name, *given, s.name, str(seed), repr(score)] for seed, score in played]
    write_csv(swept.path / "scores.csv", rows)
