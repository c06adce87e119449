"""Shift suites: named lists of worlds in which a trained team is tried.

A suite is a list of `Shift`; all its ``params`` have the shapes of the environment's own, so that evaluation over a
suite is one `jax.vmap`. Suites of one environment travel with it in `Environment.shifts`; suites that fit every
environment stand in `SUITES`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from drigm.envs.api import Environment, Shift
from drigm.errors import choose
from drigm.types import PyTree

__all__ = ["SOURCES", "SUITES", "Shift", "shift_suite", "stack_params"]

SOURCES = "sources"  # the suite of worlds that training may know

# Suites that need nothing but the environment itself. Adding one is one line.
SUITES: dict[str, Callable[[Environment], list[Shift]]] = {
    "nominal": lambda env: [Shift("nominal", env.params)],
}


def shift_suite(env: Environment, name: str) -> list[Shift]:
    """The worlds of suite ``name`` for ``env``; raises `UserError` listing the suites that ``env`` has."""
    choose("shifts", name, sorted({*SUITES, *env.shifts}))
    return env.shifts[name]() if name in env.shifts else SUITES[name](env)


def stack_params(shifts: list[Shift]) -> PyTree:
    """The params of a suite on a new leading axis, ready for `jax.vmap`."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(shift.params for shift in shifts))
