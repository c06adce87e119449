"""An agent's actions and flags in words and in JSON; it needs nothing but the contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from drigm.deployment.guard import Flag


def meaning_of(contract: Mapping[str, Any], action: int) -> str:
    """Return what ``action``, as the environment counts, means: its name, or its level and what that is a level of."""
    actions, place = contract["actions"], action - contract["actions"]["first"]
    if not 0 <= place < actions["count"]:
        return ""
    if actions["names"] is not None and place < len(actions["names"]):
        return str(actions["names"][place])
    if actions["values"] is None:
        return ""
    level = f"{actions['values'][place]:.4g}"
    return f"{level} ({actions['meaning']})" if actions["meaning"] else level


def short_action(contract: Mapping[str, Any], action: int) -> str:
    """Return an action for a narrow column: its name, or its level, or its number."""
    return meaning_of(contract, action).partition(" (")[0] or str(action)


def flag_rows(flags: Iterable[Flag]) -> list[dict[str, Any]]:
    """Return flags as JSON objects: kind, reading (null: of the whole observation) and for how many steps."""
    return [{"kind": flag.kind, "reading": flag.reading, "steps": flag.steps} for flag in flags]


def flags_of(rows: Iterable[Mapping[str, Any]]) -> tuple[Flag, ...]:
    """Return the flags that `flag_rows` wrote."""
    return tuple(Flag(str(row["kind"]), row["reading"], int(row["steps"])) for row in rows)
