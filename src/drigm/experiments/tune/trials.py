"""The trials of a tuning: points of one sweep, and what they got at home and in the source worlds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drigm.core.errors import UserError
from drigm.envs.api import Environment
from drigm.evaluation.scores import ShiftScore, returns_of
from drigm.experiments.sweep import sweep
from drigm.experiments.sweep.results import Swept
from drigm.experiments.tune.asked import Group, Source, label
from drigm.experiments.tune.choose import prices
from drigm.experiments.tune.search import Point, Told

SLACK = 0.25  # beyond the budget, as a share: who is so far behind home while training has no hope
NOTHING = np.zeros(0)
Say = Callable[[str], None]


class Trial(NamedTuple):
    """A point that was tried; ``home`` [K] and ``source`` [K, G] are empty where it was pruned or has failed."""

    point: Point
    state: str  # finished, pruned, failed
    note: str = ""
    home: np.ndarray = NOTHING
    source: np.ndarray = NOTHING

    @property
    def name(self) -> str:
        return label(self.point)


class Trials:
    """The sweep that grows with every round; whatever stands in its folder is not done again."""

    def __init__(
        self,
        folder: Path,
        base: Mapping[str, Any],
        reference: Point,
        env: Environment,
        source: Source,
        world_count: int,
        budget: float,
        engine: Mapping[str, Any],
        say: Say,
    ) -> None:
        self.folder, self.base, self.reference, self.env, self.source = folder, base, reference, env, source
        self.world_count, self.budget, self.engine, self.say = world_count, budget, engine, say
        self.points: dict[str, Point] = {label(reference): reference}
        self._swept: Swept | None = None

    @property
    def swept(self) -> Swept:
        """What has come out of all rounds so far."""
        assert self._swept is not None
        return self._swept

    def sweep_of(self, points: Mapping[str, Point], prune: bool) -> dict[str, Any]:
        """Return what `drigm.sweep` is given: each point a program of its own, so that one of them can end early."""
        content = {
            "name": "trials",
            "together": 1,
            "base": dict(self.base),
            "points": {name: dict(point) for name, point in points.items()},
            "evaluate": {"worlds": self.source.text, "world_count": self.world_count},
        }
        against = {"against": label(self.reference), "worse": self.budget + SLACK}
        return {**content, "prune": against} if prune else content

    def evaluate(self, points: Sequence[Point]) -> list[Told]:
        """Train and score ``points``, and the team without robustness; return what came of each."""
        self.points |= {label(point): point for point in points}
        self._swept = sweep(self.sweep_of(self.points, prune=True), out=self.folder, **self.engine)
        home = label(self.reference)
        if home in self.swept.failures:
            raise UserError(f"tune: the team without robustness has failed: {self.swept.failures[home]}")
        reference, told = self.trial(home), list[Told]()
        for point in points:
            trial = self.trial(label(point))
            if trial.state != "finished":
                told.append(Told(np.nan, np.nan, trial.state == "pruned"))
                self.say(f"trial={trial.name} state={trial.state} # {trial.note}")
                continue
            price = prices(np.stack([reference.home, trial.home]))[1].estimate
            gain = float((trial.source - reference.source).mean()) / max(abs(float(reference.source.mean())), 1e-9)
            told.append(Told(gain, price - self.budget))
            self.say(f"trial={trial.name} state=finished price={price:.4f} gain={gain:.4f}")
        return told

    def trial(self, name: str) -> Trial:
        """Return what has become of a point."""
        point = self.points[name]
        if name in self.swept.pruned:
            return Trial(point, "pruned", f"too far behind at home after {self.swept.pruned[name]} steps")
        if name not in self.swept.scores:
            return Trial(point, "failed", self.swept.failures.get(name, "it did not come to its end"))
        return scored(point, self.swept.scores[name], self.env, self.source.groups)


def scored(point: Point, scores: Sequence[ShiftScore], env: Environment, groups: Sequence[Group]) -> Trial:
    """Return a finished trial of the scores in all worlds, home first."""
    got = returns_of(env, np.array([score.per_seed for score in scores], np.float64))  # [W, K]
    source = np.stack([got[list(group.places)].mean(axis=0) for group in groups], axis=1)
    return Trial(point, "finished", home=got[0], source=source)
