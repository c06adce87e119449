"""One step of an optimiser, under strict types."""

from __future__ import annotations

from typing import Any

import jax
import optax

from drigm.types import PyTree


def start_of(optimizer: optax.GradientTransformation, params: PyTree) -> Any:
    """Return the optimiser's state before the first step."""
    return optimizer.init(params)


def descend(
    optimizer: optax.GradientTransformation, grads: PyTree, opt_state: Any, params: PyTree
) -> tuple[PyTree, Any]:
    """Return ``params`` and the optimiser's state after one step against ``grads``."""
    with jax.numpy_dtype_promotion("standard"):  # Adam raises a Python float to an int32 step count
        changes, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, changes), opt_state
