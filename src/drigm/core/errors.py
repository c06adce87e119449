"""The one exception that drigm raises for bad input, and the checks that every input goes through."""

import contextlib
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any, NoReturn

MAX_SHOWN = 200  # characters of what was given
MAX_JSON = 1_000_000  # bytes of a file of settings
MAX_PATH = 4096  # characters, Linux's PATH_MAX


class UserError(ValueError):
    """Bad input, said in one sentence: the field, what was given, what is allowed.

    The command line prints the sentence and exits with code 2; Python callers see a ``ValueError``.
    """


def check(ok: bool, field: str, given: object, allowed: str) -> None:
    """Raise `UserError` naming ``field``, what was ``given`` and what is ``allowed`` unless ``ok``."""
    if not ok:
        raise UserError(f"{one_line(field)}: {shown(given)} is not allowed; {allowed}.")


def choose(field: str, given: str, allowed: "list[str] | tuple[str, ...]") -> str:
    """Return ``given`` if it is one of ``allowed``, else raise `UserError` listing them."""
    check(given in allowed, field, given, f"choose one of {', '.join(map(str, allowed))}")
    return given


def shown(given: object) -> str:
    """Return ``repr(given)``, without its middle where it is long; it never raises, whatever was read from a file."""
    try:
        text = repr(given)
    except RecursionError:
        return f"a deeply nested {type(given).__name__}"
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"
    return _cut(text)


def one_line(text: object) -> str:
    """Return ``text`` as one line of a readable length."""
    return _cut(" ".join(str(text).split()))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN // 2]} ... {text[-MAX_SHOWN // 4 :]}"


def warn(sentence: str) -> None:
    """Write a line that a user must see, however quiet the command is, to standard error; it never fails."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"drigm: {sentence}\n")
        sys.stderr.flush()


def as_path(field: str, given: str | Path) -> Path:
    """Return ``given`` as a path; `UserError` for what no file system takes. The empty text is no folder's name."""
    text = str(given)
    check(text != "", field, text, "give a path; the folder that you are in is '.'")
    try:
        sound = b"\0" not in os.fsencode(text)
    except UnicodeError:
        sound = False
    check(sound, field, text, "a path holds no NUL and no half of a character")
    check(len(text) <= MAX_PATH, field, text, f"a path has at most {MAX_PATH} characters")
    return Path(text)


def read_json(path: Path) -> Any:
    """Return what the small JSON file ``path`` holds, each key once and every number finite.

    Raises:
        OSError: it is no file, or cannot be read.
        UserError: it is not valid JSON, or too large.
    """
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:  # a pipe would block
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileNotFoundError(2, "not a file", str(path))
        data = file.read(MAX_JSON + 1)
    if len(data) > MAX_JSON:
        raise UserError(f"{path}: not valid JSON of drigm's (it has more than {MAX_JSON:,} bytes).")
    return parse_json(data, path)


def parse_json(data: bytes, path: Path) -> Any:
    """Return what ``data``, read from ``path``, holds as `read_json` does; `UserError` if it is not valid JSON."""
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_not_finite)
    except RecursionError:
        raise UserError(f"{path}: not valid JSON (it is nested too deeply).") from None
    except ValueError as error:  # of JSON or of UTF-8
        raise UserError(f"{path}: not valid JSON ({one_line(error)}).") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{shown(next(name for name in names if names.count(name) > 1))} stands there twice")
    return found


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
