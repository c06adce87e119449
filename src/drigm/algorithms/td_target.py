"""Robust TD targets: pure functions of arrays, no parameters, no random numbers.

Time is in the names: ``q_tm1``, ``a_tm1`` belong to the step an action was taken in, ``r_t``, ``v_t`` to the
step it led to.
"""

from __future__ import annotations

import jax.numpy as jnp

from drigm.core.types import Array


def td_target(r_t: Array, terminated_t: Array, bootstrap_t: Array, gamma: Array) -> Array:
    """Return ``r + gamma (1 - terminated) bootstrap`` (DrIGM, robust Bellman operator); shapes [T, B].

    Truncation is not an argument: a truncated episode bootstraps like any other step.
    """
    return r_t + gamma * (1.0 - terminated_t.astype(jnp.float32)) * bootstrap_t


def shifted_target(
    r_t: Array,
    terminated_t: Array,
    bootstrap_t: Array,
    gamma: Array,
    offset: Array,
    shares: tuple[Array, Array] | None = None,
) -> Array:
    """Return the TD target of Q - b where ``bootstrap_t`` is that of V - b: ``y - b``; see `value_offset`; [T, B].

    ``r + gamma (1 - terminated) bootstrap - (1 - gamma (1 - terminated)) b``; with ``shares`` (now, after) [T, B],
    where the values hold only these shares of b, ``... - (now - gamma (1 - terminated) after) b``.
    """
    now, after = (jnp.float32(1.0), jnp.float32(1.0)) if shares is None else shares
    discount = gamma * (1.0 - terminated_t.astype(jnp.float32))
    return td_target(r_t, terminated_t, bootstrap_t, gamma) - (now - discount * after) * offset


def masked_mean(x: Array, mask: Array, shares: int = 1) -> Array:
    """Return the mean of ``x`` where ``mask``, 0 if nowhere; shapes [T, B] or [T, B, N] -> [].

    Of ``shares`` > 1 that stand side by side in the batch, the mean of each one's mean: as if each were alone.
    """
    mask = mask.astype(jnp.float32)

    def total(x: Array) -> Array:
        return jnp.sum(x.reshape(x.shape[0], shares, -1), axis=(0, 2))

    return jnp.mean(total(x * mask) / jnp.maximum(total(mask), 1.0))
