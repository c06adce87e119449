"""rho-contamination: with probability rho nature picks any model at all."""

from drigm.algorithms.uncertainty.api import Dual, UncertaintySet
from drigm.core.types import Array


def bootstrap(v_t: Array, dual_tm1: Dual, rho: Array, fail_value: Array) -> Array:
    """Return ``(1 - rho) V' + rho m`` (DrIGM, rho-contamination target; R-contamination of Wang & Zou 2021).

    Args:
        v_t: V' of the nominal next state, any shape.
        dual_tm1: ignored, there is no dual variable.
        rho: contamination level in [0, 1], broadcastable to ``v_t``.
        fail_value: m, a bound m <= min V, broadcastable to ``v_t``.
    """
    del dual_tm1
    return (1.0 - rho) * v_t + rho * fail_value


CONTAMINATION = UncertaintySet(name="contamination", bootstrap=bootstrap, can_fail=True, discounts=True)
