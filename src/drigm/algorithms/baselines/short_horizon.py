"""A plain discount gamma (1 - rho): what a robust target must beat to have a point of its own."""

from drigm.algorithms.baselines.api import Baseline
from drigm.algorithms.uncertainty import Dual, UncertaintySet
from drigm.core.types import Array


def bootstrap(v_t: Array, dual_tm1: Dual, rho: Array, fail_value: Array) -> Array:
    """Return ``(1 - rho) V'``: no nature, only a shorter horizon; rho = 1 is gamma 0."""
    del dual_tm1, fail_value
    return (1.0 - rho) * v_t


SHORT_HORIZON = Baseline(
    name="short_horizon",
    about="no nature, a plain discount gamma (1 - rho); rho 1 is gamma 0",
    uncertainty=UncertaintySet(name="short_horizon", bootstrap=bootstrap, discounts=True),
)
