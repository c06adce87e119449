"""What a tuning has found: the choice, its price, what it is predicted to gain and, afterwards, what the truth was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from drigm.evaluation.statistics import VERDICT_SEEDS, Interval
from drigm.experiments.tune.asked import Group, label
from drigm.experiments.tune.choose import Fold, allowed, choose_point, folds, gains, predicted_gain, prices
from drigm.experiments.tune.search import Point, by_radius
from drigm.experiments.tune.trials import Trial
from drigm.report.tables import format_table


class Truth(NamedTuple):
    """How the points did in worlds that the choice never saw; gains are shares of what the non-robust team gets.

    Attributes:
        worlds: as they were asked for.
        names: of the worlds.
        gains: of every finished point, in the outcome's order.
        hindsight: the place of the point within the budget that gained most.
        paper: the paper's radius for this method as a point, and its gain; None where the paper has none.
    """

    worlds: str
    names: Sequence[str]
    gains: Sequence[Interval]
    hindsight: int
    paper: tuple[Point, Interval] | None = None

    def reached(self, chosen: int) -> float:
        """Return which share of the best gain in hindsight a point got; nan where nothing gains anything."""
        best = self.gains[self.hindsight].estimate
        return self.gains[chosen].estimate / best if best > 0.0 else float("nan")


class Outcome(NamedTuple):
    """A tuning that has come to its end; prints as a table and three sentences.

    Attributes:
        method: and where it was trained, as in ``VDN in supply:serial4``.
        seeds: of every point.
        budget: the share that a choice may cost at home.
        groups: of source worlds, each of which was held out once.
        finished: trials; the team without robustness is the first, the others come by their radius.
        lost: trials that were pruned or have failed.
        chosen: the place of the choice among ``finished``.
        prices: of ``finished`` at home, as shares of what the non-robust team gets.
        gains: of ``finished`` over all groups, likewise; that of the choice is rosy, because it was chosen by it.
        predicted: the gain of the choice in worlds that had no part in it.
        folds: what is chosen without each group, and what that gains there.
        truths: none where nobody asked.
    """

    method: str
    seeds: int
    budget: float
    groups: Sequence[Group]
    finished: Sequence[Trial]
    lost: Sequence[Trial]
    chosen: int
    prices: Sequence[Interval]
    gains: Sequence[Interval]
    predicted: Interval
    folds: Sequence[Fold]
    truths: Sequence[Truth] = ()

    @property
    def point(self) -> Point:
        """The settings that were chosen."""
        return self.finished[self.chosen].point

    def sentences(self) -> list[str]:
        """Return what was chosen, what that costs and should gain, and what the truth was."""
        return [self._choice(), self._prediction(), *(self._truth(truth) for truth in self.truths or [None])]

    def _choice(self) -> str:
        tried = len(self.finished) + len(self.lost)
        lost = [f"{n} {state}" for state in ("pruned", "failed") if (n := [t.state for t in self.lost].count(state))]
        how = f" ({', '.join(lost)})" if lost else ""
        return (
            f"{self.finished[self.chosen].name} was chosen for {self.method} out of {tried} points{how}: of those that "
            f"are at most {100 * self.budget:.3g} % worse at home than the non-robust team, it gains most in "
            f"{len(self.groups)} groups of source worlds."
        )

    def _prediction(self) -> str:
        word = ""
        if self.seeds < VERDICT_SEEDS:
            word = f", of {self.seeds} seed{'s' if self.seeds > 1 else ''}, too few for a verdict"
        elif self.chosen:
            word = ", clear of zero" if self.predicted.low > 0 else ", not clear of zero"
        return (
            f"It costs {percent(self.prices[self.chosen])} at home and is predicted to gain {percent(self.predicted)} "
            f"in worlds that had no part in its choice{word}."
        )

    def _truth(self, truth: Truth | None) -> str:
        if truth is None:
            return "No truth was asked for: --truth WORLDS plays worlds that the choice has not seen."
        reached, best = truth.reached(self.chosen), self.finished[truth.hindsight].name
        of = (
            f"{reached:.0%} of what the best in hindsight did ({best})"
            if reached == reached
            else "no point within the budget gained there"
        )
        paper = "the paper has no radius for this method"
        if truth.paper is not None:
            paper = f"the paper's ({label(truth.paper[0])}) {percent(truth.paper[1])}"
        return (
            f"In the held-out truth, {truth.worlds}, it gained {percent(truth.gains[self.chosen])}: {of}; "
            f"always 0 gains nothing, {paper}."
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each point: its price, its gain and, where it was asked for, its gain in the truth."""
        found = list[dict[str, Any]]()
        within = allowed(np.stack([trial.home for trial in self.finished]), self.budget)
        for i, trial in enumerate(self.finished):
            row = {"point": trial.name, "state": "chosen" if i == self.chosen else "" if within[i] else "too dear"}
            row |= {"price %": _percents(self.prices[i]), "gain %": _percents(self.gains[i])}
            found.append(row | {f"truth {truth.worlds} %": _percents(truth.gains[i]) for truth in self.truths})
        return [*found, *({"point": trial.name, "state": trial.state} for trial in self.lost)]

    def fold_rows(self) -> list[dict[str, Any]]:
        """Return a row for each group: what is chosen without it, and what that gains there."""
        return [
            {
                "held out": self.groups[g].title,
                "chosen without it": self.finished[p].name,
                "gain there %": _percents(gain),
            }
            for g, p, gain in self.folds
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything that tune.json says, shares as numbers; an interval that nobody knows is NaN."""
        points = [
            {
                "point": trial.point,
                "state": "finished",
                "price": price._asdict(),
                "gain": gain._asdict(),
                "home": trial.home.tolist(),
                "source": trial.source.tolist(),
            }
            for trial, price, gain in zip(self.finished, self.prices, self.gains, strict=True)
        ]
        return {
            "chosen": self.point,
            "price": self.prices[self.chosen]._asdict(),
            "predicted_gain": self.predicted._asdict(),
            "budget": self.budget,
            "groups": [group.title for group in self.groups],
            "folds": [
                {"held_out": self.groups[g].title, "chosen": self.finished[p].point, "gain": gain._asdict()}
                for g, p, gain in self.folds
            ],
            "trials": [
                *points,
                *({"point": trial.point, "state": trial.state, "note": trial.note} for trial in self.lost),
            ],
            "truth": [self._truth_dict(truth) for truth in self.truths],
        }

    def _truth_dict(self, truth: Truth) -> dict[str, Any]:
        best = truth.gains[truth.hindsight]
        rivals = {"always_0": {"point": self.finished[0].point, "gain": truth.gains[0]._asdict()}, "paper": None}
        if truth.paper is not None:
            rivals["paper"] = {"point": truth.paper[0], "gain": truth.paper[1]._asdict()}
        return {
            "worlds": truth.worlds,
            "names": list(truth.names),
            "gain": truth.gains[self.chosen]._asdict(),
            "hindsight": {"point": self.finished[truth.hindsight].point, "gain": best._asdict()},
            "share_of_hindsight": truth.reached(self.chosen),
            **rivals,
            "gains": {t.name: gain._asdict() for t, gain in zip(self.finished, truth.gains, strict=True)},
        }

    def __str__(self) -> str:
        return "\n".join([format_table(self.rows()), "", *self.sentences()])


def outcome_of(
    method: str, trials: Sequence[Trial], reference: Point, radii: Sequence[str], groups: Sequence[Group], budget: float
) -> Outcome:
    """Return what follows from the trials, that of ``reference`` among them."""
    ordered = [trials[i] for i in by_radius([trial.point for trial in trials], radii)]
    finished = [trial for trial in ordered if trial.state == "finished"]
    finished.sort(key=lambda trial: trial.point != reference)  # stable: the others keep their order
    home, source = np.stack([t.home for t in finished]), np.stack([t.source for t in finished])
    return Outcome(
        method=method,
        seeds=home.shape[1],
        budget=budget,
        groups=groups,
        finished=finished,
        lost=[trial for trial in ordered if trial.state != "finished"],
        chosen=choose_point(home, source, budget),
        prices=prices(home),
        gains=gains(source.mean(axis=2)),
        predicted=predicted_gain(home, source, budget),
        folds=folds(home, source, budget),
    )


def percent(gain: Interval) -> str:
    """Return ``8.1 % [6.0, 10.2]``, without the brackets where one seed allows no interval."""
    ends = "" if gain.low != gain.low else f" [{100 * gain.low:.1f}, {100 * gain.high:.1f}]"
    return f"{100 * gain.estimate:.1f} %{ends}"


def _percents(gain: Interval) -> str:
    return percent(gain).replace(" %", "")
