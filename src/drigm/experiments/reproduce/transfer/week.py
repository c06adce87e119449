"""A week in EnergyPlus as several rows lived it, for the page to play through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from drigm.core.naming import spaced
from drigm.envs.api import Environment
from drigm.envs.building import dataset
from drigm.envs.shifts import shift_suite
from drigm.evaluation.players import Players
from drigm.experiments.reproduce.transfer.measures import BUILDING, Days, play_recorded
from drigm.report.figures.floor_plan import floors, zone_names
from drigm.report.html import Html, Section, paragraph
from drigm.report.sections.building_day import SCRIPTS, Day, Lived, day_data, day_html, still_figure, still_step

WEEK = tuple(range(91, 98))  # of the year, from 0: the first week of April, in which offices are heated and cooled


class Player(NamedTuple):
    """One row of the week: its name, and one policy."""

    label: str
    players: Players


def week_section(env: Environment, city: str, rows: Sequence[Player]) -> Section:
    """Return the section: seven days of ``city`` to play through, with every two of ``rows`` beside each other.

    Args:
        env: EnergyPlus, in any city.
        city: of its suite ``climate``.
        rows: best first; a still picture shows the first two.
    """
    env = env._replace(eval_seeds=WEEK, num_eval_episodes=len(WEEK))
    (world,) = (world for world in shift_suite(env, "climate") if world.name == city)
    whole = dataset.zones(BUILDING)[0]
    held = np.array([whole.names.index(agent) for agent in env.spec.agents])  # an attic is nobody's
    zones = dataset.Zones(env.spec.agents, *(x[held] for x in whole[1:]))
    lived = {row.label: play_recorded(env, row.players, [world]) for row in rows}
    days = [_day(city, held, e, lived) for e in range(len(WEEK))]
    assert env.spec.regulated is not None
    targets = np.asarray(env.spec.regulated.setpoint)
    data = day_data(days, targets, floors(zones), zone_names(zones.names), still_step(days[0], targets))
    lead = paragraph(f"{spaced(city)}, a week in April; each day begins at midnight with every zone near its target.")
    figures = {"week": still_figure(days[0], zones.names, targets)}
    return Section("A week to play through", "week", Html(lead + day_html(data, "-week")), figures, SCRIPTS)


def _day(city: str, held: np.ndarray, e: int, lived: Mapping[str, tuple[np.ndarray, list[Days]]]) -> Day:
    found = [
        Lived(label, float(scores[0, 0, e]), days.temperatures[0, e][:, held], days.levels[0, e])
        for label, (scores, (days,)) in lived.items()
    ]
    outdoor = next(iter(lived.values()))[1][0].outdoor[0, e]
    return Day(f"{spaced(city)}, day {WEEK[e] + 1} of the year", outdoor, found)
