"""What comes from outside: names that join a registry, and the installed packages that bring some along.

A package declares an entry point of the group `GROUP`; its module, or the function that it names, calls
`drigm.register_env` and the like. Packages are loaded when a name is asked for that drigm itself does not have, or all
names are listed: whoever uses drigm's own never waits for them, and a broken one stops nobody.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from drigm.core.errors import UserError, check, choose, one_line, warn

GROUP = "drigm.plugins"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,59}")
SESSION = "this program"  # where a name comes from that no package brought

Record = TypeVar("Record")

_origins: dict[tuple[str, str], str] = {}  # (field, name): the package
_state = {"loaded": False, "package": SESSION}


def join(field: str, registry: dict[str, Record], name: Any, record: Record) -> None:
    """Add ``record`` to a registry as ``name``; the same record may join again.

    Raises:
        UserError: the name is malformed, or another record has it.
    """
    ok = isinstance(name, str) and NAME.fullmatch(name) is not None
    check(ok, field, name, "a name has up to 60 letters, digits, - and _, and begins with a letter")
    if registry.get(name) is record:
        return
    owner = _origins.get((field, name), "drigm")
    check(name not in registry, field, name, f"{owner} has something of that name; take another one")
    registry[name] = record
    _origins[field, name] = str(_state["package"])


def look_up(field: str, name: str, registry: Mapping[str, Record]) -> Record:
    """Return what ``registry`` calls ``name``, after loading the plug-ins if it is not drigm's; `UserError` if none."""
    if name not in registry:
        load_plugins()
    return registry[choose(field, name, tuple(registry))]


def origins() -> dict[tuple[str, str], str]:
    """Return the package, or `SESSION`, that each (field, name) from outside came with."""
    return dict(_origins)


def load_plugins() -> None:
    """Load the installed plug-ins, once in a process; one that fails is a line on standard error, and no more."""
    if _state["loaded"]:
        return
    _state["loaded"] = True  # first: a plug-in may look a name up
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (_package(entry), entry.name)):
        _state["package"] = _package(entry)
        try:
            _run(entry)
        except (Exception, SystemExit) as error:
            why = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {one_line(error)}"
            warn(f"plug-in {one_line(entry.name)} of {_state['package']} is left out: {why.rstrip('.')}.")
        finally:
            _state["package"] = SESSION


def tried(field: str, name: str, what: str, call: Callable[[], Record]) -> Record:
    """Return ``call()``, which tries a function of a record from outside; `UserError` in place of what it raises."""
    try:
        return call()
    except Exception as error:
        raise UserError(
            f"{field}: {name!r} is not allowed; its {what} fails ({type(error).__name__}: {one_line(error)})."
        ) from error


def _run(entry: EntryPoint) -> None:
    """Import what an entry point names, and call it where it is no module."""
    found: Any = entry.load()
    if isinstance(found, types.ModuleType):
        return
    message = "it must name a module or a function that registers something"
    check(isinstance(found, types.FunctionType), "entry point", entry.value, message)
    found()


def _package(entry: EntryPoint) -> str:
    return "an unknown package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
