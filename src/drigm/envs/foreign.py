"""What environments of other libraries in JAX need to run under drigm's strict rules."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax

from drigm.core.types import PyTree


@contextlib.contextmanager
def permissive() -> Iterator[None]:
    """Other libraries rely on implicit promotion; our own code must work where it is forbidden."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def strong(state: PyTree) -> PyTree:
    """Drop weak types: a carry that starts weak would be compiled twice."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)
