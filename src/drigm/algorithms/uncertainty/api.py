"""The record that an uncertainty set is: pure functions of arrays, no agents, no random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from drigm.core.choice import Choice
from drigm.core.types import Array


class Dual(NamedTuple):
    """The dual variables of a state and joint action, shaped like the values they belong to."""

    eta: Float[Array, "*batch"]  # the level that values are compared with
    scale: Float[Array, "*#batch"]  # > 0, the price of moving probability; for `UncertaintySet.has_scale` only


Bootstrap = Callable[[Array, Dual, Array, Array], Array]
WorstOf = Callable[[Array, Array], Array]


class UncertaintySet(NamedTuple):
    """How nature may move probability away from the nominal model, seen from one sampled transition.

    Attributes:
        name: what the command line and config.json call it.
        bootstrap: ``bootstrap(v_t, dual_tm1, rho, fail_value) -> [...]``, the value that replaces V' in the
            TD target. All arguments broadcast to the shape of ``v_t``; sets without a dual ignore ``dual_tm1``.
            Its expectation over the nominal model is at most the robust value for *any* dual variables, and equals it
            for the best: so a sample of it is a sound target, and `dual_loss` is what the dual network minimises.
        has_dual: the bootstrap depends on the dual variables.
        has_scale: it depends on ``Dual.scale`` too.
        can_fail: nature may move probability to the fail state of value m; otherwise only between states that the
            nominal model reaches, and m is ignored.
        discounts: only 1 - rho of V' counts, so that values have bounds without a discount too.
        max_rho: the largest radius that makes sense.
        squared_loss: the dual network minimises the square of its loss, as in the released code: no robust target.
        worst_of: ``worst_of(y [..., K], rho) -> [...]``, the worst mean of K equally likely outcomes, for training with
            samples. Sets without `has_scale` do without: see `drigm.algorithms.samples`.
    """

    name: str
    bootstrap: Bootstrap
    has_dual: bool = False
    has_scale: bool = False
    can_fail: bool = False
    discounts: bool = False
    max_rho: float = 1.0
    squared_loss: bool = False
    worst_of: WorstOf | None = None

    def __call__(self, rho: float | None = None, fail_value: float | str | None = None) -> Choice:
        """Return the choice of this set with a radius, for `drigm.train`; None leaves a setting to the preset."""
        return Choice("uncertainty", self, {"rho": rho, "fail_value": fail_value})


def dual_loss(uncertainty: UncertaintySet, dual_tm1: Dual, v_t: Array, rho: Array) -> Array:
    """Return minus the bootstrap (the fail value only adds a constant), shape of ``v_t``.

    In expectation it is convex in the dual variables and smallest at the exact ones. It is LINEAR in the dual
    objective; the released code squares it, which drives the bootstrap to 0 for V > 0 (the baseline ``squared_dual``);
    see docs/differences.md.
    """
    loss = -uncertainty.bootstrap(v_t, dual_tm1, rho, rho * 0.0)
    return jnp.square(loss) if uncertainty.squared_loss else loss
