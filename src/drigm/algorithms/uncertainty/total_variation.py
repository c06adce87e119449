"""Total variation: nature moves at most rho of probability mass, to the fail state.

``TV(P, P0) = 1/2 sum |P - P0|``, half the L1 distance: a radius in L1 is twice this one.
"""

import jax.numpy as jnp

from drigm.algorithms.uncertainty.api import Dual, UncertaintySet
from drigm.core.types import Array


def bootstrap(v_t: Array, dual_tm1: Dual, rho: Array, fail_value: Array) -> Array:
    """Return one sample of the TV dual, ``(1 - rho) eta - (eta - V')_+ + rho m``.

    Its expectation, maximised over eta in [m, max V] (at the (1 - rho)-quantile of V'), is
    ``inf_{TV(P, P0) <= rho} E_P[V']`` when some state has value m (DrIGM, TV target; duality of Iyengar 2005 and
    Panaganti et al. 2022).

    Args:
        v_t: V' of the nominal next state, any shape.
        dual_tm1: eta of the state and joint action that led there, shape of ``v_t``.
        rho: radius in [0, 1] of half the L1 distance, broadcastable to ``v_t``.
        fail_value: m, a bound m <= min V, broadcastable to ``v_t``.
    """
    eta = dual_tm1.eta
    robust = (1.0 - rho) * eta - jnp.maximum(eta - v_t, 0.0) + rho * fail_value
    return jnp.where(rho > 0.0, robust, v_t)  # radius 0 is nominal, whatever eta has learnt so far


TOTAL_VARIATION = UncertaintySet(name="tv", bootstrap=bootstrap, has_dual=True, can_fail=True, discounts=True)
