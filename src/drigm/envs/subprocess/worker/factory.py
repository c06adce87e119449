"""Environments by name: ``package.module:factory?option=value&other=value``."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import os
import runpy
import sys
import types
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, urlencode

from .errors import EnvError, describe


class Factory:
    """Makes an environment: called without arguments; ``options`` are those of its name."""

    def __init__(self, found: Any, options: dict[str, Any]) -> None:
        self.found, self.options = found, options

    def __call__(self) -> Any:
        """Return a new environment."""
        return self.found(**self.options)

    def floats(self) -> dict[str, float]:
        """Return the options that are floats by default, with the values that they have here."""
        try:
            signature = inspect.signature(self.found)
        except (TypeError, ValueError):  # some built-in ones have none
            return {}
        defaults = {name: one.default for name, one in signature.parameters.items()}
        floats = {name: self.options.get(name, x) for name, x in defaults.items() if isinstance(x, float)}
        return {name: float(x) for name, x in floats.items() if isinstance(x, (int, float)) and abs(x) < float("inf")}


def with_options(name: str, options: Iterable[tuple[str, float]]) -> str:
    """Return ``name`` with ``options`` in the place of those that it has of the same names."""
    target, _, query = name.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    given |= {key: repr(float(x)) for key, x in options}
    return f"{target}?{urlencode(given)}" if given else target


def factory(name: str) -> Factory:
    """Return what makes the environment ``name``.

    Instead of a module there may be the path of a Python file, as in ``rooms.py:make``, or a module in a folder, as in
    ``/home/me/project/package.module:make``. Without a folder, what is installed comes before the working directory:
    a file that happens to lie there does not take the place of the module that is meant.

    Raises:
        EnvError: there is no such module or attribute.
    """
    target, _, query = name.partition("?")
    module_name, colon, attribute = target.rpartition(":")
    if not colon or not module_name or not attribute:
        raise EnvError(f"{name!r} does not name an environment; write package.module:factory")
    try:
        if module_name.endswith(".py"):
            found: Any = _script(os.path.abspath(module_name))
        else:
            folder, module_name = os.path.split(module_name)
            here = os.getcwd()
            if folder:
                sys.path.insert(0, folder)
            else:  # PYTHONPATH may have it before everything
                sys.path[:] = [*(entry for entry in sys.path if os.path.abspath(entry) != here), here]
            found = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        raise EnvError(f"{target} cannot be loaded ({describe(error)})") from error
    options = {key: _value(text) for key, text in parse_qsl(query, keep_blank_values=True)}
    return Factory(found, options)


@functools.cache
def _script(path: str) -> Any:
    """Return what the file ``path`` defines; it runs once in a process, as a module does."""
    sys.path.insert(0, os.path.dirname(path))  # as for any script
    return types.SimpleNamespace(**runpy.run_path(path, run_name="__drigm__"))


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):  # a text, or brackets without end
        return {"true": True, "false": False}.get(text, text)
