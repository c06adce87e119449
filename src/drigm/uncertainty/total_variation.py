"""Total variation: nature moves at most rho of probability mass, to the fail state."""

import jax.numpy as jnp

from drigm.types import Array
from drigm.uncertainty.api import UncertaintySet


def bootstrap(v_t: Array, eta_tm1: Array, rho: Array, fail_value: Array) -> Array:
    """Return one sample of the TV dual, ``(1 - rho) eta - (eta - V')_+ + rho m``.

    Its expectation, maximised over eta in [m, max V], is ``inf_{TV(P, P0) <= rho} E_P[V']`` when some
    state has value m (DrIGM, TV target; duality of Iyengar 2005 and Panaganti et al. 2022).

    Args:
        v_t: V' of the nominal next state, any shape.
        eta_tm1: the dual variable of the state and joint action that led there, shape of ``v_t``.
        rho: radius in [0, 1], broadcastable to ``v_t``.
        fail_value: m, a bound m <= min V, broadcastable to ``v_t``.
    """
    return (1.0 - rho) * eta_tm1 - jnp.maximum(eta_tm1 - v_t, 0.0) + rho * fail_value


def dual_loss(eta_tm1: Array, v_t: Array, rho: Array) -> Array:
    """Return ``(eta - V')_+ - (1 - rho) eta``, the LINEAR dual loss.

    In expectation it is minimal at the (1 - rho)-quantile of V'. The released code squares it, which
    drives the bootstrap to 0 for V > 0; see docs/differences.md.
    """
    return jnp.maximum(eta_tm1 - v_t, 0.0) - (1.0 - rho) * eta_tm1


TOTAL_VARIATION = UncertaintySet(name="tv", bootstrap=bootstrap, dual_loss=dual_loss, max_rho=1.0)
