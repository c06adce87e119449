"""Value factorizations. Adding one is one file in this folder and one line in `FACTORIZATIONS`.

From outside it is `register_factorization` (docs/plug-ins.md).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from drigm.algorithms.factorizations.api import Factorization, Team, TeamSizes
from drigm.algorithms.factorizations.qmix import QMIX
from drigm.algorithms.factorizations.qtran import QTRAN, QTRAN_ALT
from drigm.algorithms.factorizations.vdn import VDN
from drigm.core.errors import check, shown
from drigm.core.plugins import join, look_up, tried
from drigm.core.types import Array, traced
from drigm.envs.imported import imported_record, is_imported

FACTORIZATIONS: dict[str, Factorization] = {f.name: f for f in (VDN, QMIX, QTRAN, QTRAN_ALT)}


def factorization_called(name: str) -> Factorization:
    """Return the factorization that a config names; `UserError` lists those that there are."""
    if not is_imported(name):
        return look_up("factorization", name, FACTORIZATIONS)
    return checked_factorization(imported_record("factorization", name))


def register_factorization(factorization: Factorization) -> None:
    """Give ``factorization`` its name in this process: in `drigm.train`, sweeps and, from a plug-in, the command line.

    Raises:
        UserError: it is no `Factorization`, its functions do not take and return the documented shapes, or another
            one has its name.
    """
    checked_factorization(factorization)
    join("factorization", FACTORIZATIONS, factorization.name, factorization)


def checked_factorization(found: Any) -> Factorization:
    """Return ``found`` if it is a factorization whose functions work on arrays, else raise `UserError`."""
    message = "give a drigm.algorithms.factorizations.Factorization"
    check(isinstance(found, Factorization), "factorization", found, message)
    sizes = TeamSizes(num_agents=2, num_actions=3, state_size=4, feature_size=5, embed_size=8)

    def joint() -> Array:
        params = found.init(jax.random.key(0), sizes)
        q, features, state = jnp.zeros((7, 2)), jnp.zeros((7, 2, 5)), jnp.zeros((7, 4))
        return found.joint_value(params, Team(q, jnp.zeros((7, 2), jnp.int32), features, state))

    value = tried("factorization", shown(found.name).strip("'"), "joint_value", lambda: traced(joint))
    is_right = getattr(value, "shape", None) == (7,) and value.dtype == jnp.float32
    message = f"its joint_value of a batch of 7 teams must be float32 [7], and is {shown(value)}"
    check(is_right, "factorization", found.name, message)
    return found


__all__ = [
    "FACTORIZATIONS",
    "QMIX",
    "QTRAN",
    "QTRAN_ALT",
    "VDN",
    "Factorization",
    "Team",
    "TeamSizes",
    "checked_factorization",
    "factorization_called",
    "register_factorization",
]
