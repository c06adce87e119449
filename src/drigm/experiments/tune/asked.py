"""What a tuning is asked for, checked before anything is trained: settings, what to search over, worlds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from drigm.core.config import FIELDS, RUNNING, TrainConfig, checked
from drigm.core.errors import UserError, check, choose, shown
from drigm.core.json_files import json_digest
from drigm.envs.api import Environment
from drigm.envs.persistent import Range, parse_ranges
from drigm.envs.perturbations import PERTURBATIONS
from drigm.envs.shifts import world_parts, worlds

Over = str | Sequence[str] | Mapping[str, Any]
"""``"rho=0,0.1"``, several such texts, or ``{"rho": [0, 0.1], "gamma": "0.9:0.99"}``."""

RADII = ("rho", "agent_rho")  # the team without robustness has 0 of both
TRAINED_IN = ("worlds", "world_count")  # settings that say which worlds a team is trained in
FIXED = ("env", "seeds", "first_seed", "steps", *TRAINED_IN, *RUNNING)  # what would make trials incomparable
LONGEST = 100  # characters of a point's name
HOLD_OUT = ("range", "half", "world")


class Axis(NamedTuple):
    """A setting that is searched over: among ``values``, or, where there are none, from ``low`` to ``high``."""

    name: str
    values: tuple[Any, ...] = ()
    low: float = math.nan
    high: float = math.nan


class Group(NamedTuple):
    """Worlds that are held out together; ``places`` are theirs among all that are played."""

    title: str
    places: tuple[int, ...]


class Source(NamedTuple):
    """The worlds that a radius is chosen in: what plays them all, home first, and how they are held out."""

    text: str
    groups: tuple[Group, ...]


def parse_over(over: Over) -> list[Axis]:
    """Return what is searched over; `UserError` where it cannot be read, or holds no radius."""
    if isinstance(over, Mapping):
        pairs = [(str(name), value) for name, value in over.items()]
    else:
        texts = [over] if isinstance(over, str) else list(over)
        pairs = [(name.strip(), value) for name, _, value in (text.partition("=") for text in texts)]
    names = [name for name, _ in pairs]
    for name in names:
        choose("over", name, [known for known in FIELDS if known not in FIXED])
        check(names.count(name) == 1, "over", name, "give it once, with all its values")
    radii = any(name in RADII for name in names)
    check(radii, "over", ", ".join(names) or None, f"give a radius, {' or '.join(RADII)}, as in rho=0,0.1,0.2")
    return [_axis(name, value) for name, value in pairs]


def _axis(name: str, given: Any) -> Axis:
    allowed = f"values as in {name}=0,0.1,0.2, or a range as in {name}=0:0.5"
    if isinstance(given, str):
        low, colon, high = given.partition(":")
        if colon and not isinstance(FIELDS[name].default, str | bool):
            ends = [_value(name, low), _value(name, high)]
            check(ends[0] < ends[1], f"over {name}", given, "give low:high")
            return Axis(name, (), *ends)
    parts = [part.strip() for part in given.split(",") if part.strip()] if isinstance(given, str) else given
    check(isinstance(parts, Sequence | np.ndarray) and len(parts) > 0, f"over {name}", given, allowed)
    return Axis(name, tuple(dict.fromkeys(sorted((_value(name, one) for one in parts), key=_order))))


def _order(value: Any) -> tuple[bool, Any]:
    return isinstance(value, str), value


def _value(name: str, given: Any) -> Any:
    """Return one value of a setting, as a text or a number says it."""
    default = FIELDS[name].default
    if isinstance(given, str) and isinstance(default, bool):
        return choose(f"over {name}", given, ("true", "false")) == "true"
    if isinstance(given, str) and not isinstance(default, str):
        try:
            given = float(given)
        except ValueError:
            raise UserError(f"over {name}: {shown(given)} is not allowed; give a number.") from None
    return checked(name, given.item() if isinstance(given, np.generic) else given)


def label(point: Mapping[str, Any]) -> str:
    """Return ``rho=0.1,gamma=0.9``: the name of a point, and of its folder."""
    parts = (f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}" for name, value in point.items())
    whole = re.sub(r"[^\w,=.-]+|\.(?!\d)", "-", ",".join(parts))
    return whole if len(whole) <= LONGEST else f"{whole[: LONGEST - 9]}-{json_digest(dict(point))[:8]}"


def source_of(env: Environment, text: str, hold_out: str, count: int, config: TrainConfig) -> Source:
    """Return the worlds to choose in, and which of them are held out together.

    Args:
        env: that the team is trained in.
        text: as ``worlds`` of `drigm.envs.shifts.worlds`.
        hold_out: "range": the worlds of each range, alone; "half": of each half of each range; "world": every world of
            all ranges together. "": range where there are several, else half. The worlds of a suite are held out one by
            one in any case.
        count: worlds that each range (half, or part with hold_out "world") draws.
        config: of the training, whose own worlds cannot be held out.

    Raises:
        UserError: there are no such worlds, fewer than two groups, or training knows a range.
    """
    parts = world_parts(text)
    check(bool(parts), "worlds", text, "give worlds to choose in, as in demand=0.8:1.2,lead_time=0:1")
    ranges = [found for part in parts if "=" in part for found in parse_ranges(part)]
    known = sorted({found.name for found in ranges} & {found.name for found in parse_ranges(config.worlds)})
    check(not known, "worlds", text, f"leave out {', '.join(known)}, which the team is trained in worlds of")
    several = len(ranges) != 1 or len(parts) > 1
    hold_out = choose("hold_out", hold_out or ("range" if several else "half"), HOLD_OUT)
    played = ["nominal"]
    for part in parts:
        if "=" not in part or hold_out == "world":
            played.append(part)
            continue
        found = parse_ranges(part)
        played += [_text(half) for one in found for half in ([one] if hold_out == "range" else _halves(env, one))]
    tried = worlds(env, ranges=";".join(played), count=count).shifts
    groups, place = list[Group](), 1
    for part in played[1:]:
        size = len(worlds(env, ranges=part, count=count).shifts)
        places = range(place, place + size)
        place += size
        if "=" in part and hold_out != "world":
            groups.append(Group(part, tuple(places)))
        else:  # home is in no group: what a radius costs there is the budget's business
            groups += [Group(tried[i].name, (i,)) for i in places if not same_world(tried[i].params, tried[0].params)]
    check(len(groups) > 1, "worlds", text, f"give more: with hold_out {hold_out} they make fewer than two groups")
    return Source("; ".join(played), tuple(groups))


def _halves(env: Environment, found: Range) -> list[Range]:
    """Return the two halves of a range; of a factor, halves of its logarithm. `UserError` where it is one number."""
    low, high = found.low, found.high
    check(low < high, "worlds", _text(found), "it is one number and has no halves: give low < high, or more ranges")
    if found.name in PERTURBATIONS and PERTURBATIONS[found.name].whole:
        middle = math.floor((low + high) / 2)
        return [found._replace(high=middle), found._replace(low=min(middle + 1.0, high))]
    factor = found.name in env.parameters and env.parameters[found.name].factor
    middle = math.sqrt(low * high) if factor else (low + high) / 2
    return [found._replace(high=middle), found._replace(low=middle)]


def _text(found: Range) -> str:
    held = "" if found.hours is None else f"@{found.hours:.10g}h"
    return f"{found.name}={found.low:.10g}:{found.high:.10g}{held}"


def same_world(one: Any, other: Any) -> bool:
    """Return whether two parameters of an environment are equal; in another process home's hold nothing."""
    if jax.tree.structure(one) != jax.tree.structure(other):
        return False
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def parse_truth(truth: str | Sequence[str], source: str, home: str, usual: str) -> list[tuple[str, str]]:
    """Return environment ("": ``home``, that of training) and worlds ("": its usual suite) of every truth, once each.

    A truth that is home's id alone is its ``usual`` suite.

    Written ``WORLDS``, ``ENV`` or ``ENV WORLDS``; worlds as ``worlds`` of `drigm.envs.shifts.worlds`.

    Raises:
        UserError: one of them is worlds that the radius is chosen in.
    """
    texts = [truth] if isinstance(truth, str) else list(truth)
    found = list[tuple[str, str]]()
    for text in (text.strip() for text in texts if text.strip()):
        env, _, inside = text.partition(" ") if re.match(r"[a-z]+:", text) else ("", "", text)
        inside = inside.strip()
        if env in ("", home):
            env, inside = "", inside or usual
            _refuse_known(inside, source)
        found.append((env, inside))
    return list(dict.fromkeys(found))


def _refuse_known(text: str, source: str) -> None:
    """Raise `UserError` where a part of a truth lies within the worlds that the radius is chosen in."""
    suites = {part for part in world_parts(source) if "=" not in part} | {"nominal"}
    ranges = [found for part in world_parts(source) if "=" in part for found in parse_ranges(part)]
    for part in world_parts(text):
        message = "give other worlds than those that the radius is chosen in, or it proves nothing"
        check(part not in suites, "truth", part, message)
        inside = [_inside(one, ranges) for one in (parse_ranges(part) if "=" in part else [])]
        check(not (inside and all(inside)), "truth", part, message)


def _inside(one: Range, ranges: Sequence[Range]) -> bool:
    known = [found for found in ranges if found.name == one.name]
    return bool(known) and min(x.low for x in known) <= one.low and one.high <= max(x.high for x in known)
