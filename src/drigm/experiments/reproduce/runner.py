"""Training and scoring a study group by group, each run once, however often it is stopped and started."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from drigm.core.config import TrainConfig
from drigm.core.naming import duration, method_name
from drigm.evaluation.cache import cached_evaluations
from drigm.evaluation.scores import Evaluation
from drigm.experiments.reproduce.studies import Group
from drigm.report.tables import write_csv
from drigm.runtime import devices
from drigm.runtime.devices import usable_cores
from drigm.runtime.files import FileError, append_text, read_text
from drigm.storage.run_directory import RunDirectory, seeds_of
from drigm.training.precompile import Precompiler
from drigm.training.runs import train_together


class Scored(NamedTuple):
    """A method that was trained, with its scores in a suite.

    Attributes:
        config: of its run.
        evaluation: its scores.
        name: what tables call it, if it is not its `method_name`.
    """

    config: TrainConfig
    evaluation: Evaluation
    name: str = ""

    @property
    def title(self) -> str:
        """What tables call the method."""
        return self.name or method_name(self.config)

    @property
    def seeds(self) -> list[int]:
        """The seeds that it was trained with."""
        return seeds_of(self.config)


class Timing(NamedTuple):
    """What a group took: seconds in this and earlier sessions, compilation and scoring included."""

    group: str
    runs: int  # seeds of all radii
    seconds: float


class Outcome(NamedTuple):
    """Everything that was trained."""

    scored: dict[str, list[Scored]]  # by group
    timings: list[Timing]

    def of(self, suite: str) -> list[Scored]:
        """Return the runs that were scored in ``suite``."""
        return [one for found in self.scored.values() for one in found if one.evaluation.suite == suite]


def suited(group: Group) -> Group:
    """Return ``group`` as the default backend trains it best: with one shard of every run on an accelerator.

    Shards keep CPU cores busy. Vmapped runs of several shards would have their replay transposed in every chunk.
    """
    if devices.runs_in_turn():
        return group
    return group._replace(configs=tuple(config.replace(shards=1) for config in group.configs))


def plan_text(groups: Sequence[Group], runs: Path, verification: float = 0.0) -> str:
    """Return what will be trained and about how long it will take, before anything begins.

    Args:
        groups: what to train.
        runs: where the run directories are.
        verification: seconds of the counterexample's part, if it is asked for.
    """
    lines, left, total = [], verification, 0
    for group in groups:
        seeds, missing = group.runs, _missing(runs, group)
        done, seconds = seeds - missing, group.seconds(missing)
        left, total = left + seconds, total + seeds
        radii = [f"{config.rho:g}" for config in group.configs if config.rho]
        state = "finished" if done == seeds else f"{duration(seconds)}{f', {done} finished' if done else ''}"
        about = f"rho {', '.join(radii)}; " if radii else ""
        lines.append(f"  {group.name:<22} {seeds:>3} runs of {group.configs[0].steps:,} steps  ({about}{state})")
    if verification:
        lines.append(f"  {'counterexample':<22} what drigm verify shows  ({duration(verification)})")
    head = f"{total} runs, below {runs}; about {duration(left)} on two cores like those it was timed on:"
    return "\n".join([head, *lines])


def train_groups(groups: Sequence[Group], runs: Path, say: Callable[[str], None] = lambda line: None) -> Outcome:
    """Train what is missing and score what is not scored, group by group; returns the whole outcome.

    Args:
        groups: what to train; see `drigm.experiments.reproduce.studies.groups`.
        runs: where the run directories are.
        say: is told one line before each group.

    Raises:
        UserError: a run directory holds another run, or a training diverged.
        KeyboardInterrupt: with a message that says how to continue.
    """
    scored: dict[str, list[Scored]] = {}
    spent, expected = 0.0, 0.0
    with Precompiler() as programs:
        whole = [group for group in groups if _missing(runs, group) == group.runs]  # others may train fewer together
        if programs.threads and whole:
            say(f"compiling ahead: {len(whole)} programs, {programs.threads} at a time")
        for group in whole:
            programs.expect(group.configs)
        for number, group in enumerate(groups, 1):
            due = _missing(runs, group)
            ratio = spent / expected if expected else 1.0  # how this machine compares with the one that was timed
            rest = sum(g.seconds(_missing(runs, g)) for g in groups[number - 1 :])
            say(f"[{number}/{len(groups)}] {group.name}; about {duration(rest * ratio)} left")
            scored[group.name], seconds = _train_and_score(group, runs, programs)
            if due:
                spent, expected = spent + seconds, expected + group.seconds(due)
    return Outcome(scored, [_timing(runs, group) for group in groups])


def _train_and_score(group: Group, runs: Path, programs: Precompiler) -> tuple[list[Scored], float]:
    """Return the finished runs of ``group`` and the seconds that it took, which are also written down."""
    due, began = _missing(runs, group), time.monotonic()
    paths = {folder_of(runs, group, config): config for config in group.configs}
    try:
        finished = train_together(paths, runs / group.name, programs=programs)
        scored = []
        for suite in (group.suite, *group.more):
            played = cached_evaluations(finished, suite)
            scored += [Scored(run.config, one) for run, one in zip(finished, played, strict=True)]
        return scored, time.monotonic() - began
    finally:  # what an interrupted session took counts too
        if due and (runs / group.name).is_dir():
            _add_seconds(runs / group.name / "seconds.txt", time.monotonic() - began)


def folder_of(runs: Path, group: Group, config: TrainConfig) -> Path:
    """Return the run directory of one radius of ``group``: named after radius and seeds."""
    return runs / group.name / f"rho-{config.rho:g}-seeds-{config.seeds}"


def write_scores(outcome: Outcome, file: Path) -> None:
    """Write every score as CSV: one row for each method, world and seed."""
    rows = [["method", "factorization", "uncertainty", "baseline", "rho", "suite", "world", "seed", "score"]]
    for one in (one for found in outcome.scored.values() for one in found):
        c = one.config
        method = [one.title, c.factorization, c.uncertainty, c.baseline, f"{c.rho:g}", one.evaluation.suite]
        for world in one.evaluation.scores:
            for seed, score in zip(one.seeds, world.per_seed, strict=True):
                rows.append([*method, world.name, str(seed), f"{score:.5f}"])
    write_csv(file, rows)


def write_timings(outcome: Outcome, file: Path) -> None:
    """Write how long each group took, on how many cores."""
    rows = [["group", "runs", "seconds", "seconds_per_run", "cores"]]
    for t in outcome.timings:
        rows.append([t.group, str(t.runs), f"{t.seconds:.0f}", f"{t.seconds / t.runs:.1f}", str(usable_cores())])
    write_csv(file, rows)


def _missing(runs: Path, group: Group) -> int:
    """How many seeds of all radii have not finished."""
    configs = [c for c in group.configs if not RunDirectory(folder_of(runs, group, c)).is_finished(c)]
    return sum(config.seeds for config in configs)


def _timing(runs: Path, group: Group) -> Timing:
    file = runs / group.name / "seconds.txt"
    try:
        kept = read_text(file).split()
    except FileError:  # not there, or damaged
        kept = []
    seconds = sum(float(word) for word in kept if word.replace(".", "", 1).isdigit())  # not worth a stop
    return Timing(group.name, group.runs, seconds)


def _add_seconds(file: Path, seconds: float) -> None:
    with contextlib.suppress(FileError):  # not worth a stop
        append_text(file, f"{seconds:.1f}\n")
