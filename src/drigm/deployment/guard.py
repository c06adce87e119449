"""What stands between an agent and a world that is not as it should be: nothing bad gets through, and nothing raises.

A `Guard` judges every reading and holds the last good one, a `Fallback` acts where that is too old.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

LARGEST = float(np.finfo(np.float32).max)
GOOD, MISSING, NAN, SIZE, TYPE, RANGE, STALE = range(7)
KINDS = ("good", "missing", "nan", "size", "type", "range", "stale")  # of a reading


class Flag(NamedTuple):
    """What was wrong at a step: its kind, the reading (None: the whole observation), since when, and in which row.

    Kinds: those of `KINDS`, ``mask`` (the available actions cannot be read), ``previous`` (nor the previous action),
    ``network`` (it gave no numbers), ``late`` (the step before was too long ago), ``fallback`` (it decides now).
    """

    kind: str
    reading: str | None = None
    steps: int = 0  # how many in a row, this one included
    row: int = 0


class Decision(NamedTuple):
    """An action (of a batch: [B] int32), what was wrong, and whether the fallback decided ([B] bool)."""

    action: Any
    flags: tuple[Flag, ...]
    fallback: Any


def as_array(value: Any) -> Any:
    """Return an array of another library (JAX, pandas, a tensor) as NumPy's; whatever else as it is. It may raise."""
    if isinstance(value, np.ndarray | np.generic) or not hasattr(value, "__array__"):
        return value
    return np.asarray(value)


def stamp_of(value: Any) -> Any:
    """Return what tells one stamp from another: a finite number, or a text or date; None for whatever else."""
    try:
        if isinstance(value, str | datetime | np.datetime64):
            return str(value) or None
    except Exception:  # as of a reading
        return None
    number, kind = number_of(value)
    return number if kind == GOOD and np.isfinite(number) else None


def number_of(value: Any) -> tuple[float, int]:
    """Return a reading as a number and its kind; anything is allowed."""
    if value is None:
        return 0.0, MISSING
    try:
        value = as_array(value)
        if isinstance(value, np.ndarray) and value.shape == () and value.dtype.kind in "iuf":
            value = value.item()
        number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        return (float(value), GOOD) if number else (0.0, TYPE)
    except OverflowError:
        return 0.0, RANGE
    except Exception:  # an object that fails while it is read is no number
        return 0.0, TYPE


class Guard:
    """What stands between an agent's readings and its network, row by row of a batch."""

    def __init__(self, readings: list[dict[str, Any]], safety: Mapping[str, Any]) -> None:
        self.names = [one["name"] for one in readings]
        bounds = [[one["low"], one["high"]] for one in readings]
        known = [[-LARGEST if a is None else a, LARGEST if b is None else b] for a, b in bounds]
        low, high = np.array(known, np.float64).reshape(-1, 2).T
        # As the readings are compared: 0.9 is not beyond a bound of 0.9 that was a float32, 0.89999998, at first.
        self.low, self.high = (np.clip(x, -LARGEST, LARGEST).astype(np.float32) for x in (low, high))
        self.moves = np.array([one["stale"] for one in readings], bool)
        self.hold, self.stale = safety["hold_steps"], safety["stale_steps"]

    def reset(self, rows: int) -> None:
        """Forget everything; the next readings are the first of ``rows`` episodes."""
        shape = (rows, len(self.names))
        self.held, self.known = np.zeros(shape, np.float32), np.zeros(shape, bool)
        self.age, self.same = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self.last, self.stamp = np.full(shape, np.nan), None

    def check(self, seen: Any, stamp: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return values [B, O] float32 that are safe, the kind of each reading [B, O], and which are lost [B, O].

        Lost are those that have been bad for more than ``hold_steps`` steps, or were never good.
        """
        values, kinds = self._read(seen)
        kinds[(kinds == GOOD) & ~np.isfinite(values)] = NAN
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = values.astype(np.float32)
        kinds[(kinds == GOOD) & ((rounded < self.low) | (rounded > self.high))] = RANGE
        old = values == self.last
        if stamp is not None:  # a time or a number of the measurement, which says it better than its value
            read = stamp_of(stamp)
            old[:] = read is None or read == self.stamp  # one that cannot be read is no news
            self.stamp = self.stamp if read is None else read
        self.same = np.where((kinds == GOOD) & old, self.same + 1, 0)
        self.last = np.where(kinds == GOOD, values, self.last)
        if self.stale:
            kinds[(self.same >= self.stale) & (self.moves | (stamp is not None))] = STALE
        good = kinds == GOOD
        self.held = np.where(good, rounded, self.held)
        self.known |= good
        self.age = np.where(good, 0, self.age + 1)
        return self.held, kinds, ~self.known | (self.age > self.hold)

    def _read(self, seen: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers [B, O] float64 and the kind of each."""
        rows, size = self.held.shape
        try:
            seen = as_array(seen)
            numbers = isinstance(seen, np.ndarray) and seen.dtype.kind in "biuf" and seen.size == rows * size
            if numbers and (rows == 1 or seen.shape == (rows, size)):
                return seen.reshape(rows, size).astype(np.float64), np.zeros((rows, size), np.int8)
            pairs = np.array([self._row(part) for part in self._split(seen, rows)], np.float64)  # [B, O, 2]
        except Exception:  # an object that fails while it is read is no reading
            pairs = np.array([[(0.0, TYPE)] * size] * rows)
        return pairs[..., 0], pairs[..., 1].astype(np.int8)

    def _split(self, seen: Any, rows: int) -> list[Any]:
        """Return the observation of each row of a batch."""
        if rows == 1 and not (isinstance(seen, np.ndarray) and seen.ndim == 2 and len(seen) == 1):
            return [seen]
        if seen is None or isinstance(seen, str | bytes | Mapping) or not hasattr(seen, "__len__"):
            return [seen] * rows
        return list(seen) if len(seen) == rows else [()] * rows

    def _row(self, seen: Any) -> list[tuple[float, int]]:
        size = len(self.names)
        if seen is None:
            return [(0.0, MISSING)] * size
        if isinstance(seen, Mapping):
            return [number_of(seen.get(name)) for name in self.names]
        if isinstance(seen, str | bytes) or not hasattr(seen, "__len__"):
            return [(0.0, TYPE)] * size
        if len(seen) != size:
            return [(0.0, SIZE)] * size
        return [number_of(value) for value in seen]


def allowed(available: Any, shape: tuple[int, int]) -> np.ndarray | None:
    """Return the available actions [B, A] as booleans; None where they cannot be read, or one row has none."""
    try:
        mask = np.asarray(available)
        ok = mask.dtype.kind in "biuf" and (mask.shape == shape or (shape[0] == 1 and mask.shape == shape[1:]))
        if ok and np.all((mask == 0) | (mask == 1)) and np.all(np.any(mask, axis=-1)):
            return mask.reshape(shape).astype(bool)
    except Exception:  # as of a reading
        pass
    return None


def possible(action: np.ndarray, mask: np.ndarray, idle: int) -> np.ndarray:
    """Return each action [B] where ``mask`` [B, A] allows it, else the idle one, else the first that it allows."""
    resting = np.where(mask[:, idle], idle, mask.argmax(axis=1))
    return np.where(np.take_along_axis(mask, action[:, None], axis=1)[:, 0], action, resting)


class Fallback:
    """What acts where the network must not: the idle action, a constant one, or PI on a reading that is still good.

    Args:
        said: ``{"kind": "idle"}``, ``{"kind": "constant", "action": k}`` or ``{"kind": "pi", "reading": index,
            "setpoint": x, "kp": level per unit of error, "ki": level per unit of error and step}``.
        idle: the index of the idle action.
        first: what the contract calls action 0.
        levels: of the actions [A]; None where they have no order.
    """

    def __init__(self, said: Mapping[str, Any], idle: int, first: int, levels: np.ndarray | None) -> None:
        self.said, self.levels = said, levels
        self.constant = said["action"] - first if said["kind"] == "constant" else idle

    @classmethod
    def of(cls, contract: Mapping[str, Any]) -> Fallback:
        """Return the fallback that an agent's contract declares."""
        actions = contract["actions"]
        levels = None if actions["values"] is None else np.array(actions["values"])
        return cls(contract["safety"]["fallback"], actions["idle"] - actions["first"], actions["first"], levels)

    def reset(self, rows: int) -> None:
        """Forget the sums of errors of all rows."""
        self.total = np.zeros(rows)

    def act(self, values: np.ndarray, lost: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Return the actions [B]; ``active`` [B] says where it decides, elsewhere its sum of errors is cleared.

        The law of PI, and when its sum stands still, is that of `drigm.agents.pi`.
        """
        action = np.full(len(values), self.constant)
        if self.said["kind"] != "pi" or self.levels is None:
            return action
        reading, kp, ki = self.said["reading"], self.said["kp"], self.said["ki"]
        error = self.said["setpoint"] - values[:, reading].astype(np.float64)
        total = np.where(active & ~lost[:, reading], self.total, 0.0)
        level = kp * error + ki * (total + error)
        inside = (level > self.levels[0]) & (level < self.levels[-1])
        self.total = np.where(active, total + np.where(inside | (level * error <= 0.0), error, 0.0), 0.0)
        nearest = np.abs(self.levels - level[:, None]).argmin(axis=1)
        return np.where(lost[:, reading], action, nearest)
