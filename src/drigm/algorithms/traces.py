"""Eligibility traces: a TD error counts for the steps before it too, whatever set nature draws from.

With u_t the one-step (robust) target of the transition that ends at t, and V the greedy team's value there::

    y_t = u_t + discount lambda (y_{t+1} - V(h_t))

which adds the window's later TD errors, ``u_{t+1} - V(h_t)`` and so on, by powers of ``discount lambda``. In the
nominal world it is Peng's Q(lambda), ``r + gamma ((1 - lambda) V + lambda y_{t+1})`` (Peng and Williams 1994; Kozuno et
al. 2021). Written as errors it keeps what nature does in every step: while the team acts greedily, an error is 0 in
expectation where V is the robust value, so the fixed point is that of the one-step target, with a dual network, with
samples or with neither. What exploration costs is in the errors too: values are those of a team that explores a little.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from drigm.core.types import Array


def traced_target(
    u: Float[Array, "T B"], v_t: Float[Array, "T B"], mask: Bool[Array, "T B"], decay: Float[Array, ""]
) -> Float[Array, "T B"]:
    """Return ``y_t = u_t + decay (y_{t+1} - v_t)``, and u where the next transition is none of the same episode.

    Args:
        u: one-step targets.
        v_t: the value of the greedy team in the next history, before nature has acted on it.
        mask: which transitions are real.
        decay: ``discount lambda``.
    """

    def back(following: Array, now: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        one_step, value, goes_on = now
        y = one_step + jnp.where(goes_on, decay * (following - value), 0.0)
        return y, y

    goes_on = jnp.concatenate([mask[1:], jnp.zeros_like(mask[:1])])
    _, y = jax.lax.scan(back, jnp.zeros_like(u[0]), (u, v_t, goes_on), reverse=True)
    return jax.lax.stop_gradient(y)
