"""What every environment of JaxMARL (Rutherford et al. 2024) needs to run under drigm's strict rules."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax

from drigm.errors import UserError
from drigm.types import PyTree

INSTALL = "pip install 'drigm[smax]'"


def load(module: str) -> Any:
    """Return JaxMARL's ``module``; `UserError` says how to install it."""
    try:
        with mock.patch("builtins.print"):  # it talks while it is imported, and past a redirected stdout
            return importlib.import_module(f"jaxmarl.environments.{module}")
    except ModuleNotFoundError as error:
        raise UserError(f"env: this one needs JaxMARL, and {error.name} is missing: {INSTALL}.") from None


@contextlib.contextmanager
def permissive() -> Iterator[None]:
    """JaxMARL relies on implicit promotion; our own code must work where it is forbidden."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def strong(state: PyTree) -> PyTree:
    """Drop weak types: a carry that starts weak would be compiled twice."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)
