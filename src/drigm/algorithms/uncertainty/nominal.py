"""No uncertainty: the model is the simulator."""

from drigm.algorithms.uncertainty.api import Dual, UncertaintySet
from drigm.core.types import Array


def bootstrap(v_t: Array, dual_tm1: Dual, rho: Array, fail_value: Array) -> Array:
    """Return V' itself (Q-learning's bootstrap)."""
    del dual_tm1, rho, fail_value
    return v_t


NOMINAL = UncertaintySet(name="nominal", bootstrap=bootstrap, max_rho=0.0)
