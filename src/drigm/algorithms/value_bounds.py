"""What a robust value can be at all: the fail value m, bounds, and the constant that m adds to every value."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from drigm.algorithms.method import Method
from drigm.core.config import TrainConfig
from drigm.core.types import Array, EnvSpec


class Robustness(NamedTuple):
    """The radius and its fail value, traced so that several radii are one program."""

    rho: Float[Array, ""]
    fail_value: Float[Array, ""]  # m


class Nature(NamedTuple):
    """What nature may do in an update, in the learner's values, which are less the offset b."""

    rho: Float[Array, ""]
    fail_value: Float[Array, ""]  # m - b
    lowest: Float[Array, ""]  # no value can be below
    highest: Float[Array, ""]  # nor above
    offset: Float[Array, ""]  # b of `value_offset`, 0 for sets that never use the fail value


def make_robustness(config: TrainConfig, spec: EnvSpec, rho: Array) -> Robustness:
    """Return the traced radius with its fail value."""
    automatic = auto_fail_value(spec, config.gamma)
    automatic = automatic if math.isfinite(automatic) else 0.0  # rewards without a bound: a set that fails asks for it
    fail_value = automatic if config.fail_value == "auto" else float(config.fail_value) * spec.reward_scale
    return Robustness(rho=rho, fail_value=jnp.full_like(rho, fail_value))


def nature_of(method: Method, robustness: Robustness) -> Nature:
    """Return the radius, the fail value and the bounds of every value as the learner represents it: less b."""
    gamma, nothing = method.config.gamma, jnp.zeros_like(robustness.rho)
    rho = robustness.rho if method.uncertainty.discounts else nothing
    fail_value = robustness.fail_value if method.uncertainty.can_fail else nothing
    offset = value_offset(rho, gamma, fail_value)
    lowest, highest = value_bounds(method.spec, gamma, rho, fail_value)
    return Nature(robustness.rho, fail_value - offset, lowest - offset, highest - offset, offset)


def auto_fail_value(spec: EnvSpec, gamma: float) -> float:
    """Return a bound ``m <= min V`` in the learner's (scaled) reward units.

    ``m = min(r_min, 0) * reward_scale * H`` with the effective horizon ``H = 1 / (1 - gamma)`` (the episode limit
    for gamma = 1): truncation bootstraps, so the discounted horizon bounds the value, not the limit.
    """
    horizon = 1.0 / (1.0 - gamma) if gamma < 1.0 else float(spec.episode_limit)
    return min(spec.reward_range[0], 0.0) * spec.reward_scale * horizon


def value_bounds(spec: EnvSpec, gamma: float, rho: Array, fail_value: Array) -> tuple[Array, Array]:
    """Return what no robust value can be below and above, in the learner's (scaled) reward units; both [].

    A value bounded by V leads to ``r + gamma ((1 - rho) V + rho m)``, so the bounds are fixed points:

        ``lowest = min(m, (r_min + gamma rho m) / (1 - gamma (1 - rho)))``, and ``highest`` alike with r_max,

    where r_min and r_max are at most and at least 0. With gamma = 1 and rho = 0 nothing bounds them but rewards of one
    sign: truncation bootstraps. A positive m is left out of the sum: an end, worth 0, may be below it.

    Args:
        spec: declares the range of rewards, and the highest return where it knows one.
        gamma: the discount.
        rho: [] the radius of a set that discounts; 0 for any other.
        fail_value: [] m, scaled; 0 for a set that cannot fail.
    """
    remaining = 1.0 - gamma * (1.0 - rho)
    low = jnp.float32(min(spec.reward_range[0], 0.0) * spec.reward_scale)
    high = jnp.float32(max(spec.reward_range[1], 0.0) * spec.reward_scale)
    lowest = _over(low + gamma * rho * jnp.minimum(fail_value, 0.0), remaining)
    highest = _over(high + gamma * rho * jnp.maximum(fail_value, 0.0), remaining)
    highest = jnp.minimum(highest, spec.highest_return * spec.reward_scale)
    return jnp.minimum(fail_value, lowest), jnp.maximum(fail_value, highest)


def _over(total: Array, remaining: Array) -> Array:
    """Return ``total / remaining``: without limit where nothing remains, and 0 where there is nothing to divide."""
    return jnp.where(total == 0.0, 0.0, total / jnp.maximum(remaining, 0.0))


def value_offset(rho: Array, gamma: float, fail_value: Array) -> Array:
    """Return the constant ``b = gamma rho m / (1 - gamma (1 - rho))`` that nature's ``rho m`` adds to every value.

    The learner represents Q - b: the fail value then costs no accuracy, however low it is. Robust operators
    shift with their arguments, T_m(V + b) = T_{m - b}(V) + b, so nothing else changes; see docs/mathematics.md.
    """
    remaining = jnp.maximum(1.0 - gamma * (1.0 - rho), 1e-9)  # 0 only for gamma = 1 and rho = 0, where b = 0
    return gamma * rho * fail_value / remaining
