"""What training measures: the columns of metrics/*.csv. A new one of an update is a field here and its value there."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from drigm.core.types import Array


class Metrics(NamedTuple):
    """Means over the batch of an update."""

    loss: Float[Array, "*batch"]  # mean squared TD error, and the factorization's consistency loss where it has one
    dual_loss: Float[Array, "*batch"]
    value: Float[Array, "*batch"]  # mean Q_tot(h, a) of the batch, value offset added back
    grad_norm: Float[Array, "*batch"]


COLUMNS = ("step", "return", "score", "win_rate", "episodes", *Metrics._fields, "epsilon", "steps_per_s")


def no_metrics(shape: tuple[int, ...] = ()) -> Metrics:
    """Return metrics that are 0, of this shape."""
    return Metrics(*(jnp.zeros(shape, jnp.float32) for _ in Metrics._fields))
