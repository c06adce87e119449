"""Runs that one program trains."""

from __future__ import annotations

from collections.abc import Sequence
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
    """

    members: Sequence[Member]
    env: Environment
    programs: Train
    checkpoint_file: Path
    resume_hint: str
    quiet: bool = False
    log: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def config(self) -> TrainConfig:
        """The settings that all members share; its radius and seeds are those of the first."""
        return self.members[0].config

    @property
    def slots(self) -> list[tuple[Member, int]]:
        """Each member with each of its seeds, as they stand on the axis of runs."""
        return [(member, seed) for member in self.members for seed in seeds_of(member.config)]
