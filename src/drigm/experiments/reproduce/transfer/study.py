"""The rows of the study, their training, and what each got in EnergyPlus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drigm.core.config import TrainConfig
from drigm.core.defaults import TRIM
from drigm.core.errors import choose
from drigm.core.presets import ADAPTING
from drigm.envs import make_env
from drigm.envs.api import Environment
from drigm.envs.shifts import shift_suite, worlds
from drigm.evaluation.controllers import TITLES, controller
from drigm.evaluation.players import fixed, teams, wrapped
from drigm.evaluation.scores import episode_scores
from drigm.experiments.reproduce.transfer.heat_pumps import measure_heat_pumps
from drigm.experiments.reproduce.transfer.measures import BUILDING, Measured, measure
from drigm.experiments.reproduce.transfer.page import Team, write_transfer_page
from drigm.experiments.reproduce.transfer.tables import write_tables
from drigm.runtime.devices import cache_compilations, use_cores
from drigm.runtime.files import make_folder
from drigm.storage.results import load_result, store_result
from drigm.training.runs import Run, train_together
from drigm.training.settings import settle

TRAINED_IN = f"building:{BUILDING}/Tucson"
PLACES = {gains: f"energyplus:{BUILDING}/Tucson?gains={gains}" for gains in ("office", "none")}
WORLDS = ADAPTING["worlds"]
PREDICTION = "lag=0:0.5,power=0.7:2,capacity=0.7:1.5,coupling=0.1:1,solar=0.3:5,gains=-0.2:0.2@3h"
ADAPTIVE = {name: ADAPTING[name] for name in ("head", "inputs", "gamma")}
ROWS: Mapping[str, Mapping[str, Any]] = {
    "velocity, worlds": {**ADAPTIVE, "worlds": WORLDS},
    "velocity, worlds, alpha 0.3": {**ADAPTIVE, "worlds": WORLDS, "alpha": 0.3},
    "non-robust": {},
    "velocity, worlds, half the steps": {**ADAPTIVE, "worlds": WORLDS},
    "TV 0.5": {"uncertainty": "tv", "rho": 0.5},
    "gamma (1 - 0.5)": {"baseline": "short_horizon", "rho": 0.5},
    "velocity": ADAPTIVE,
    "worlds": {"gamma": 0.5, "worlds": WORLDS},
    "climate randomization": {"baseline": "domain_randomization"},
    "velocity, worlds, TV 0.5": {**ADAPTIVE, "worlds": WORLDS, "uncertainty": "tv", "rho": 0.5},
}
ADAPTED = {**ADAPTIVE, "worlds": WORLDS, "alpha": 0.3}
# What might help such teams to find out: one change each.
TRIALS: Mapping[str, Mapping[str, Any]] = {
    f"velocity, worlds, alpha 0.3, {name}": {**ADAPTED, **change}
    for name, change in {
        "nothing late": {"worlds": "power=0.7:2,gains=-0.1:0.1@3h"},
        "readings as they are": {"inputs": "readings"},
        "windows of 12": {"window": 12, "burn_in": 4},
        "stored state": {"stored_state": True},
        "traces": {"inputs": "traces", "stored_state": True},
        "prediction 0.1": {"prediction": 0.1},
        "move cost 0.02": {"move_cost": 0.02},
        "gamma 0.9": {"gamma": 0.9},
    }.items()
}
HALF = "half the steps"  # ends the name of a row with half the budget
PLAIN = "non-robust"
FACTORIZATIONS = ("vdn", "qmix")
CONTROLLERS = ("do_nothing", "p", "pi", "pi_tuned")
HEAT_PUMPS = "The prototype's heat pumps"
Say = Callable[[str], None]
Values = dict[str, np.ndarray]


def reproduce_transfer(
    out: Path,
    *,
    seeds: int = 5,
    steps: int = 172_800,
    factorizations: Sequence[str] = FACTORIZATIONS,
    places: Sequence[str] = tuple(PLACES),
    rows: Sequence[str] = tuple(ROWS),
    say: Say = lambda line: None,
) -> list[Path]:
    """Train the rows, play them in EnergyPlus, and write scores.csv, table.md and report.html into ``out``.

    Runs and what they scored are kept below ``out``: stop it at any point and call it again.

    Args:
        out: the folder.
        seeds: of every row.
        steps: environment steps of every seed.
        factorizations: of the rows.
        places: of `PLACES`, occupied first.
        rows: of `ROWS` and `TRIALS`.
        say: is told what is under way.

    Returns:
        The files.

    Raises:
        UserError: the extra ``energyplus`` is missing, a name is unknown, or a training failed.
    """
    for field, given, known in (
        ("factorizations", factorizations, FACTORIZATIONS),
        ("places", places, tuple(PLACES)),
        ("rows", rows, (*ROWS, *TRIALS)),
    ):
        for name in given:
            choose(field, name, known)
    use_cores()
    cache_compilations()
    make_folder(out / "runs")
    envs = {place: make_env(PLACES[place]) for place in places}  # says now what is missing
    home, predicted, trained = make_env(TRAINED_IN), dict[str, tuple[float, float]](), list[Team]()
    found = list(_controllers(out, envs, home, say))
    write_tables(out, found, predicted)
    for factorization in factorizations:
        for row in rows:
            title = f"{factorization.upper()}, {row}"
            say(f"{title}: training")
            path = out / "runs" / title.replace(" ", "_").replace(",", "")
            (run,) = train_together({path: settings_of(row, factorization, seeds, steps)}, out / "runs")
            if row not in TRIALS:
                predicted[title] = _predicted(run)
            trained.append(Team(title, run))
            for place, env in envs.items():
                for trim in (0.0, TRIM) if _is_trimmed(row, place) else (0.0,):
                    shown = f"{title} + trim" if trim else title
                    say(f"{shown}, {place}")
                    found.append(_played(run, shown, place, env, trim))
                    write_tables(out, found, predicted)
    files = write_tables(out, found, predicted)
    return [*files, write_transfer_page(out, found, predicted, trained, home, envs, say)]


def settings_of(row: str, factorization: str, seeds: int, steps: int) -> TrainConfig:
    """Return the config of one of `ROWS`."""
    given = {"env": TRAINED_IN, "factorization": factorization, "seeds": seeds}
    return settle({**given, **{**ROWS, **TRIALS}[row], "steps": steps // 2 if row.endswith(HALF) else steps})


def _is_trimmed(row: str, place: str) -> bool:
    """Whether a row is also played with a trim: every one where heat is that its model lacks, elsewhere the plain."""
    return row not in TRIALS and (place == "office" or row == PLAIN)


def _controllers(out: Path, envs: Mapping[str, Environment], home: Environment, say: Say) -> Iterator[Measured]:
    for place, env in envs.items():
        for name in CONTROLLERS:
            say(f"{TITLES[name]}, {place}")
            yield _controlled(out / f"{name}-{place}.json", name, place, env, home)
        say(f"{HEAT_PUMPS}, {place}")
        cities = [world.name for world in shift_suite(env, "climate")]

        def play(place: str = place, env: Environment = env, cities: list[str] = cities) -> Values:
            return measure_heat_pumps(cities, place, env.eval_seeds)

        yield _kept(out / f"heat_pumps-{place}.json", HEAT_PUMPS, place, env, play, {"controller": "heat_pumps"})


def _played(run: Run, title: str, place: str, env: Environment, trim: float) -> Measured:
    def play() -> Values:
        players = teams(run.weights().agents, wrapped(env.spec, run.env.spec.agents, trim))
        return measure(env, players, shift_suite(env, "climate"))

    key = {"weights": run.directory.weights_digest(run.config), "trim": trim}
    file = run.path / "scores" / f"{'trim-' if trim else ''}{place}.json"
    return _kept(file, title, place, env, play, key)


def _controlled(file: Path, name: str, place: str, env: Environment, home: Environment) -> Measured:
    """Return what a controller gets that does not learn; PI is tuned at home."""

    def play() -> Values:
        policy = controller(name, env, home)
        return measure(env, fixed(policy), shift_suite(env, "climate"))

    return _kept(file, TITLES[name], place, env, play, {"controller": name})


def _kept(
    file: Path, title: str, place: str, env: Environment, play: Callable[[], Values], key: Mapping[str, Any]
) -> Measured:
    """Return what stands in ``file`` under this key, or play now."""
    key = {"place": PLACES[place], "days": list(env.eval_seeds), **key}
    found = load_result(file, key)
    if found is None:
        found = {name: values.tolist() for name, values in play().items()}
        store_result(file, key, found)
    cities = [world.name for world in shift_suite(env, "climate")]
    return Measured(title, place, cities, {k: np.asarray(v) for k, v in found.items()})


def _predicted(run: Run) -> tuple[float, float]:
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
    return found[0], found[1]
