"""Small JSON files, which may be damaged or somebody else's, and digests of what JSON holds."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from drigm.core.errors import UserError, check, one_line, shown

MAX_JSON = 64_000_000  # bytes; a sweep's plan has some two thousand for each point


def json_digest(value: Any) -> str:
    """Return the SHA-256 of ``value`` as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def read_object(path: Path, *, finite: bool = True) -> dict[str, Any]:
    """Return the object that the small JSON file ``path`` holds, each key once and, with ``finite``, no NaN.

    Raises:
        UserError: it is no file, cannot be read, is too large, or not valid JSON.
    """
    try:
        # A pipe would block.
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UserError(f"{path}: is not a file.")
            data = file.read(MAX_JSON + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from None
    if len(data) > MAX_JSON:
        raise UserError(f"{path}: not valid JSON of drigm's (it has more than {MAX_JSON:,} bytes).")
    return parse_object(data, path, finite=finite)


def parse_object(data: bytes, path: Path, *, finite: bool = True) -> dict[str, Any]:
    """Return the object that ``data``, read from ``path``, holds; as `read_object`."""
    loads = functools.partial(json.loads, parse_constant=_not_finite, parse_float=_finite) if finite else json.loads
    try:
        found = loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError:
        raise UserError(f"{path}: not valid JSON (it is nested too deeply).") from None
    except ValueError as error:  # of JSON or of UTF-8
        raise UserError(f"{path}: not valid JSON ({one_line(error)}).") from None
    check(isinstance(found, dict), str(path), found, "it must hold one JSON object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{shown(next(name for name in names if names.count(name) > 1))} stands there twice")
    return found


def _finite(text: str) -> float:
    return float(text) if math.isfinite(float(text)) else _not_finite(text)


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{one_line(text)} is no finite number")
