"""Batched matrix products of a group of agents, with a gradient laid out for speed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.types import Array


def affine(x: Array, weight: Array, bias: Array) -> Array:
    """Return ``x @ weight + bias`` of every group: [G, rows, I], [G, I, O] and [G, O] -> [G, rows, O]."""
    return _affine(x, weight, bias)


@jax.custom_vjp  # it loses the types
def _affine(x: Array, weight: Array, bias: Array) -> Array:
    product = jnp.einsum("gbi,gio->gbo", x, weight)
    return product + jnp.broadcast_to(bias[:, None, :], product.shape)


def _forward(x: Array, weight: Array, bias: Array) -> tuple[Array, tuple[Array, Array]]:
    return affine(x, weight, bias), (x, weight)


def _backward(saved: tuple[Array, Array], d_out: Array) -> tuple[Array, Array, Array]:
    x, weight = saved
    d_x = jnp.einsum("gbo,gio->gbi", d_out, weight)
    if weight.shape[2] < weight.shape[1]:  # transpose the smaller of the two
        d_weight = jnp.swapaxes(weight_gradient(jnp.swapaxes(d_out, 1, 2), x), 1, 2)
    else:
        d_weight = weight_gradient(jnp.swapaxes(x, 1, 2), d_out)
    return d_x, d_weight, jnp.sum(d_out, axis=1)


_affine.defvjp(_forward, _backward)


def weight_gradient(x_transposed: Array, d_out: Array) -> Array:
    """Return the gradient of a product's weight: inputs [G, I, rows], gradient [G, rows, O] -> [G, I, O].

    The inputs come transposed, and stay so: CPUs have a fast product for this layout alone, and XLA would fold the
    transpose into a slow one (benchmarks/NOTES.md).
    """
    return jnp.einsum("gib,gbo->gio", jax.lax.optimization_barrier(x_transposed), d_out)


def uniform(key: Array, shape: tuple[int, ...], fan_in: int) -> Array:
    """Return weights drawn uniformly within ``1 / sqrt(fan_in)`` of 0."""
    bound = 1.0 / float(np.sqrt(fan_in))
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)
