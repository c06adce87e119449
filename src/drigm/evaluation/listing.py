"""Run directories below a folder: what was asked for, how far it is, and the scores that are stored in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drigm.core.errors import UserError, check
from drigm.core.json_files import read_object
from drigm.core.naming import method_name
from drigm.evaluation.cache import stored_evaluation
from drigm.storage.run_directory import RunDirectory, seeds_of


class Listed(NamedTuple):
    """One run directory.

    Attributes:
        path: of the directory.
        env: its environment's id.
        method: as `drigm.core.naming.method_name` calls it.
        seeds: how many.
        step: environment steps of the seed that is least far.
        steps: environment steps per seed in all.
        state: ``finished``, ``stopped`` (finished early, by a callback), ``unfinished``, ``diverged`` (some seeds did)
            or ``unreadable``.
        scores: the score in each world, mean over seeds, by the name of the stored evaluation.
        problem: what is wrong with an unreadable one.
    """

    path: str
    env: str = ""
    method: str = ""
    seeds: int = 0
    step: int = 0
    steps: int = 0
    state: str = "unreadable"
    scores: dict[str, dict[str, float]] = {}  # noqa: RUF012 (never changed)
    problem: str = ""


def found_below(folder: Path) -> list[Listed]:
    """Return every run directory in ``folder`` and below it, by path; `UserError` if it is no folder."""
    check(folder.is_dir(), "directory", str(folder), "give a folder that holds run directories")
    return [_listed(file.parent) for file in sorted(folder.rglob("config.json"))]


def _listed(path: Path) -> Listed:
    """Return what the run directory ``path`` holds; one that cannot be read is named, and stops nobody."""
    directory = RunDirectory(path)
    try:
        config = directory.load_config()
        diverged, finished = directory.diverged(), directory.is_finished(config)
        rows = [directory.read_metrics(seed) for seed in seeds_of(config) if seed not in diverged]
        step = min((int(found[-1]["step"]) if found else 0 for found in rows), default=0)
        stopped = directory.steps_trained(config) < config.steps
        state = "diverged" if diverged else "unfinished" if not finished else "stopped" if stopped else "finished"
        scores = _scores(directory, config)
    except UserError as error:
        return Listed(str(path), problem=str(error))
    return Listed(str(path), config.env, method_name(config), config.seeds, step, config.steps, state, scores)


def _scores(directory: RunDirectory, config: Any) -> dict[str, dict[str, float]]:
    """Return what evaluations have stored of the run's present weights."""
    found = dict[str, dict[str, float]]()
    for file in sorted((directory.path / "scores").glob("*.json")):
        try:
            key = read_object(file, finite=False)["key"]
            given = str(key["suite"]), dict(key["perturb"])
            evaluation = stored_evaluation(directory, config, *given, config.env, float(key.get("trim", 0.0)))
        except (UserError, KeyError, TypeError, ValueError):
            continue  # none of these
        if evaluation is not None and file.stem.startswith(given[0]):  # controllers' files are others
            found[file.stem] = {score.name: score.mean for score in evaluation.scores}
    return found


def shown_row(run: Listed) -> dict[str, object]:
    """Return ``run`` as a row of a table: of each stored evaluation the mean and the worst of its worlds."""
    if run.problem:
        return {"run": run.path, "state": f"{run.state}: {run.problem}"}
    scores = list[str]()
    for name, worlds in run.scores.items():
        mean, worst = float(np.mean([*worlds.values()])), min(worlds.values())
        scores.append(f"{name} {mean:.3f}" + (f" (worst {worst:.3f})" if len(worlds) > 1 else ""))
    return {
        "run": run.path,
        "env": _short(run.env),
        "method": run.method,
        "seeds": run.seeds,
        "steps": f"{run.step:,}/{run.steps:,}",
        "state": run.state,
        "scores": "; ".join(scores) or None,
    }


def _short(env: str) -> str:
    """Return an id without the folder of its file."""
    kind, colon, name = env.partition(":")
    return f"{kind}{colon}{os.path.basename(name)}" if os.sep in name and ":" in name else env
