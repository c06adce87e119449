"""Uncertainty sets. Adding one is one file in this folder and one line in `SETS`."""

from drigm.algorithms.uncertainty.api import Dual, UncertaintySet, dual_loss
from drigm.algorithms.uncertainty.chi_square import CHI_SQUARE
from drigm.algorithms.uncertainty.contamination import CONTAMINATION
from drigm.algorithms.uncertainty.kullback_leibler import KULLBACK_LEIBLER
from drigm.algorithms.uncertainty.nominal import NOMINAL
from drigm.algorithms.uncertainty.total_variation import TOTAL_VARIATION
from drigm.core.errors import check

SETS: dict[str, UncertaintySet] = {
    s.name: s for s in (NOMINAL, CONTAMINATION, TOTAL_VARIATION, CHI_SQUARE, KULLBACK_LEIBLER)
}


def check_radius(uncertainty: UncertaintySet, rho: float | None) -> None:
    """Raise `UserError` where ``rho`` (None: not given) is no radius of the set."""
    check(rho is not None or not uncertainty.max_rho, "rho", None, f"give the radius of {uncertainty.name}")
    allowed = f"from 0 to {uncertainty.max_rho:g} with {uncertainty.name}"
    if not uncertainty.max_rho:
        with_radius = ", ".join(s.name for s in SETS.values() if s.max_rho)
        allowed = f"0 with {uncertainty.name} (a radius needs one of {with_radius}, or the baseline short_horizon)"
    check((rho or 0.0) <= uncertainty.max_rho, "rho", rho, allowed)


__all__ = [
    "CHI_SQUARE",
    "CONTAMINATION",
    "KULLBACK_LEIBLER",
    "NOMINAL",
    "SETS",
    "TOTAL_VARIATION",
    "Dual",
    "UncertaintySet",
    "check_radius",
    "dual_loss",
]
