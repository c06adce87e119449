"""Chi-square: nature re-weights what the nominal model reaches, within E0[(dP/dP0 - 1)^2] <= rho."""

import jax.numpy as jnp

from drigm.algorithms.uncertainty.api import Dual, UncertaintySet
from drigm.algorithms.uncertainty.reweighting import worst_mean
from drigm.core.types import Array


def bootstrap(v_t: Array, dual_tm1: Dual, rho: Array, fail_value: Array) -> Array:
    """Return one sample of the chi-square dual, ``eta - c ((eta - V')_+^2 / (2 lambda) + lambda / 2)``.

    With ``c = sqrt(1 + rho)``. The dual of Duchi & Namkoong (2021, Cressie-Read k = 2) is
    ``sup_eta eta - c sqrt(E[(eta - V')_+^2])``. A root of a mean has no sample, but
    ``sqrt(x) = inf_{lambda > 0} x / (2 lambda) + lambda / 2`` does: the expectation of this expression, maximised over
    eta and lambda (it is concave in both), is the robust value, and for any other eta and lambda it is below it.

    Args:
        v_t: V' of the nominal next state, any shape.
        dual_tm1: eta and the scale lambda > 0 of the state and joint action that led there, shape of ``v_t``.
        rho: radius >= 0, broadcastable to ``v_t``; 0 is nominal.
        fail_value: ignored, nature cannot reach what the nominal model does not.
    """
    del fail_value
    eta, scale = dual_tm1
    root = jnp.square(jnp.maximum(eta - v_t, 0.0)) / (2.0 * scale) + 0.5 * scale
    return jnp.where(rho > 0.0, eta - jnp.sqrt(1.0 + rho) * root, v_t)


def worst_of(y: Array, rho: Array) -> Array:
    """Return the worst mean of K equally likely outcomes ``y`` [..., K]: weights proportional to (eta - y)_+."""
    return worst_mean(y, rho, _weights, _divergence)


def _weights(y: Array, strength: Array) -> Array:
    weights = jnp.maximum(1.0 / strength - y, 0.0)
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


def _divergence(ratio: Array) -> Array:
    return jnp.mean(jnp.square(ratio - 1.0), axis=-1, keepdims=True)


CHI_SQUARE = UncertaintySet(
    name="chi2", bootstrap=bootstrap, has_dual=True, has_scale=True, max_rho=10.0, worst_of=worst_of
)
