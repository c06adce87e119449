"""The record that an uncertainty set is: pure functions of arrays, no agents, no random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from drigm.types import Array

Bootstrap = Callable[[Array, Array, Array, Array], Array]
DualLoss = Callable[[Array, Array, Array], Array]


class UncertaintySet(NamedTuple):
    """How nature may move probability away from the nominal model, seen from one sampled transition.

    Attributes:
        name: what the command line and config.json call it.
        bootstrap: ``bootstrap(v_t, eta_tm1, rho, fail_value) -> [...]``, the value that replaces V' in the
            TD target. All arguments broadcast to the shape of ``v_t``; sets without a dual ignore ``eta_tm1``.
        dual_loss: ``dual_loss(eta_tm1, v_t, rho) -> [...]``, minimised in eta in expectation by the exact
            dual variable; None for sets with a closed form.
        max_rho: the largest radius that makes sense.
    """

    name: str
    bootstrap: Bootstrap
    dual_loss: DualLoss | None
    max_rho: float
