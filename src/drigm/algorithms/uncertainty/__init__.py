"""Uncertainty sets. Adding one is one file in this folder and one line in `SETS`.

From outside it is `register_uncertainty` (docs/plug-ins.md).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from drigm.algorithms.uncertainty.api import Dual, UncertaintySet, dual_loss
from drigm.algorithms.uncertainty.chi_square import CHI_SQUARE
from drigm.algorithms.uncertainty.contamination import CONTAMINATION
from drigm.algorithms.uncertainty.kullback_leibler import KULLBACK_LEIBLER
from drigm.algorithms.uncertainty.nominal import NOMINAL
from drigm.algorithms.uncertainty.total_variation import TOTAL_VARIATION
from drigm.core.config import FIELDS
from drigm.core.errors import check, shown
from drigm.core.plugins import join, look_up, tried
from drigm.core.types import Array, traced
from drigm.envs.imported import imported_record, is_imported

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


def uncertainty_called(name: str) -> UncertaintySet:
    """Return the uncertainty set that a config names; `UserError` lists those that there are."""
    if not is_imported(name):
        return look_up("uncertainty", name, SETS)
    return checked_uncertainty(imported_record("uncertainty", name))


def register_uncertainty(uncertainty: UncertaintySet) -> None:
    """Give ``uncertainty`` its name in this process: in `drigm.train`, sweeps and, from a plug-in, the command line.

    Raises:
        UserError: it is no `UncertaintySet`, its bootstrap does not keep the shape of V', or another one has its name.
    """
    checked_uncertainty(uncertainty)
    join("uncertainty", SETS, uncertainty.name, uncertainty)


def checked_uncertainty(found: Any) -> UncertaintySet:
    """Return ``found`` if it is an uncertainty set whose bootstrap works on arrays, else raise `UserError`."""
    message = "give a drigm.algorithms.uncertainty.UncertaintySet"
    check(isinstance(found, UncertaintySet), "uncertainty", found, message)
    most = float(FIELDS["rho"].metadata["high"])
    ok = isinstance(found.max_rho, int | float) and 0.0 <= found.max_rho <= most
    check(ok, "uncertainty", found.name, f"its max_rho must be from 0 to {most:g}, and is {shown(found.max_rho)}")
    message = "has_scale needs has_dual: the scale is a second dual variable"
    check(found.has_dual or not found.has_scale, "uncertainty", found.name, message)

    def robust() -> Array:
        v_t = jnp.zeros((2, 3))
        return found.bootstrap(v_t, Dual(v_t, jnp.ones((2, 3))), jnp.float32(0.1), jnp.float32(-1.0))

    value = tried("uncertainty", shown(found.name).strip("'"), "bootstrap", lambda: traced(robust))
    is_right = getattr(value, "shape", None) == (2, 3) and value.dtype == jnp.float32
    message = f"its bootstrap of V' [2, 3] must be float32 [2, 3], and is {shown(value)}"
    check(is_right, "uncertainty", found.name, message)
    return found


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
    "checked_uncertainty",
    "dual_loss",
    "register_uncertainty",
    "uncertainty_called",
]
