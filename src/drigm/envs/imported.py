"""Records that a config names by where they are defined: ``python:MODULE:ATTRIBUTE`` or ``python:FILE.py:ATTRIBUTE``.

Python code passes the records themselves (`drigm.train(env=..., uncertainty=MySet(rho=0.1))`). A record that a module
or script holds is named by its place there, so that any process of this user can open the run again. One that lives
nowhere else (in a notebook, in a function) is called ``object:NAME``: it has to be passed again, as
``drigm.load_run(..., objects=[...])``.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from drigm.core.errors import UserError, check
from drigm.envs.subprocess.worker.errors import EnvError, describe
from drigm.envs.subprocess.worker.factory import Factory, factory

IMPORTED, OBJECT = "python", "object"  # kinds of names

SCRIPT = ("__main__", "__mp_main__")  # the script that runs; multiprocessing has another name for it

_given: dict[tuple[str, str], Any] = {}  # (field, name): what Python code has passed


def is_imported(name: str) -> bool:
    """Return whether ``name`` stands for a record outside the registries."""
    return name.partition(":")[0] in (IMPORTED, OBJECT) and ":" in name


def is_given(field: str, name: str) -> bool:
    """Return whether this process has been passed the record, so that nothing has to be imported for it."""
    return (field, name) in _given


def object_mark(field: str, name: str) -> str | None:
    """Return what tells an object that was passed from any other of its name; None for what a name alone tells."""
    if not name.startswith(f"{OBJECT}:"):
        return None
    return f"{os.getpid()}-{id(_given.get((field, name)))}"


def give(field: str, record: Any, name: str) -> str:
    """Take in a record that Python code has passed, and return what a config calls it; ``name`` is its own."""
    place = _place_of(record)
    plain = re.sub(r"[^\w.-]+", "-", str(name), flags=re.ASCII).strip("-") or "unnamed"
    called = f"{OBJECT}:{plain}" if place is None else place
    _given[field, called] = record
    return called


def imported_record(field: str, name: str) -> Any:
    """Return what ``name`` stands for; a function is called with the options of the name.

    Raises:
        UserError: it cannot be imported, its function fails, or it is an object that nobody has passed.
    """
    if is_given(field, name):
        return _given[field, name]
    kind, _, target = name.partition(":")
    message = (
        "it was passed as an object that no module holds: pass it again, as in drigm.load_run(run, objects=[it]), or "
        "define it in a module and train with that"
    )
    check(kind != OBJECT, field, name, message)
    try:
        made: Factory = factory(target)
    except EnvError as error:
        raise UserError(f"{field}: {name!r} is not allowed; {error}.") from error
    if isinstance(made.found, tuple) or not callable(made.found):  # a record; some can be called, which is not meant
        check(not made.options, field, name, "options go to a function, and this is a record")
        return made.found
    try:
        return made()
    except Exception as error:
        raise UserError(f"{field}: {name!r} is not allowed; it raised {describe(error)}.") from error


def _place_of(record: Any) -> str | None:
    """Return the name ``python:...`` of a record that is an attribute of a module or script; None if it is none.

    The module that defines its functions is asked first: a run watches that file, and not one that imports from it.
    """
    homes = {getattr(part, "__module__", None) for part in (record if isinstance(record, tuple) else (record,))}
    # The script that runs comes last: to import it is to run it.
    modules = sorted(
        sys.modules.items(), key=lambda item: (item[0] not in homes, item[0] in SCRIPT, "." not in item[0])
    )
    for _, module in modules:
        names = [name for name, value in list(getattr(module, "__dict__", {}).items()) if value is record]
        if names and (where := _importable(module)) is not None:
            return f"{IMPORTED}:{where}:{min(names)}"
    return None


def _importable(module: Any) -> str | None:
    """Return how another process finds a module; None for a session that was typed in.

    A script, or a file beside one, is named by its path: another process may not find it by its name.
    """
    spec, file = getattr(module, "__spec__", None), getattr(module, "__file__", None)
    name = module.__name__ if spec is None else spec.name
    if "." in name or hasattr(module, "__path__"):
        return name
    if not isinstance(file, str) or not file.endswith(".py") or not os.path.isfile(file) or "?" in file:
        return None
    return os.path.abspath(file)
