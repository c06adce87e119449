"""The worst mean of K equally likely outcomes within a divergence: its dual has one variable, found by bisection."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.types import Array

WEAKEST, STRONGEST = 1e-4, 1e5  # how strongly weights lean to low outcomes, which are scaled to [0, 1]
STEPS = 30  # of the bisection: the strength is then known to 2e-8 of itself, better than single precision


def worst_mean(
    y: Array, rho: Array, weights: Callable[[Array, Array], Array], divergence: Callable[[Array], Array]
) -> Array:
    """Return the mean [...] of outcomes ``y`` [..., K] under the weights whose divergence from equal ones is ``rho``.

    Args:
        y: outcomes.
        rho: radius [], or [...] broadcastable to y's; 0 is the plain mean.
        weights: ``weights(y, strength [..., 1]) -> [..., K]`` that sum to 1, of outcomes scaled to [0, 1].
        divergence: ``divergence(ratio [..., K]) -> [..., 1]`` of likelihood ratios; it grows with the strength.
    """
    low, spread = jnp.min(y, axis=-1, keepdims=True), jnp.ptp(y, axis=-1, keepdims=True)
    scaled = (y - low) / jnp.where(spread > 0.0, spread, 1.0)
    radius = jnp.broadcast_to(jnp.asarray(rho)[..., None], low.shape)

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        weak, strong = bounds
        middle = 0.5 * (weak + strong)
        too_far = divergence(y.shape[-1] * weights(scaled, jnp.exp(middle))) > radius
        return jnp.where(too_far, weak, middle), jnp.where(too_far, middle, strong)

    ends = (jnp.full_like(low, np.log(WEAKEST)), jnp.full_like(low, np.log(STRONGEST)))
    within = jax.lax.fori_loop(0, STEPS, halve, ends)[0]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] (untyped)
    strength = jnp.exp(jnp.asarray(within))  # pyright: ignore[reportUnknownArgumentType] (as above)
    worst = low + spread * jnp.sum(weights(scaled, strength) * scaled, axis=-1, keepdims=True)
    return jnp.where(radius > 0.0, worst, jnp.mean(y, axis=-1, keepdims=True))[..., 0]
