"""What an environment says about itself in attributes and spaces: its bounds, its rewards, how long episodes are.

Such words are read from the environment that was given, not from what its wrappers hold: a wrapper may change them.
What makes no sense is unknown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

LIMITS = ("max_cycles", "max_steps")
LONGEST = 2**31 - 1  # steps; more means that there is no limit
UNBOUNDED = 1e30  # bounds beyond it, such as the largest float32, are no bounds
INNER = ("env", "aec_env", "par_env")  # attributes that wrappers keep what they wrap in

Bounds = tuple["list[float | None]", "list[float | None]"]


class Said(NamedTuple):
    """A value, None where it is unknown, and what was wrong with how it was said."""

    value: Any
    odd: str = ""


def _layers(env: Any) -> Iterator[Any]:
    """Yield ``env`` and what it wraps, from the outside in."""
    seen: list[Any] = []
    while env is not None and not any(env is one for one in seen):
        yield env
        seen.append(env)
        with contextlib.suppress(Exception):
            env = next((vars(env)[name] for name in INNER if name in vars(env)), None)
    with contextlib.suppress(Exception):
        yield seen[0].unwrapped


def _read(env: Any, names: tuple[str, ...]) -> tuple[str, Any]:
    """Return the first of ``names`` that the outermost layer with one of them has, and its value."""
    for layer in _layers(env):
        for name in names:
            with contextlib.suppress(Exception):
                own = name in vars(layer) or hasattr(type(layer), name)
                if own and (value := getattr(layer, name)) is not None:
                    return name, value
    for name in names:  # whatever __getattr__ finds elsewhere
        with contextlib.suppress(Exception):
            return name, getattr(env, name)
    return "", None


def limit_of(env: Any) -> Said:
    """Return the number of steps after which ``env`` says that it truncates."""
    name, value = _read(env, LIMITS)
    if value is None:
        return Said(None)
    number = _number(value)
    if number is not None and 0 < number <= LONGEST and number.is_integer():
        return Said(int(number))
    if number == np.inf:
        return Said(None)
    return Said(None, f"its {name} is {_shown(value)}, not a number of steps")


def reward_range_of(env: Any) -> Said:
    """Return the lowest and highest reward of one agent in one step that ``env`` declares, else infinite ones."""
    unbounded = -np.inf, np.inf
    _, value = _read(env, ("reward_range",))
    if value is None:
        return Said(unbounded)
    try:
        low, high = (_number(x) for x in value)
    except (TypeError, ValueError):
        low = high = None
    if low is None or high is None or not low <= high:
        return Said(unbounded, f"its reward_range is {_shown(value)}, not a lowest and a highest reward")
    return Said((low, high))


def regulated_of(env: Any, agents: list[Any], width: int, actions: int) -> Said:
    """Return [reading, setpoints [N], levels [A]] of the attribute ``regulated`` of ``env``, None where it has none.

    ``regulated = {"reading": 0, "setpoint": 22.0, "levels": [...]}``: each agent's own action holds the reading of that
    index at the setpoint (a number, or one for each agent by its id). The levels that actions stand for rise, and a
    higher one raises the reading.
    """
    _, value = _read(env, ("regulated",))
    if value is None:
        return Said(None)
    odd = f"its regulated is {_shown(value)}, not a reading, a setpoint and {actions} rising levels"
    try:
        reading, setpoint = _number(value["reading"]), value["setpoint"]
        by_agent = [setpoint[agent] if isinstance(setpoint, dict) else setpoint for agent in agents]
        setpoints, levels = ([_number(x) for x in side] for side in (by_agent, value["levels"]))
    except (TypeError, KeyError, IndexError):
        return Said(None, odd)
    known = [x for x in (reading, *setpoints, *levels) if x is not None and np.isfinite(x)]
    right = len(known) == 1 + len(agents) + actions == 1 + len(agents) + len(levels)
    if not right or known[0] not in range(width) or not (np.diff(known[1 + len(agents) :]) > 0.0).all():
        return Said(None, odd)
    return Said([int(known[0]), setpoints, levels])


def parameters_of(env: Any, options: dict[str, float]) -> Said:
    """Return [name, about, values, lowest] of each option that a factory takes and that may be varied.

    ``options``: those whose default is a float, by name. An attribute ``parameters`` of ``env`` says which are meant,
    and more about them: ``{"drain": {"about": "share lost in a step", "values": [0.1, 0.4], "lowest": 0.0}}``. What it
    names may also be an option with another default.
    """
    _, value = _read(env, ("parameters",))
    if value is None or callable(value):  # that of a torch module is a method
        near = {name: [0.8 * x, 1.25 * x] if x else [] for name, x in options.items()}
        return Said([[name, f"an option, now {x:g}", near[name], None] for name, x in options.items()])
    try:
        found = [[str(name), *_parameter(dict(declared))] for name, declared in dict(value).items()]
    except (TypeError, ValueError, KeyError):
        return Said([], f"its parameters are {_shown(value)}, not about, values and lowest of each by name")
    return Said(found)


def suites_of(env: Any) -> Said:
    """Return {suite: {world: {name: strength}}} of the attribute ``suites`` of ``env``, {} where it has none.

    Strengths are those of its parameters and of drigm's perturbations: ``{"weather": {"dry": {"leak": 0.0}}}``.
    """
    _, value = _read(env, ("suites",))
    if value is None or callable(value):
        return Said({})
    odd = f"its suites are {_shown(value)}, not numbers of each parameter, by name, of each world, of each suite"
    try:
        found = {
            str(suite): {
                str(world): {str(k): _number(x) for k, x in declared.items()} for world, declared in worlds.items()
            }
            for suite, worlds in value.items()
        }
    except (TypeError, AttributeError):
        return Said({}, odd)
    numbers = [x for worlds in found.values() for declared in worlds.values() for x in declared.values()]
    whole = all(found.values()) and all(x is not None and np.isfinite(x) for x in numbers)
    return Said(found) if whole else Said({}, odd)


def _parameter(declared: dict[str, Any]) -> list[Any]:
    """Return [about, values, lowest]; raises `ValueError` where something is no number."""
    values, lowest = [_number(x) for x in declared["values"]], declared.get("lowest")
    low = None if lowest is None else _number(lowest)
    if None in values or (lowest is not None and low is None) or not np.isfinite([x or 0.0 for x in values]).all():
        raise ValueError(declared)
    return [str(declared.get("about", "")), values, low]


def described_of(env: Any, agents: list[Any], sizes: list[int], actions: int) -> Said:
    """Return what the attribute ``described`` of ``env`` says about its numbers, None where it has none.

    ``described = {"readings": [...], "units": [...], "actions": [...], "step_seconds": 300}``: names and units of the
    readings (a list for all agents, or one for each by its id), names of the actions, and how long a step is. All may
    be left out.
    """
    _, value = _read(env, ("described",))
    if value is None:
        return Said(None)
    odd = f"its described is {_shown(value)}, not names and units of readings, names of {actions} actions, step_seconds"
    try:
        known = {"readings", "units", "actions", "step_seconds"}
        found = {name: value[name] for name in known if name in value}
        for name in ("readings", "units"):
            texts = found.get(name)
            if texts is None:
                continue
            rows = [list(texts[agent] if isinstance(texts, dict) else texts) for agent in agents]
            if any(
                len(row) < n or not all(isinstance(x, str) for x in row) for row, n in zip(rows, sizes, strict=True)
            ):
                return Said(None, odd)
            found[name] = [row[:n] for row, n in zip(rows, sizes, strict=True)]
        names = list(found.get("actions", ()))
        seconds = _number(found.get("step_seconds", 1.0))
    except (TypeError, KeyError, IndexError):
        return Said(None, odd)
    right = len(names) in (0, actions) and all(isinstance(x, str) for x in names) and set(value) <= known
    if not right or seconds is None or not 0.0 < seconds < np.inf:
        return Said(None, odd)
    return Said(found | {"actions": names} | ({"step_seconds": seconds} if "step_seconds" in found else {}))


def _number(value: Any) -> float | None:
    if isinstance(value, (str, bytes, bool, np.bool_)) or callable(value):
        return None
    try:
        return float(np.asarray(value).item())
    except (TypeError, ValueError, OverflowError):
        return None


def _shown(value: Any) -> str:
    return f"a {type(value).__name__}" if callable(value) else repr(value)


def bounds_of(box: Any, width: int) -> Bounds:
    """Return lowest and highest values of the readings of ``box``, None without a bound, padded to ``width``."""
    low, high = (_side(box, *names, width) for names in (("low", "bounded_below"), ("high", "bounded_above")))
    return low, high


def _side(box: Any, name: str, flag: str, width: int) -> list[float | None]:
    """``flag`` tells infinite bounds of whole numbers, which a Box holds as finite ones."""
    bounds = np.asarray(getattr(box, name), np.float64)
    real = np.broadcast_to(getattr(box, flag, True), bounds.shape) & (np.abs(bounds) <= UNBOUNDED)
    known = [float(x) if ok else None for x, ok in zip(bounds.ravel(), real.ravel(), strict=True)]
    return known + [None] * (width - len(known))


def state_bounds_of(env: Any, size: int) -> Said:
    """Return the bounds of a state of ``size`` numbers that ``env.state_space`` declares, None where it has none."""
    unknown = [None] * size, [None] * size
    _, box = _read(env, ("state_space",))
    if box is None or not (hasattr(box, "low") and hasattr(box, "high")):
        return Said(unknown)
    numbers = int(np.size(box.low))
    if numbers != size:
        return Said(unknown, f"its state_space has {numbers} numbers, but state() returns {size}")
    return Said(bounds_of(box, size))
