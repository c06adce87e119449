"""The truth: worlds that are played once the choice stands, by every point that finished and by the paper's radius."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from drigm.core.config import TrainConfig
from drigm.core.json_files import json_digest
from drigm.core.presets import PAPER_RHO
from drigm.envs import make_env
from drigm.envs.api import Environment, Shift
from drigm.envs.shifts import default_suite, worlds
from drigm.evaluation.evaluate import check_fits, evaluate_together
from drigm.evaluation.scores import returns_of
from drigm.experiments.sweep import sweep
from drigm.experiments.sweep.results import Swept
from drigm.experiments.tune.asked import label, same_world
from drigm.experiments.tune.choose import allowed, gains
from drigm.experiments.tune.outcome import Outcome, Truth
from drigm.experiments.tune.search import Point
from drigm.experiments.tune.trials import Trials
from drigm.storage.results import load_result, store_result
from drigm.training.runs import Run

Asked = tuple[str, str]  # environment ("": the training's own) and worlds ("": its usual suite)


def check_truth(asked: Asked, home: Environment, world_count: int) -> None:
    """Raise `UserError` unless teams of ``home`` can be played in what is asked for; nothing is played."""
    env = make_env(asked[0]) if asked[0] else home
    check_fits(home.spec, env.spec)
    _tried(asked, env, world_count)


def paper_point(config: TrainConfig, reference: Point) -> Point | None:
    """Return the point of the paper's radius for the method of ``config``; None where the paper has none."""
    method = config.factorization.removesuffix("-alt"), config.uncertainty
    if "rho" not in reference or method not in PAPER_RHO:
        return None
    own = {"uncertainty": config.uncertainty} if "uncertainty" in reference else {}
    return {**reference, **own, "rho": PAPER_RHO[method]}


def rival(trials: Trials, point: Point, out: Path) -> tuple[Swept, str]:
    """Return a sweep that holds the finished run of ``point``, which is trained where no trial is it, and its name."""
    name = label(point)
    if name in trials.swept.scores:
        return trials.swept, name
    return sweep(trials.sweep_of({name: point}, prune=False), out=out, **trials.engine), name


def play_truth(
    outcome: Outcome,
    asked: Asked,
    runs: Sequence[Run],
    paper: tuple[Point, Run] | None,
    out: Path,
    world_count: int,
    quiet: bool,
) -> Truth:
    """Return how ``runs``, of the outcome's finished points, and the paper's did in the worlds that were asked for."""
    env = make_env(asked[0]) if asked[0] else runs[0].env
    everyone = [*runs, *([paper[1]] if paper else [])]
    names, scores = _scores(everyone, asked, env, out, world_count, quiet)
    away = _away(asked, env, world_count)
    got = returns_of(env, scores[:, away]).mean(axis=1)  # [P, K]
    home = np.stack([trial.home for trial in outcome.finished])
    gain = gains(got)
    within = allowed(home, outcome.budget)
    hindsight = int(np.argmax([x.estimate if fine else -np.inf for x, fine in zip(gain, within, strict=False)]))
    title = " ".join(filter(None, asked))
    return Truth(title, [names[i] for i in away], gain[: len(runs)], hindsight, (paper[0], gain[-1]) if paper else None)


def _tried(asked: Asked, env: Environment, world_count: int) -> list[Shift]:
    """Return home and the worlds of a truth."""
    return worlds(env, ranges=f"nominal; {asked[1] or default_suite(env)}", count=world_count).shifts


def _away(asked: Asked, env: Environment, world_count: int) -> list[int]:
    """Return the places of the worlds that a truth is the mean of: all but home, whose price is known.

    In another environment no world is home.
    """
    home, *tried = _tried(asked, env, world_count)
    other = [i for i, world in enumerate(tried) if asked[0] or not same_world(world.params, home.params)]
    return other or list(range(len(tried)))


def _scores(
    runs: Sequence[Run], asked: Asked, env: Environment, out: Path, world_count: int, quiet: bool
) -> tuple[list[str], np.ndarray]:
    """Return the names of the worlds and the scores [P, W, K], from ``out`` where these weights have played them."""
    weights = [run.directory.weights_digest(run.config) for run in runs]
    key = {"truth": list(asked), "world_count": world_count, "version": version("drigm"), "weights": weights}
    file = out / f"{json_digest(key)[:16]}.json"
    found = load_result(file, key)
    if found is None:
        suite = "worlds" if asked[1] else default_suite(env)
        played = evaluate_together(runs, suite, None, quiet, env, 0.0, asked[1], world_count)
        names = [score.name for score in played[0].scores]
        found = {"names": names, "scores": [[score.per_seed for score in one.scores] for one in played]}
        store_result(file, key, found)
    return found["names"], np.asarray(found["scores"], np.float64)
