"""How the environments of JaxMARL (Rutherford et al. 2024) are imported."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from drigm.core.errors import UserError

INSTALL = "pip install 'drigm[smax]'"


def load(module: str) -> Any:
    """Return JaxMARL's ``module``; `UserError` says how to install it."""
    try:
        # It talks while it is imported, and past a redirected stdout.
        with mock.patch("builtins.print"), _parents(name := f"jaxmarl.environments.{module}"):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(f"env: this one needs JaxMARL, and {error.name} is missing: {INSTALL}.") from None


@contextlib.contextmanager
def _parents(module: str) -> Iterator[None]:
    """Put bare packages in the place of those around ``module``, which would import all of JaxMARL and matplotlib.

    Only where nobody has imported JaxMARL; who does so later gets the real packages, with the same modules in them;
    attributes of those that were loaded here need `from jaxmarl.environments import mpe` first.
    """
    found = None if "jaxmarl" in sys.modules else importlib.util.find_spec("jaxmarl")
    bare: dict[str, ModuleType] = {}
    if found is not None and found.origin is not None:
        above, parts = Path(found.origin).parents[1], module.split(".")
        for name in (".".join(parts[:depth]) for depth in range(1, len(parts))):
            if name not in sys.modules:
                bare[name] = ModuleType(name)
                bare[name].__path__ = [str(above.joinpath(*name.split(".")))]
    sys.modules.update(bare)
    try:
        yield
    finally:
        for name, package in bare.items():
            if sys.modules.get(name) is package:
                del sys.modules[name]
