"""Kullback-Leibler: nature re-weights what the nominal model reaches, within E0[w log w] <= rho and w <= MAX_RATIO."""

import jax
import jax.numpy as jnp
import numpy as np

from drigm.algorithms.uncertainty.api import Dual, UncertaintySet
from drigm.algorithms.uncertainty.reweighting import worst_mean
from drigm.core.types import Array

# No outcome becomes more than this many times likelier. Without a cap one rare sample can carry a weight of any size,
# and the target has no bounded variance.
MAX_RATIO = 20.0


def bootstrap(v_t: Array, dual_tm1: Dual, rho: Array, fail_value: Array) -> Array:
    """Return one sample of the KL dual, ``eta - lambda f*((eta - V') / lambda) - lambda rho``.

    f* is the convex conjugate of ``w log w`` on [0, `MAX_RATIO`]: ``exp(x - 1)``, continued by its tangent where that
    exceeds the cap. Maximised over eta and lambda > 0 (it is concave in both) its expectation is the robust value
    (Ben-Tal et al. 2013, theorem 4); for any other eta and lambda it is below it. The better known form
    ``-lambda log E[exp(-V' / lambda)] - lambda rho`` is its maximum over eta, and has no unbiased sample.

    Args:
        v_t: V' of the nominal next state, any shape.
        dual_tm1: eta and the scale lambda > 0 of the state and joint action that led there, shape of ``v_t``.
        rho: radius >= 0, broadcastable to ``v_t``; 0 is nominal.
        fail_value: ignored, nature cannot reach what the nominal model does not.
    """
    del fail_value
    eta, scale = dual_tm1
    return jnp.where(rho > 0.0, eta - scale * _conjugate((eta - v_t) / scale) - scale * rho, v_t)


def _conjugate(x: Array) -> Array:
    """Return ``sup_{0 <= w <= MAX_RATIO} w x - w log w``."""
    cap = 1.0 + float(np.log(MAX_RATIO))
    return jnp.exp(jnp.minimum(x, cap) - 1.0) + MAX_RATIO * jnp.maximum(x - cap, 0.0)


def worst_of(y: Array, rho: Array) -> Array:
    """Return the worst mean of K equally likely outcomes ``y`` [..., K]: weights proportional to exp(-theta y).

    None becomes more than K times likelier, so no other cap is needed; with K above `MAX_RATIO` the set is the larger.
    """
    return worst_mean(y, rho, lambda y, theta: jax.nn.softmax(-theta * y, axis=-1), _divergence)


def _divergence(ratio: Array) -> Array:
    # The last terms sum to 0: what is added up is then never negative, and small divergences survive rounding.
    log = jnp.log(jnp.maximum(ratio, 1e-30))
    return jnp.mean(ratio * log - ratio + 1.0, axis=-1, keepdims=True)


KULLBACK_LEIBLER = UncertaintySet(
    name="kl", bootstrap=bootstrap, has_dual=True, has_scale=True, max_rho=10.0, worst_of=worst_of
)
