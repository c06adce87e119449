"""Invented results, so that pages and tables can be tested without training: a study, a day, a battle, a figure."""

import numpy as np

from drigm.evaluation.scores import Evaluation, shift_score
from drigm.experiments.reproduce import plan
from drigm.experiments.reproduce.runner import Outcome, Scored, Timing
from drigm.report.figures.style import drawing
from drigm.report.sections.battle import Battle
from drigm.report.sections.building_day import Day, Lived
from drigm.report.sections.supply_chain import World, Year

CITIES = ("Tucson", "Tampa", "Honolulu", "ElPaso", "PortAngeles", "NewYork")
NOISES = tuple(f"obs_noise={x}" for x in (0, 0.05, 0.1, 0.2, 0.4))


def invented(config, suite, level=0.9):
    """A run whose seed k scores ``level`` + k / 1000, a hundredth less in each further world."""
    worlds = CITIES if suite == "climate" else NOISES
    scores = [shift_score(w, level - i / 100 + np.arange(config.seeds) / 1000) for i, w in enumerate(worlds)]
    return Scored(config, Evaluation(suite, scores))


def invented_study():
    """The whole study; robust teams score 0.05 more than the others."""
    scored = {}
    for group in plan():
        more = 0.05 if group.configs[0].uncertainty != "nominal" else 0.0
        scored[group.name] = [invented(c, group.suite, 0.85 + more) for c in group.configs]
    return Outcome(scored, [Timing(g.name, k, 12.0 * k) for g in plan() if (k := sum(c.seeds for c in g.configs))])


def plot(color="#222222"):
    with drawing(4, 3) as figure:
        ax = figure.add_subplot()
        ax.plot([0, 1], [0, 1], color=color)
        ax.set_title("A <title> & more")
    return figure


def small_day():
    t = np.linspace(20, 24, 48)[:, None] + np.zeros(6)
    calm = np.full((48, 6), 22.0)
    lived = [
        Lived("wild", 0.5, t, np.full((48, 6), 0.3)),
        *[Lived(x, 1.0, calm, calm * 0) for x in ("calm", "best", "none")],
    ]
    return Day("Nowhere, day 1", np.linspace(-5, 5, 48), lived)


def small_battle(won=True):
    frames, units = 5, 4
    positions = np.stack([np.linspace([0, 5 + u], [4, 5 + u], frames) for u in range(units)], axis=1)
    health = np.linspace(np.full(units, 10.0), [5.0, 4.0, 0.0, 0.0] if won else [0.0, 0.0, 3.0, 1.0], frames)
    targets = np.full((frames, units), -1)
    targets[1:, 0] = 2
    return Battle(
        label="VDN",
        episode=0,
        won=won,
        allies=2,
        types=np.array([2, 2, 3, 3]),
        full=health[0],
        radius=np.full(units, 0.5),
        positions=positions,
        health=health,
        targets=targets,
        fired=targets >= 0,
    )


def small_chain():
    """Two policies in a chain of two stages."""
    weeks = np.arange(6.0)[:, None] + np.zeros(2)
    years = [Year(name, 0.5, weeks, weeks * 0, weeks + 1, weeks, np.array([1.5, np.nan])) for name in ("a", "b")]
    return World("nowhere", years)
