"""No uncertainty: the model is the simulator."""

from drigm.types import Array
from drigm.uncertainty.api import UncertaintySet


def bootstrap(v_t: Array, eta_tm1: Array, rho: Array, fail_value: Array) -> Array:
    """Return V' itself (Q-learning's bootstrap)."""
    del eta_tm1, rho, fail_value
    return v_t


NOMINAL = UncertaintySet(name="nominal", bootstrap=bootstrap, dual_loss=None, max_rho=0.0)
