"""One time-step as arrays, and how a batch of them travels between processes: as bytes, never pickled."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Facts(NamedTuple):
    """What never changes about an environment; travels as JSON."""

    name: str
    agents: list[str]
    obs_size: int
    state_size: int
    num_actions: int
    episode_limit: int  # a hint: what the environment says of itself may be wrong
    obs_low: list[list[float | None]]  # [N][O], None where a reading has no bound or is padding
    obs_high: list[list[float | None]]
    state_low: list[float | None]  # [S]
    state_high: list[float | None]
    reward_range: list[float | None]
    readings: list[int]  # how many of the O readings each agent has; the rest is padding
    masks_actions: bool
    agents_die: bool
    has_wins: bool
    idle_action: int
    notes: list[str]  # what a user should know: fallbacks that were taken
    regulated: list[Any] | None = None  # [index of a reading, its setpoint for each agent, what each action stands for]
    parameters: Sequence[list[Any]] = ()  # [name, about, values to try, every value is above] of what can be varied
    suites: dict[str, Any] | None = None  # of worlds by name, each the strengths of parameters by name
    own_actions: list[int] | None = None  # how many of the actions each agent has; None: all
    first_actions: list[int] | None = None  # what the environment calls each agent's action 0; None: 0
    described: dict[str, Any] | None = None  # names and units, see `declarations.described_of`


class SubprocessStep(NamedTuple):
    """One time-step of one environment, as `drigm.core.types.TimeStep` has it."""

    obs: np.ndarray  # [N, O] float32
    state: np.ndarray  # [S] float32
    avail_actions: np.ndarray  # [N, A] bool
    reward: float
    terminated: bool
    truncated: bool
    alive: np.ndarray  # [N] bool
    won: bool

    @property
    def over(self) -> bool:
        return self.terminated or self.truncated


# What a worker is at, for whoever waits for it: how many calls it has begun, in which slot, and whether the present one
# may take its time (it makes or resets an environment).
AT_WORK = struct.Struct("<qi?")


def layout(facts: Facts, envs: int) -> list[tuple[tuple[int, ...], Any]]:
    """Shape and type of each field of ``envs`` stacked time-steps, in the order of `SubprocessStep`."""
    n = len(facts.agents)
    return [
        ((envs, n, facts.obs_size), np.float32),
        ((envs, facts.state_size), np.float32),
        ((envs, n, facts.num_actions), np.bool_),
        ((envs,), np.float32),
        ((envs,), np.bool_),
        ((envs,), np.bool_),
        ((envs, n), np.bool_),
        ((envs,), np.bool_),
    ]


def pack(facts: Facts, steps: list[SubprocessStep]) -> bytes:
    """Return the bytes of stacked time-steps."""
    columns = [np.empty(shape, kind) for shape, kind in layout(facts, len(steps))]
    for i, step in enumerate(steps):
        for column, value in zip(columns, step, strict=True):
            column[i] = value
    return b"".join(column.tobytes() for column in columns)


def unpack(facts: Facts, envs: int, data: bytes) -> list[np.ndarray]:
    """Return the fields of `SubprocessStep`, each with a leading axis [envs]."""
    fields, at = [], 0
    for shape, kind in layout(facts, envs):
        count = int(np.prod(shape))
        fields.append(np.frombuffer(data, kind, count, at).reshape(shape))
        at += count * np.dtype(kind).itemsize
    return fields


def checksums(fields: Sequence[np.ndarray]) -> list[int]:
    """Return the checksum of each of stacked time-steps: equal ones have equal bytes, as good as always."""
    return [zlib.crc32(b"".join(field[i].tobytes() for field in fields)) for i in range(len(fields[0]))]
