"""The page of the study: what held, tables, a week to play through, and how far the simulators are apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from drigm.core.types import map_tree
from drigm.envs.api import Environment
from drigm.evaluation.controllers import TITLES, controller
from drigm.evaluation.players import fixed, teams, wrapped
from drigm.experiments.reproduce.transfer.gap import measure_gap
from drigm.experiments.reproduce.transfer.measures import Measured
from drigm.experiments.reproduce.transfer.tables import (
    PLACE_TITLES,
    Predictions,
    difference,
    pi_score,
    seed_scores,
    table_rows,
)
from drigm.experiments.reproduce.transfer.week import Player, week_section
from drigm.report.figures.dots import Dot, dot_rows
from drigm.report.html import Html, Section, figure_html, paragraph, save_figures, table_html, write_page
from drigm.training.runs import Run

FLOOR = 0.7  # of the picture's axis
COMMAND = "drigm reproduce building-transfer"


class Team(NamedTuple):
    """A trained row."""

    title: str
    run: Run


def write_transfer_page(
    out: Path,
    found: Sequence[Measured],
    predicted: Predictions,
    trained: Sequence[Team],
    home: Environment,
    envs: Mapping[str, Environment],
    say: Callable[[str], None],
) -> Path:
    """Write ``report.html`` and its figures into ``out``; return the page."""
    sections = [
        place_section(place, rows, predicted)
        for place in PLACE_TITLES
        if (rows := [one for one in found if one.place == place])
    ]
    place, env = next(iter(envs.items()))
    here = [one for one in found if one.place == place]
    if trained:
        say("a week to play through")
        sections.append(_week(here, trained, home, env))
    say("the gap between the simulators")
    sections.append(gap_section(measure_gap(out, home, dict(envs), say)))
    page = out / "report.html"
    write_page(page, "Trained in a simple model, deployed in EnergyPlus", lead(here), sections, COMMAND)
    save_figures(sections, out / "figures")
    return page


def lead(here: Sequence[Measured]) -> str:
    """Return what the page says, in three sentences: the best team against PI, in the first place."""
    pi = pi_score(here)
    learnt = [one for one in here if len(seed_scores(one)) > 1]
    lead = "Teams learnt in SustainGym's model of an office in Tucson and were deployed unchanged in EnergyPlus."
    if pi is None or not learnt:
        return lead
    best = max(learnt, key=lambda one: float(seed_scores(one).mean()))
    seeds = seed_scores(best)
    less = difference(seeds, pi)
    clear = "clear of zero" if less.low > 0 or less.high < 0 else "which leaves zero in"
    return (
        f"{lead} {best.row} has the highest mean of what learnt, {seeds.mean():.3f} over {len(seeds)} seeds, "
        f"PI {pi:.3f}: a difference of {less.estimate:+.4f} [{less.low:+.4f}, {less.high:+.4f}], {clear}."
    )


def place_section(place: str, found: Sequence[Measured], predicted: Predictions) -> Section:
    """Return the picture and the table of one place."""
    pi = pi_score(found)
    assert pi is not None
    title = f"{PLACE_TITLES[place]}: mean score of six cities"
    dots = [_dot(one, predicted) for one in found]
    figure = dot_rows(dots, reference=(TITLES["pi"], pi), floor=FLOOR, title=title, axis="Score (1 is best)")
    lead = paragraph(
        "Means over cities, 20 days of each; bars are Student's 95 % intervals over seeds. 'less PI' is the difference",
        "from the hand-picked PI. 'predicted' is the lowest and the highest of 32 worlds of the simple model, scored",
        f"before deployment. Electricity is known only where machines are modelled. Made by {COMMAND}.",
    )
    alt = f"{title}; the numbers stand in the table below"
    body = figure_html(figure, alt) + lead + table_html(table_rows(found, predicted))
    return Section(PLACE_TITLES[place], f"place-{place}", Html(body), {"scores": figure})


def gap_section(gap: Mapping[str, Sequence[Mapping[str, object]]]) -> Section:
    """Return both tables about how far the simulators are apart."""
    actions = paragraph(
        "What the simple model makes of the levels that EnergyPlus was given, from the same start, in K: root mean",
        "squares over zones and days after some time, and the mean (simple model less EnergyPlus) over the day. Mean",
        "levels, in parts of full power, say how much more heat or cold one needs than the other on the same days.",
    )
    responses = paragraph(
        "What full power in one zone adds to that zone's own temperature, in K, and the gains that the SIMC rule",
        "makes of it. In the simple model a zone warms its neighbours for hours; in EnergyPlus it hardly does.",
    )
    body = actions + table_html([_digits(row, 2) for row in gap["actions"]]) + responses
    body += table_html([_digits(row, 3) for row in gap["responses"]])
    return Section("The gap between the simulators", "gap", Html(body))


def _digits(row: Mapping[str, object], digits: int) -> dict[str, object]:
    return {name: f"{x:.{digits}f}" if isinstance(x, float) else x for name, x in row.items()}


def _dot(one: Measured, predicted: Predictions) -> Dot:
    seeds = seed_scores(one)
    found = difference(seeds, 0.0)
    return Dot(one.row, float(seeds.mean()), found.low, found.high, predicted.get(one.row), len(seeds) > 1)


def _week(here: Sequence[Measured], trained: Sequence[Team], home: Environment, env: Environment) -> Section:
    """Return the week of the best and the worst team, each its median seed, and of both PI, in the worst row's city."""
    scored = {one.row: one for one in here}
    ranked = sorted(trained, key=lambda team: -float(seed_scores(scored[team.title]).mean()))
    worst = scored[ranked[-1].title]
    city = worst.cities[int(worst.values["score"].mean(axis=1).argmin())]
    rows = [_median_seed(team, scored[team.title], env) for team in ranked[:1] + ranked[1:][-1:]]
    rows += [Player(TITLES[name], fixed(controller(name, env, home))) for name in ("pi", "pi_tuned")]
    return week_section(env, city, rows)


def _median_seed(team: Team, scored: Measured, env: Environment) -> Player:
    seeds = seed_scores(scored)
    place = int(np.argsort(seeds)[len(seeds) // 2])
    weights = map_tree(lambda x: x[place : place + 1], team.run.weights().agents)
    return Player(team.title, teams(weights, wrapped(env.spec, team.run.env.spec.agents, 0.0)))
