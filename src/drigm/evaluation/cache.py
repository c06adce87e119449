"""Scores that a run keeps in its directory, so that nothing is played twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from drigm.core.config import TrainConfig
from drigm.core.errors import warn
from drigm.core.json_files import json_digest
from drigm.envs.imported import object_mark
from drigm.envs.shifts import WORLDS, Grid, default_suite
from drigm.envs.subprocess.source import origin, source_file
from drigm.evaluation.evaluate import evaluate_together, with_controllers
from drigm.evaluation.scores import Evaluation, ShiftScore
from drigm.runtime.files import FileError, file_digest
from drigm.storage.results import load_result, store_result
from drigm.storage.run_directory import RunDirectory, seeds_of
from drigm.training.runs import Run


class Drawn(NamedTuple):
    """Worlds as ranges and count of `drigm.envs.shifts.worlds` say them; none: those of a suite."""

    ranges: str = ""
    world_count: int = WORLDS

    @property
    def suite(self) -> str:
        """What an evaluation in them is called."""
        return "worlds" if self.ranges else ""


SUITE = Drawn()


def cached_evaluation(
    run: Run, shifts: str | None = None, perturb: Grid | None = None, *, trim: float = 0.0, quiet: bool = False
) -> Evaluation:
    """Return `evaluate` of these arguments, from ``scores/`` in the run directory if it stands there already.

    A finished run's weights no longer change; what another version of drigm wrote is computed anew.
    """
    return cached_evaluations([run], shifts, perturb, trim=trim, quiet=quiet)[0]


def cached_evaluations(
    runs: Sequence[Run],
    shifts: str | None = None,
    perturb: Grid | None = None,
    *,
    trim: float = 0.0,
    worlds: Drawn = SUITE,
    quiet: bool = False,
) -> list[Evaluation]:
    """Return `cached_evaluation` of each run; if one of them has not been played, all are, in one program.

    All, because rounding differs with what is played side by side: a score must not depend on where a session stopped.

    Args:
        runs: with the same networks and the same environment, as `drigm.training.runs.train_together` returns them.
        shifts, perturb, trim, quiet: see `evaluate`.
        worlds: instead of a suite.
    """
    suite = worlds.suite or shifts or default_suite(runs[0].env, perturb)
    kept = [stored_evaluation(run.directory, run.config, suite, perturb, opened_id(run), trim, worlds) for run in runs]
    found = [one for one in kept if one is not None]
    if len(found) == len(runs):
        return found
    found = evaluate_together(runs, suite, perturb, quiet, None, trim, *worlds)
    for run, result in zip(runs, found, strict=True):
        file = store_evaluation(run, result, perturb, trim, worlds)
        if file is not None and not quiet:
            warn(f"{file}: cannot be written; the scores are computed again the next time.")
    return found


def store_evaluation(
    run: Run, found: Evaluation, perturb: Grid | None = None, trim: float = 0.0, worlds: Drawn = SUITE
) -> Path | None:
    """Keep the scores of ``run`` in its own environment; returns the file where it cannot be written, else None."""
    file, key = _stored(run.directory, run.config, found.suite, perturb, opened_id(run), trim, worlds)
    return None if store_result(file, key, [score._asdict() for score in found.scores]) else file


def cached_controllers(run: Run, suite: str, perturb: Grid | None = None) -> Mapping[str, list[float]]:
    """Return what controllers that do not learn score in each world of ``suite``, from ``scores/`` if it is there.

    ``perturb``: see `evaluate`.

    {} where the run's environment says nothing that they could hold.
    """
    named, strengths = _named(perturb)
    file = run.directory.path / "scores" / f"controllers-{suite}{strengths}.json"
    key = {
        "suite": suite,
        **({"perturb": named} if named else {}),
        "version": version("drigm"),
        **_source(run.config, opened_id(run)),
    }
    found = load_result(file, key)
    if found is None:
        found = dict(with_controllers(Evaluation(suite, []), run, perturb).controllers)
        store_result(file, key, found)
    return found


def stored_evaluation(
    directory: RunDirectory,
    config: TrainConfig,
    suite: str,
    perturb: Grid | None = None,
    env_id: str = "",
    trim: float = 0.0,
    worlds: Drawn = SUITE,
) -> Evaluation | None:
    """Return what `cached_evaluation` has kept in a run directory for these very weights; None if nothing.

    Scores that were played in another version of the source of the environment ``env_id`` do not count.
    """
    try:
        found = load_result(*_stored(directory, config, suite, perturb, env_id, trim, worlds))
        scores = [] if found is None else [ShiftScore(**score) for score in found]
        ours = bool(scores) and all(
            np.shape(np.array([s.mean, s.se, *s.per_seed], np.float64)) == (2 + config.seeds,) for s in scores
        )
    except (FileError, TypeError, ValueError, OverflowError):  # no weights, or not ours
        return None
    return Evaluation(suite, scores, seeds=tuple(seeds_of(config))) if ours else None


def opened_id(run: Run) -> str:
    """The id of the environment that ``run`` was opened with, where it lies now."""
    return run.config.env if run.env.subprocess is None else f"{run.env.subprocess.kind}:{run.env.subprocess.name}"


def _stored(
    directory: RunDirectory,
    config: TrainConfig,
    suite: str,
    perturb: Grid | None,
    env_id: str,
    trim: float,
    worlds: Drawn = SUITE,
) -> tuple[Path, dict[str, object]]:
    """The file that scores are kept in, and what must stand in it."""
    named, strengths = _named(perturb)
    weights = directory.weights_digest(config)
    key: dict[str, object] = {"suite": suite, "perturb": named, "version": version("drigm"), "weights": weights}
    key |= _source(config, env_id)
    if trim:
        key["trim"], strengths = trim, f"{strengths}-trim={trim:g}"
    if worlds.suite:  # their text may be too long for a file's name
        key["worlds"], strengths = list(worlds), f"{strengths}-{json_digest(list(worlds))[:12]}"
    return directory.path / "scores" / f"{suite}{strengths}.json", key


def _named(perturb: Grid | None) -> tuple[dict[str, list[float]], str]:
    """Return the strengths as JSON holds them, and as they stand in a file's name."""
    named = {name: [float(x) for x in strengths] for name, strengths in (perturb or {}).items()}
    return named, "".join(f"-{name}={','.join(f'{x:g}' for x in values)}" for name, values in named.items())


def _source(config: TrainConfig, env_id: str) -> dict[str, object]:
    """The digest of the file that the environment ``env_id`` is made by, where it is one of the user's."""
    if (mark := object_mark("env", env_id)) is not None:  # another object of the same name may follow
        return {"source": mark}
    parts = origin(env_id)
    source = None if parts is None else source_file(parts, config.env_python)
    return {} if source is None else {"source": file_digest(source)}
