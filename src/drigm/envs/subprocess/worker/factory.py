"""Environments by name: ``package.module:factory?option=value&other=value``."""

from __future__ import annotations

import ast
import functools
import importlib
import os
import runpy
import sys
import types
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from .errors import EnvError, describe


def factory(name: str) -> Callable[[], Any]:
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
    return lambda: found(**options)


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
