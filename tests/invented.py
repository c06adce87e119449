"""Invented results, so that pages and tables can be tested without training: a study, a day, a battle, a figure."""

import numpy as np

from drigm.deployment.guard import Flag
from drigm.deployment.log import Log
from drigm.deployment.loop import AgentStep, End, LoopStep
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


def small_log(controller=None, would=None):
    """Two agents and two episodes; in the first a reading is none and "right" leaves, the second is broken off."""
    actions = {"count": 3, "first": 0, "idle": 1, "names": None, "values": [-1.0, 0.0, 1.0], "meaning": "power"}
    readings = [{"name": "zone temperature", "unit": "C"}, {"name": "sun", "unit": None}]
    held = {"reading": 0, "value": 22.0}
    agents = [{"name": n, "readings": readings, "actions": actions, "setpoint": held} for n in ("left", "right")]
    header = {"env": "probe:invented", "team": "runs/invented", "seed": 0, "controller": controller, "rate": None}
    header |= {"started": "2026-01-01T00:00:00Z", "step_seconds": 300.0, "has_wins": False, "agents": agents}
    steps = []
    for episode, length in ((0, 4), (1, 2)):
        for t in range(length):
            bad = episode == t == 0
            flags = (Flag("nan", "sun", 1), Flag("fallback", None, 1)) if bad else ()
            one = AgentStep([20.0 + t, None if bad else 0.5], 2 * (t % 2), flags, bad, would)
            there = {"left": one} | ({} if t == 3 else {"right": one._replace(flags=(), fallback=False)})
            end = End(-4.0, 0.5, None) if t == 3 else None
            steps.append(LoopStep(episode, t, -1.0, there, None, end))
    return Log(header, steps)
