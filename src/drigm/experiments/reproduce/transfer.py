"""Sim to real: teams trained in SustainGym's model alone, deployed unchanged in EnergyPlus.

Every row of `ROWS` is trained in one city of the simple model, with the same budget, and then plays the protocol's days
in six cities of `drigm.envs.energyplus`, empty and occupied, beside the controllers that do not learn. Before that,
`PREDICTION`'s worlds say how it will hold: the table shows whether it did.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drigm.agents.pi import TRIM
from drigm.agents.policies import Policy
from drigm.core.errors import choose
from drigm.core.presets import ADAPTING
from drigm.core.types import PyTree, StoredStep
from drigm.envs import make_env
from drigm.envs.api import Environment, Shift
from drigm.envs.shifts import shift_suite, worlds
from drigm.evaluation import statistics as st
from drigm.evaluation.controllers import TITLES, controller
from drigm.evaluation.players import Players, teams, wrapped
from drigm.evaluation.scores import episode_scores
from drigm.report.tables import markdown_table, write_csv
from drigm.runtime.devices import cache_compilations, use_cores
from drigm.runtime.files import make_folder, write_text
from drigm.storage.results import load_result, store_result
from drigm.training.runs import Run, train_together
from drigm.training.settings import settle

TRAINED_IN = "building:OfficeSmall/Tucson"
PLACES = {gains: f"energyplus:OfficeSmall/Tucson?gains={gains}" for gains in ("office", "none")}
WORLDS = ADAPTING["worlds"]
PREDICTION = "lag=0:0.5,power=0.7:2,capacity=0.7:1.5,coupling=0.1:1,solar=0.3:5,gains=-0.2:0.2@3h"
ADAPTIVE = {name: ADAPTING[name] for name in ("head", "inputs", "gamma")}
ROWS: Mapping[str, Mapping[str, Any]] = {
    "velocity, worlds": {**ADAPTIVE, "worlds": WORLDS},
    "velocity, worlds, alpha 0.3": {**ADAPTIVE, "worlds": WORLDS, "alpha": 0.3},
    "non-robust": {},
    "velocity, worlds, half the steps": {**ADAPTIVE, "worlds": WORLDS, "steps": 86_400},
    "TV 0.5": {"uncertainty": "tv", "rho": 0.5},
    "gamma (1 - 0.5)": {"baseline": "short_horizon", "rho": 0.5},
    "velocity": ADAPTIVE,
    "worlds": {"gamma": 0.5, "worlds": WORLDS},
    "climate randomization": {"baseline": "domain_randomization"},
    "velocity, worlds, TV 0.5": {**ADAPTIVE, "worlds": WORLDS, "uncertainty": "tv", "rho": 0.5},
}
TRIMMED = ("non-robust",)  # rows that are also played with a trim
FACTORIZATIONS = ("vdn", "qmix")
CONTROLLERS = ("do_nothing", "p", "pi", "pi_tuned")
MEASURES = ("score", "mean_error", "degree_hours", "thermal_kwh", "oscillation")
HOURS, KILOWATTS = 5.0 / 60.0, 8.0  # of a step; of a zone's AC at full power
Say = Callable[[str], None]


class Recorded:
    """A policy that notes the errors and levels of every agent at every step."""

    def __init__(self, policy: Policy, levels: np.ndarray, setpoint: np.ndarray) -> None:
        self.policy, self.table, self.setpoint = policy, levels, setpoint
        self.errors: list[np.ndarray] = []  # [E, N] at each step
        self.levels: list[np.ndarray] = []

    def initial_memory(self, batch: int) -> PyTree:
        """Return the policy's own."""
        return self.policy.initial_memory(batch)

    def act(self, memory: PyTree, row: StoredStep) -> tuple[PyTree, Any]:
        """Return what the policy does."""
        memory, action = self.policy.act(memory, row)
        self.errors.append(np.asarray(row.obs)[0, ..., 0] - self.setpoint)
        self.levels.append(self.table[np.asarray(action)[0]])
        return memory, action


def measure(env: Environment, players: Players, tried: list[Shift]) -> dict[str, np.ndarray]:
    """Return `MEASURES` [W worlds, K players], means over the protocol's days and the agents.

    ``mean_error``: |T - setpoint| in K; ``degree_hours``: K h of a zone and day outside the setpoint +- 1;
    ``thermal_kwh``: of all zones and a day, from the levels; ``oscillation``: mean |level_t - level_t-1|.
    """
    recorders: list[Recorded] = []
    assert env.spec.action_values is not None
    assert env.spec.regulated is not None
    levels, setpoint = np.asarray(env.spec.action_values), np.asarray(env.spec.regulated.setpoint)

    def recorded(one: PyTree) -> Policy:
        recorders.append(Recorded(players.in_numpy(one), levels, setpoint))
        return recorders[-1]

    scores = episode_scores(env, players._replace(in_numpy=recorded), tried)  # [W, K, E]
    days, found = env.num_eval_episodes, {"score": scores.mean(axis=-1)}
    per_player = [_measures(recorder, len(tried), days, env.spec.episode_limit) for recorder in recorders]
    return found | {name: np.stack([one[name] for one in per_player], axis=1) for name in MEASURES[1:]}


def _measures(recorder: Recorded, count: int, days: int, steps: int) -> dict[str, np.ndarray]:
    """Return the measures [W] of one player; its steps are [W, rounds, steps] of some environments at once."""

    def by_world(notes: list[np.ndarray]) -> np.ndarray:
        x = np.stack(notes)
        x = x.reshape(count, -1, steps, *x.shape[1:])  # [W, rounds, steps, E, N]
        return np.swapaxes(x, 2, 3).reshape(count, -1, steps, x.shape[-1])[:, :days]

    error, level = np.abs(by_world(recorder.errors)), by_world(recorder.levels)
    outside = np.maximum(error - 1.0, 0.0).sum(axis=2) * HOURS
    return {
        "mean_error": error.mean(axis=(1, 2, 3)),
        "degree_hours": outside.mean(axis=(1, 2)),
        "thermal_kwh": np.abs(level).sum(axis=(2, 3)).mean(axis=1) * KILOWATTS * HOURS,
        "oscillation": np.abs(np.diff(level, axis=2)).mean(axis=(1, 2, 3)),
    }


class Measured(NamedTuple):
    """What a row got in one place: measures [W cities, K seeds]."""

    row: str
    place: str
    cities: list[str]
    values: dict[str, np.ndarray]


def reproduce_transfer(
    out: Path,
    *,
    seeds: int = 5,
    steps: int = 172_800,
    factorizations: Sequence[str] = FACTORIZATIONS,
    places: Sequence[str] = tuple(PLACES),
    say: Say = lambda line: None,
) -> list[Path]:
    """Train every row, play it in EnergyPlus, and write scores.csv and table.md into ``out``; returns the files.

    Runs and what they scored are kept below ``out``: stop it at any point and call it again.

    Args:
        out: the folder.
        seeds: of every row.
        steps: environment steps of every seed.
        factorizations: of the rows.
        places: of `PLACES`, occupied first.
        say: is told what is under way.

    Raises:
        UserError: the extra ``energyplus`` is missing, a name is unknown, or a training failed.
    """
    for name in factorizations:
        choose("factorizations", name, FACTORIZATIONS)
    for place in places:
        choose("places", place, tuple(PLACES))
    use_cores()
    cache_compilations()
    make_folder(out / "runs")
    envs = {place: make_env(PLACES[place]) for place in places}  # says now what is missing
    home, found, predicted = make_env(TRAINED_IN), list[Measured](), dict[str, list[float]]()
    for place, env in envs.items():
        for name in CONTROLLERS:
            say(f"{TITLES[name]}, {place}")
            found.append(_controlled(out / f"{name}-{place}.json", name, place, env, home))
    write(out, found, predicted)
    for factorization in factorizations:
        for row, settings in ROWS.items():
            title = f"{factorization.upper()}, {row}"
            say(f"{title}: training")
            given = {"env": TRAINED_IN, "factorization": factorization, "seeds": seeds, "steps": steps}
            config = settle({**given, **settings})
            path = out / "runs" / title.replace(" ", "_").replace(",", "")
            (run,) = train_together({path: config}, out / "runs")
            predicted[title] = _predicted(run)
            for place, env in envs.items():
                for trim in (0.0, TRIM) if row in TRIMMED else (0.0,):
                    shown = f"{title} + trim" if trim else title
                    say(f"{shown}, {place}")
                    found.append(_played(run, shown, place, env, trim))
                    write(out, found, predicted)
    return write(out, found, predicted)


def _played(run: Run, title: str, place: str, env: Environment, trim: float) -> Measured:
    def players() -> Players:
        return teams(run.weights().agents, wrapped(env.spec, run.env.spec.agents, trim))

    key = {"weights": run.directory.weights_digest(run.config), "trim": trim}
    file = run.path / "scores" / f"{'trim-' if trim else ''}{place}.json"
    return _kept(file, title, place, env, players, key)


def _controlled(file: Path, name: str, place: str, env: Environment, home: Environment) -> Measured:
    """Return what a controller gets that does not learn; PI is tuned at home."""

    def players() -> Players:
        policy = controller(name, env, home)
        return Players(np.zeros(1), lambda _: policy, lambda _: policy)

    return _kept(file, TITLES[name], place, env, players, {"controller": name})


def _kept(
    file: Path, title: str, place: str, env: Environment, players: Callable[[], Players], key: Mapping[str, Any]
) -> Measured:
    """Return what stands in ``file`` for these players, or play them now."""
    tried = shift_suite(env, "climate")
    key = {"place": PLACES[place], "days": list(env.eval_seeds), **key}
    found = load_result(file, key)
    if found is None:
        found = {name: values.tolist() for name, values in measure(env, players(), tried).items()}
        store_result(file, key, found)
    return Measured(title, place, [world.name for world in tried], {k: np.asarray(v) for k, v in found.items()})


def _predicted(run: Run) -> list[float]:
    """Return the lowest and the highest mean score of the run's seeds in the worlds of `PREDICTION`."""
    key = {"weights": run.directory.weights_digest(run.config), "worlds": PREDICTION}
    file = run.path / "scores" / "predicted.json"
    found = load_result(file, key)
    if found is None:
        env, tried = worlds(run.env, ranges=PREDICTION)
        env = env._replace(num_eval_episodes=10)
        scores = episode_scores(env, teams(run.weights().agents), tried).mean(axis=(1, 2))
        found = [float(scores.min()), float(scores.max())]
        store_result(file, key, found)
    return found


def write(out: Path, found: Sequence[Measured], predicted: Mapping[str, list[float]]) -> list[Path]:
    """Write scores.csv, a line for each row, place, city and seed, and table.md."""
    lines: list[list[Any]] = [["row", "place", "city", "seed", *MEASURES]]
    for one in found:
        for w, city in enumerate(one.cities):
            for k in range(one.values["score"].shape[1]):
                lines.append([one.row, one.place, city, k, *(f"{one.values[name][w, k]:.5f}" for name in MEASURES)])
    write_csv(out / "scores.csv", lines)
    write_text(out / "predicted.json", json.dumps(predicted, indent=1))
    parts = [_table([one for one in found if one.place == place], predicted) for place in PLACES]
    write_text(out / "table.md", "\n\n".join(part for part in parts if part) + "\n")
    return [out / "scores.csv", out / "table.md"]


def _table(found: Sequence[Measured], predicted: Mapping[str, list[float]]) -> str:
    """Return the table of one place: means over cities, Welch's interval of the difference from PI over seeds."""
    if not found:
        return ""
    pi = {one.row: one for one in found}.get(TITLES["pi"])
    rows = []
    for one in found:
        seeds = one.values["score"].mean(axis=0)
        row: dict[str, Any] = {"row": one.row, "seeds": len(seeds), "score": f"{seeds.mean():.4f}"}
        row["worst city"] = f"{one.values['score'].mean(axis=1).min():.4f}"
        row["less PI"] = _difference(seeds, None if pi is None else float(pi.values["score"].mean()))
        row["mean error, K"] = f"{one.values['mean_error'].mean():.3f}"
        row["degree hours"] = f"{one.values['degree_hours'].mean():.2f}"
        row["thermal kWh"] = f"{one.values['thermal_kwh'].mean():.1f}"
        row["oscillation"] = f"{one.values['oscillation'].mean():.4f}"
        low, high = predicted.get(one.row, [np.nan, np.nan])
        row["predicted"] = "" if np.isnan(low) else f"{low:.3f} to {high:.3f}"
        row["within"] = "" if np.isnan(low) else ("yes" if low <= seeds.mean() <= high else "no")
        rows.append(row)
    return f"## EnergyPlus, {'occupied' if found[0].place == 'office' else 'empty'}\n\n{markdown_table(rows)}"


def _difference(seeds: np.ndarray, other: float | None) -> str:
    """Return the mean of ``seeds`` less a number, with Student's interval where there are seeds enough."""
    if other is None or len(seeds) < 2:
        return "" if other is None else f"{seeds.mean() - other:+.4f}"
    interval = st.interval((seeds - other)[:, None], st.mean)
    return f"{interval.estimate:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"
