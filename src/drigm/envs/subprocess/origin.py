"""Where a PettingZoo environment's source lies: absolute places, so that a run means the same from every folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from drigm.core.errors import UserError, check


class Origin(NamedTuple):
    """The parts of ``pettingzoo:FOLDER/MODULE:FACTORY?OPTIONS``; ``folder`` is "" where the module is installed."""

    folder: str
    module: str  # package.module, or file.py
    rest: str  # the factory and its options

    def __str__(self) -> str:
        return f"pettingzoo:{os.path.join(self.folder, self.module)}:{self.rest}"

    @property
    def file(self) -> Path | None:
        """The source file that the name means; None where the module is installed, or nowhere."""
        if not self.folder:
            return None
        if self.module.endswith(".py"):
            file = os.path.join(self.folder, self.module)
            return Path(file) if _is_file(file) else None
        stem = os.path.join(self.folder, *self.module.split("."))
        return next((Path(name) for name in (f"{stem}.py", os.path.join(stem, "__init__.py")) if _is_file(name)), None)


def origin(env_id: str) -> Origin | None:
    """Return the parts of a PettingZoo environment's id; None for another kind, or an id that names nothing."""
    kind, _, name = env_id.partition(":")
    target, mark, options = name.partition("?")
    place, _, factory = target.rpartition(":")
    if kind != "pettingzoo" or not place:
        return None
    return Origin(*os.path.split(place), factory + mark + options)


def located(env_id: str) -> str:
    """Return ``env_id`` with the absolute folder of its file, or of a module that lies in the working directory.

    Raises:
        UserError: the folder's name has a character that ids give a meaning to.
    """
    parts = origin(env_id)
    if parts is None:
        return env_id
    here = parts._replace(folder=os.path.abspath(parts.folder))
    if not (parts.folder or parts.module.endswith(".py") or here.file is not None):
        return env_id
    check("?" not in here.folder, "env", env_id, "the path of its folder must not hold '?'")
    return str(here)


def digest(file: Path) -> str:
    """Return the SHA-256 of the file's content; `UserError` if it cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"env: {str(file)!r} cannot be read ({error.strerror}).") from None


def _is_file(name: str) -> bool:
    try:
        return os.path.isfile(name)
    except ValueError:  # NUL
        return False
