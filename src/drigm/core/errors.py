"""The one exception that drigm raises for bad input, and the checks that every input goes through."""

import contextlib
import difflib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

MAX_SHOWN = 200  # characters of what was given
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
    """Return ``given`` if it is one of ``allowed``, else raise `UserError` listing them, and the nearest."""
    if given not in allowed:
        names = [str(name) for name in allowed]
        check(False, field, given, f"choose one of {', '.join(names)}{nearest(str(given), names)}")
    return given


def nearest(given: str, names: Iterable[str]) -> str:
    """Return `` (did you mean NAME?)`` for the one of ``names`` that is spelt most like ``given``; "" if none is."""
    spelt = {name.lower(): name for name in names}
    found = difflib.get_close_matches(given.lower(), spelt, n=1, cutoff=0.6)
    return f" (did you mean {spelt[found[0]]}?)" if found else ""


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
