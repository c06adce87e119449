"""Robust TD targets: pure functions of arrays, no parameters, no random numbers.

Time is in the names: ``q_tm1``, ``a_tm1`` belong to the step an action was taken in, ``r_t``, ``v_t`` to the
step it led to.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from drigm.types import Array, EnvSpec


def greedy_actions(q: Array, avail: Array) -> Array:
    """Return each agent's own argmax, ``a_bar_i = argmax_a Q_i(h_i, a)``, over available actions.

    Args:
        q: [..., N, A].
        avail: [..., N, A] bool.

    Returns:
        [..., N] int32. DrIGM makes this the greedy *joint* action.
    """
    return jnp.argmax(jnp.where(avail, q, -jnp.inf), axis=-1).astype(jnp.int32)


def standardise(x: Array, offset: np.ndarray, scale: np.ndarray) -> Array:
    """Return ``(x - offset) / scale``, as networks see it; offset and scale [S] or [N, O] are of x's last axes."""
    return (x - jnp.broadcast_to(jnp.asarray(offset), x.shape)) / jnp.broadcast_to(jnp.asarray(scale), x.shape)


def td_target(r_t: Array, terminated_t: Array, bootstrap_t: Array, gamma: Array) -> Array:
    """Return ``r + gamma (1 - terminated) bootstrap`` (DrIGM, robust Bellman operator); shapes [T, B].

    Truncation is not an argument: a truncated episode bootstraps like any other step.
    """
    return r_t + gamma * (1.0 - terminated_t.astype(jnp.float32)) * bootstrap_t


def shifted_target(
    r_t: Array,
    terminated_t: Array,
    bootstrap_t: Array,
    gamma: Array,
    offset: Array,
    shares: tuple[Array, Array] | None = None,
) -> Array:
    """Return the TD target of Q - b where ``bootstrap_t`` is that of V - b: ``y - b``; see `value_offset`; [T, B].

    ``r + gamma (1 - terminated) bootstrap - (1 - gamma (1 - terminated)) b``; with ``shares`` (now, after) [T, B],
    where the values hold only these shares of b, ``... - (now - gamma (1 - terminated) after) b``.
    """
    now, after = (jnp.float32(1.0), jnp.float32(1.0)) if shares is None else shares
    discount = gamma * (1.0 - terminated_t.astype(jnp.float32))
    return td_target(r_t, terminated_t, bootstrap_t, gamma) - (now - discount * after) * offset


def valid_transitions(terminated_tm1: Array, truncated_tm1: Array, first_t: Array) -> Array:
    """Return the mask [T, B] of real transitions: none leaves the last step of an episode or enters a first one.

    What follows a last step is the reset observation of another episode; nothing may bootstrap from it. An episode
    without a last step was cut off by a resume: its environment lived in a process that is gone.
    """
    return ~(terminated_tm1 | truncated_tm1 | first_t)


def masked_mean(x: Array, mask: Array, shares: int = 1) -> Array:
    """Return the mean of ``x`` where ``mask``, 0 if nowhere; shapes [T, B] or [T, B, N] -> [].

    Of ``shares`` > 1 that stand side by side in the batch, the mean of each one's mean: as if each were alone.
    """
    mask = mask.astype(jnp.float32)

    def total(x: Array) -> Array:
        return jnp.sum(x.reshape(x.shape[0], shares, -1), axis=(0, 2))

    return jnp.mean(total(x * mask) / jnp.maximum(total(mask), 1.0))


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
        rho: [] the radius of a set that can fail; 0 for any other.
        fail_value: [] m, scaled.
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
