"""Where the source of what an id names lies: absolute places, so that a run means the same from every folder."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from drigm.core.errors import check

# Says where the module sys.argv[2] is found by this interpreter, without importing anything, its packages included;
# the working directory, sys.argv[1], is not looked at.
FIND = """
import importlib.machinery, importlib.util, os, sys
sys.path[:] = [entry for entry in sys.path if entry and os.path.abspath(entry) != sys.argv[1]]
names = sys.argv[2].split(".")
spec = importlib.util.find_spec(names[0])
for end in range(2, len(names) + 1):
    folders = spec and spec.submodule_search_locations
    spec = importlib.machinery.PathFinder.find_spec(".".join(names[:end]), folders) if folders else None
print(spec.origin or "namespace" if spec else "")
"""
FIND_SECONDS = 60.0
SOURCE_KINDS = ("pettingzoo", "python")  # whose ids name a module


class Origin(NamedTuple):
    """The parts of ``KIND:FOLDER/MODULE:FACTORY?OPTIONS``; ``folder`` is "" where the module is installed."""

    folder: str
    module: str  # package.module, or file.py
    rest: str  # the factory and its options
    kind: str = "pettingzoo"

    def __str__(self) -> str:
        return f"{self.kind}:{os.path.join(self.folder, self.module)}:{self.rest}"


def origin(env_id: str) -> Origin | None:
    """Return the parts of an id of a `SOURCE_KINDS`; None for another kind, or an id that names nothing."""
    kind, _, name = env_id.partition(":")
    target, mark, options = name.partition("?")
    place, _, factory = target.rpartition(":")
    if kind not in SOURCE_KINDS or not place:
        return None
    return Origin(*os.path.split(place), factory + mark + options, kind)


def located(env_id: str, python: str = "") -> str:
    """Return ``env_id`` with the absolute folder of its file, or of a module that only the working directory has.

    ``python`` is the interpreter that runs the environment, if not this one: what it has installed comes first.

    Raises:
        UserError: the folder's name has a character that ids give a meaning to.
    """
    parts = origin(env_id)
    if parts is None:
        return env_id
    here = parts._replace(folder=os.path.abspath(parts.folder))
    named = parts.folder or parts.module.endswith(".py")
    if not (named or (source_file(here) is not None and not installed(parts.module, python))):
        return env_id
    check("?" not in here.folder, "env", env_id, "the path of its folder must not hold '?'")
    return str(here)


def source_file(parts: Origin, python: str = "") -> Path | None:
    """Return the source file that the name means to the interpreter ``python``; None if it has none."""
    if parts.module.endswith(".py"):
        files = [os.path.join(parts.folder, parts.module)]
    elif parts.folder:
        stem = os.path.join(parts.folder, *parts.module.split("."))
        files = [os.path.join(stem, "__init__.py"), f"{stem}.py"]
    else:
        files = [installed(parts.module, python)]
    return next((Path(name) for name in files if _is_file(name)), None)


def installed(module: str, python: str = "") -> str:
    """Return the file of the module that the interpreter ``python`` has installed, or what kind it is of; "" if none.

    Nothing is imported.
    """
    return _installed(module, python or sys.executable, os.getcwd(), os.environ.get("PYTHONPATH", ""))


@functools.cache
def _installed(module: str, python: str, here: str, python_path: str) -> str:
    command = [python, "-c", FIND, here, module]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=FIND_SECONDS, check=True, text=True
        )
    except (OSError, ValueError, subprocess.SubprocessError):  # whoever starts it says what is wrong with it
        return ""
    return done.stdout.rpartition("\n")[0].rpartition("\n")[2]  # what a site prints comes before


def root_of(file: str, module: str) -> str:
    """Return the folder in which ``module`` is ``file``."""
    for _ in range(1 + module.count(".") + (os.path.basename(file) == "__init__.py")):
        file = os.path.dirname(file)
    return file


def _is_file(name: str) -> bool:
    try:
        return os.path.isfile(name)
    except ValueError:  # NUL
        return False
