"""The top of the study's page: what was compared, how it held and whether robustness paid, with one picture."""

from __future__ import annotations

from collections.abc import Sequence

from drigm.envs.building.simulator import PROTOCOL_DAYS
from drigm.evaluation.controllers import TITLES
from drigm.evaluation.statistics import Interval, per_world, worst_world
from drigm.experiments.reproduce.compare import controllers_beside, in_table, matrix, worlds_of
from drigm.experiments.reproduce.runner import Scored
from drigm.experiments.reproduce.verdicts import questions
from drigm.report.figures.dots import Held, held_rows
from drigm.report.figures.style import score_axis
from drigm.report.html import Section, figure_html, paragraph
from drigm.report.sections.summary import NAN, counted, spread

RIVAL = "pi"
EPISODES = {"climate": f"{len(PROTOCOL_DAYS)} days", "noise": "512 battles"}  # by suite


def summary_section(scored: Sequence[Scored]) -> Section:
    """Return three sentences and one picture about the methods of the paper's table, or of the battles."""
    shown = [one for one in scored if in_table(one)] or list(scored)
    rows = [_row(one) for one in shown]
    if alone := controllers_beside(scored).get(RIVAL):
        home, worst = alone[worlds_of(shown[0])[0]], min(alone.values())
        rows.append(Held(TITLES[RIVAL], Interval(home, NAN, NAN), Interval(worst, NAN, NAN), learnt=False))
    figure = held_rows(rows, title="At home and in the worst world", axis=score_axis(shown[0].config.env))
    alt = "; ".join(f"{row.label}: {row.home.estimate:.3f} at home, {row.worst.estimate:.3f} at worst" for row in rows)
    said = [_compared(scored, shown), _held(rows), _paid(scored)]
    caption = "Means over seeds with 95 % intervals; the worst world is each seed's own."
    body = "".join(map(paragraph, said)) + figure_html(figure, alt, caption)
    return Section("In short", "summary", body, {"held": figure})


def _row(one: Scored) -> Held:
    scores = matrix(one)
    return Held(one.title, per_world(scores)[0], worst_world(scores))


def _compared(scored: Sequence[Scored], shown: Sequence[Scored]) -> str:
    seeds, steps = spread(len(one.seeds) for one in scored), spread(one.config.steps for one in scored)
    return (
        f"{len(scored)} methods, {seeds} seeds each, trained for {steps} steps in "
        f"{scored[0].config.env} and then played greedily: "
        f"{EPISODES[scored[0].evaluation.suite]} in each of {len(worlds_of(shown[0]))} worlds."
    )


def _held(rows: Sequence[Held]) -> str:
    learnt = [row for row in rows if row.learnt]
    best = max(learnt, key=lambda row: row.worst.estimate)
    lowest = min(learnt, key=lambda row: row.worst.estimate)
    beside = "".join(f"; {row.label}, which learns nothing, {row.worst.estimate:.3f}" for row in rows if not row.learnt)
    return (
        f"In their worst world the teams in the picture reach from {lowest.worst.estimate:.3f} ({lowest.label}) "
        f"to {best.worst.estimate:.3f} ({best.label}){beside}."
    )


def _paid(scored: Sequence[Scored]) -> str:
    asked = questions(scored)
    if not asked:
        return "Whether robustness paid cannot be told: there is no team to compare with."
    parts = []
    for kind in dict.fromkeys(a.kind for a in asked):
        parts.append(f"against {kind} {counted([a.verdict('worst') for a in asked if a.kind == kind])}")
    return f"Robust methods in the worst world: {'; '.join(parts)}."
