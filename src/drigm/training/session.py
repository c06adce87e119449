"""Runs that one program trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from drigm.core.config import TrainConfig
from drigm.envs.api import Environment
from drigm.storage.run_directory import RunDirectory, seeds_of
from drigm.training.programs import Train


class Member(NamedTuple):
    """One run of a session."""

    config: TrainConfig
    directory: RunDirectory


class Reached(NamedTuple):
    """How far a training is, as a callback is told after every row of metrics (about a hundred in a run).

    Attributes:
        step: environment steps of every seed that are done.
        steps: those of the whole run.
        metrics: of each seed the row that was written, by the columns of ``metrics/seed_K.csv``; diverged seeds are
            left out.
    """

    step: int
    steps: int
    metrics: Mapping[int, Mapping[str, float]]


Callback = Callable[[Reached], object]
"""False, or `StopTraining` raised, ends the training: the run has finished with the steps that it has."""


class StopTraining(Exception):  # noqa: N818 (no error: a callback's wish)
    """Raised by a callback to end the training as if it had returned False."""


class Session(NamedTuple):
    """Runs that one compiled program trains.

    Attributes:
        members: their configs are equal but for radius and seeds.
        env: the environment of all.
        programs: its training programs.
        checkpoint_file: where the state of all members is kept until they have finished.
        resume_hint: how a user continues when it is stopped.
        quiet: show no progress.
        log: loggers besides the CSV.
        notes: what the display says first.
        callback: is told after every row of metrics, and may end the training.
    """

    members: Sequence[Member]
    env: Environment
    programs: Train
    checkpoint_file: Path
    resume_hint: str
    quiet: bool = False
    log: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    callback: Callback | None = None

    @property
    def config(self) -> TrainConfig:
        """The settings that all members share; its radius and seeds are those of the first."""
        return self.members[0].config

    @property
    def slots(self) -> list[tuple[Member, int]]:
        """Each member with each of its seeds, as they stand on the axis of runs."""
        return [(member, seed) for member in self.members for seed in seeds_of(member.config)]
