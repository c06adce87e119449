"""How the time of a tick grows: with agents (2 to 118, real buildings), actions and the length of windows.

Growth with seeds is in `benchmarks.seeds`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import CONFIG, Table, Training, exponent, interleaved, last_slope, say
from drigm.core.config import TrainConfig
from drigm.envs import make_env
from drigm.envs.api import Environment
from drigm.report.figures.style import PALETTE, drawing, save


class Team(NamedTuple):
    """A building, and which of its zones have an agent (all, unless told)."""

    env: str
    options: Mapping[str, Any]


TEAMS = {
    2: Team("building:Warehouse/Tucson", {"ac_map": (1, 1, 0)}),
    6: Team("building:OfficeSmall/Tucson", {}),
    18: Team("building:OfficeMedium/Tucson", {}),
    55: Team("building:Hospital/Tucson", {}),
    118: Team("building:OutPatientHealthCare/Tucson", {}),
}
METHODS = {"qmix": tuple(TEAMS), "vdn": (6, 55, 118), "qtran": (6, 55, 118)}  # total variation with each
ACTIONS = (10, 100, 800)
WINDOWS = (4, 8, 16, 32)
FIGURE = Path(__file__).parent / "growth.svg"


def measure(quick: bool) -> dict[str, Any]:
    """Time the ticks of every axis, all points of an axis side by side."""
    methods = {"qmix": (2, 6)} if quick else METHODS
    base = CONFIG.replace(learning_starts=0)
    found: dict[str, Any] = {"agents": {}}
    for factorization, teams in methods.items():
        points = {n: _training(base.replace(factorization=factorization), TEAMS[n]) for n in teams}
        found["agents"][factorization] = _grown(points, quick)
        points.clear()
    # A linear head has an output per action; the ordered one of buildings costs the same whatever their number.
    for head in ("linear",) if quick else ("linear", "ordered"):
        config = base.replace(head=head)
        chosen = ACTIONS[:2] if quick else ACTIONS if head == "linear" else ACTIONS[::2]
        points = {levels: _training(config, TEAMS[6]._replace(options={"levels": levels})) for levels in chosen}
        found[f"actions, {head} head"] = _grown(points, quick)
        points.clear()
    windows = WINDOWS[:2] if quick else WINDOWS
    found["window"] = _grown({w: _training(base.replace(window=w), TEAMS[6]) for w in windows}, quick)
    return found


def tables(result: dict[str, Any]) -> list[Table]:
    agents = result["agents"]
    sizes = {n: None for grown in agents.values() for n in grown["seconds"]}

    def ms(method: str, n: str) -> float | None:
        seconds = agents[method]["seconds"].get(n)
        return None if seconds is None else 1e3 * seconds

    rows: list[dict[str, Any]]
    rows = [{"agents": n} | {f"{method}, ms": ms(method, n) for method in agents} for n in sizes]
    rows += [
        {"agents": name} | {f"{method}, ms": agents[method][key] for method in agents}
        for name, key in (("fitted exponent", "exponent"), ("of the last two", "last_slope"))
    ]
    found = [Table("A tick against agents (total variation, real buildings)", rows, "Exponent 1: linear growth.")]
    for axis, grown in result.items():
        if axis == "agents":
            continue
        rows = [{axis: int(n), "ms": 1e3 * seconds} for n, seconds in grown["seconds"].items()]
        note = f"Fitted exponent {grown['exponent']:.2f}, of the last two {grown['last_slope']:.2f}."
        found.append(Table(f"A tick against {axis} (QMIX-TV, six agents)", rows, note))
    return found


def plot(result: dict[str, Any], path: Path = FIGURE) -> Path:
    """Draw the time of a tick against the number of agents, both logarithmic."""
    with drawing(4.6, 3.2) as figure:
        axes = figure.add_subplot()
        for (method, grown), color in zip(result["agents"].items(), PALETTE, strict=False):
            sizes, seconds = [int(n) for n in grown["seconds"]], [1e3 * s for s in grown["seconds"].values()]
            label = f"{method.upper()}-TV, fitted exponent {grown['exponent']:.2f}"
            axes.plot(sizes, seconds, "o-", color=color, markersize=3, label=label)
        axes.set(xscale="log", yscale="log", xlabel="agents", ylabel="ms", title="A tick of training")
        axes.set_xticks(list(TEAMS), [str(n) for n in TEAMS])
        axes.minorticks_off()
        axes.legend(frameon=False)
        return save(figure, path)


def _training(config: TrainConfig, team: Team) -> Training:
    env: Environment = make_env(team.env, **team.options)
    sizes = f"{env.spec.num_agents} agents, {env.spec.num_actions} actions, windows of {config.window}"
    say(f"compiling {config.factorization}, {sizes}")
    return Training(config.replace(env=team.env), env).warm()


def _grown(points: Mapping[int, Training], quick: bool) -> dict[str, Any]:
    costs = interleaved(points, quick=quick)
    return growth({size: cost.best for size, cost in costs.items()})


def growth(seconds: Mapping[int, float]) -> dict[str, Any]:
    """Return ``seconds`` by size with the exponents that they fit."""
    sizes, values = list(seconds), list(seconds.values())
    return {
        "seconds": {str(size): value for size, value in seconds.items()},
        "exponent": exponent(sizes, values),
        "last_slope": last_slope(sizes, values),
    }
