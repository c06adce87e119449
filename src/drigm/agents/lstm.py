"""The LSTM recurrence for a group of agents, with a hand-written gradient.

Written out because it is where training spends its time: one tanh serves all four gates, since
``sigmoid(x) = tanh(x / 2) / 2 + 1 / 2``, and the gradient of the weights is one matmul over all steps instead of
one per step.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents.dense import weight_gradient
from drigm.core.types import Array

# Windows of up to so many steps are written out in training; longer ones stay a loop. Written out, XLA fuses what is
# elementwise over steps, but compiling takes as long as the window has steps, and from some 16 on it is slower as well.
UNROLL = 16


@jax.custom_vjp
def lstm(gates_in: Array, keep: Array, weight: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
    """Run T steps of an LSTM whose input projections are already computed.

    Args:
        gates_in: [T, G, rows, 4H] input projections plus bias, gates in the order i, f, g, o.
        keep: [T, G, rows] 1.0, or 0.0 where memory is cleared before the step.
        weight: [G, H, 4H] recurrent weights.
        hidden: [G, rows, H] initial hidden state.
        cell: [G, rows, H] initial cell state.

    Returns:
        The hidden states [T, G, rows, H] and the final cell state [G, rows, H]. No gradient flows through the
        final cell state: nothing downstream of a window uses it.
    """
    # Written out, this one would recompute: XLA fuses the whole chain of cells into each of its readers.
    return _forward(gates_in, keep, weight, hidden, cell, unroll=1)[0]


def gate_scale(width: int) -> np.ndarray:
    """1/2 for the sigmoid gates, 1 for the tanh gate: the factor inside the shared tanh, [4 * width]."""
    return np.repeat(np.array([0.5, 0.5, 1.0, 0.5], np.float32), width)


def _gates(t: Array) -> tuple[Array, Array, Array, Array]:
    """Split the shared tanh into i, f, g, o."""
    i, f, g, o = jnp.split(t, 4, axis=-1)
    return 0.5 * i + 0.5, 0.5 * f + 0.5, g, 0.5 * o + 0.5


def written_out(steps: int) -> int:
    """Return how many of ``steps`` a loop writes out."""
    return steps if steps <= UNROLL else 1


def _forward(gates_in: Array, keep: Array, weight: Array, hidden: Array, cell: Array, unroll: int | None = None):
    scale = jnp.broadcast_to(gate_scale(hidden.shape[-1]), gates_in.shape[1:])
    weight_scaled = weight * jnp.broadcast_to(gate_scale(hidden.shape[-1]), weight.shape)

    def step(carry: tuple[Array, Array], inputs: tuple[Array, Array]):
        x, kept = inputs
        hidden, cell = carry[0] * kept[..., None], carry[1] * kept[..., None]
        t = jnp.tanh(x * scale + jnp.einsum("gbh,ghk->gbk", hidden, weight_scaled))
        i, f, g, o = _gates(t)
        cell_next = f * cell + i * g
        tanh_cell = jnp.tanh(cell_next)
        hidden_next = o * tanh_cell
        return (hidden_next, cell_next), (hidden_next, hidden, t, cell, tanh_cell)

    unroll = written_out(gates_in.shape[0]) if unroll is None else unroll
    (_, last_cell), (outputs, *residuals) = jax.lax.scan(step, (hidden, cell), (gates_in, keep), unroll=unroll)
    return (outputs, last_cell), (keep, weight, *residuals)


def _backward(residuals, cotangents):
    keep, weight, hidden, t, cell, tanh_cell = residuals
    d_outputs, _ = cotangents
    i, f, g, o = _gates(t)
    # Through tanh, and through the factor 1/2 on both of its sides.
    slopes = (1.0 - t * t) * jnp.broadcast_to(jnp.square(gate_scale(hidden.shape[-1])), t.shape)
    slope_i, slope_f, slope_g, slope_o = jnp.split(slopes, 4, axis=-1)
    # All that does not depend on later steps is computed for all steps at once.
    factors = (
        o * (1.0 - tanh_cell * tanh_cell),
        jnp.concatenate([g * slope_i, cell * slope_f, i * slope_g], axis=-1),
        tanh_cell * slope_o,
        f * keep[..., None],
    )
    transposed = jnp.swapaxes(weight, 1, 2)

    def step(carry: tuple[Array, Array], inputs: tuple[Array, ...]):
        d_hidden, d_cell = carry
        d_output, through_cell, to_ifg, to_o, kept_f, kept = inputs
        d_hidden = d_hidden + d_output
        d_cell = d_cell + d_hidden * through_cell
        d_ifg = jnp.concatenate([d_cell, d_cell, d_cell], axis=-1) * to_ifg
        d_gates = jnp.concatenate([d_ifg, d_hidden * to_o], axis=-1)
        d_before = jnp.einsum("gbk,gkh->gbh", d_gates, transposed) * kept[..., None]
        return (d_before, d_cell * kept_f), d_gates

    zeros = jnp.zeros_like(hidden[0])
    inputs = (d_outputs, *factors, keep)
    (d_hidden, d_cell), d_gates = jax.lax.scan(
        step, (zeros, zeros), inputs, reverse=True, unroll=written_out(t.shape[0])
    )
    transposed = jnp.moveaxis(hidden, (1, 3), (0, 1)).reshape(hidden.shape[1], hidden.shape[-1], -1)
    d_weight = weight_gradient(transposed, _time_into_rows(d_gates))
    return d_gates, None, d_weight, d_hidden, d_cell


def _time_into_rows(x: Array) -> Array:
    """[T, G, rows, F] -> [G, T * rows, F]."""
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1, x.shape[-1])


lstm.defvjp(_forward, _backward)
