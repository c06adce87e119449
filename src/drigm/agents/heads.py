"""From a network's features to the values of actions: without an order, or levels of one quantity.

Arrays are agent-first, [G, rows, ...], as in `drigm.agents.recurrent`.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents.dense import affine, uniform
from drigm.core.errors import check
from drigm.core.types import Array, EnvSpec

# Adam moves every weight by about its step size, whatever the weight does. A deadbeat controller of a heavy zone
# needs slopes far above 1 (levels per degree): without the gain most of a short run goes into growing them.
CENTRE_GAIN = 5.0
CENTRE = 1  # the output that is mu


class LinearHead(eqx.Module):
    """One output per action, for actions without an order."""

    weight: Array  # [G, F, A]
    bias: Array  # [G, A]

    def values(self, features: Array) -> Array:
        """Return Q of every action: [G, rows, F] -> [G, rows, A]."""
        return affine(features, self.weight, self.bias)

    def greedy(self, features: Array) -> Array:
        """Return the best action [G, rows] int32."""
        return jnp.argmax(self.values(features), axis=-1).astype(jnp.int32)

    def value_of(self, features: Array, action: Array) -> Array:
        """Return Q of ``action`` [G, rows] -> [G, rows]."""
        return jnp.take_along_axis(self.values(features), action[..., None], axis=-1)[..., 0]


class OrderedHead(eqx.Module):
    """A concave Q over levels of one quantity: ``Q(a) = v - sum_k w_k (sqrt((x_a - mu)^2 + e_k^2) - e_k)``.

    x_a in [-1, 1] is the level of action a; v, mu, w_k > 0 and e_k > 0 are affine in the features (w and e
    through a softplus). With squares in place of the roots this is NAF (Gu et al. 2016). Near the best
    level a comfort norm is a rounded kink, not a parabola, hence the root.

    In velocity form, ``mu = last level + exp(tanh(g) / 2) u``, where u is linear in the agent's inputs and g, the gain
    of the move, is affine in what its memory holds. As in a digital PI controller (Astrom and Hagglund, "PID
    Controllers", 1995, 3.6), whatever the world adds for good, the actions add up until it is gone. With inputs of 0
    nothing moves, whatever the memory holds, and with a constant error something always does: no error is left over.
    What the memory has found out about the world decides how far. The network sees the last level nowhere else, or it
    would learn to forget a part of it; it is the last feature.
    """

    weight: Array  # [G, F, 2 + 2 K]; one feature fewer in velocity form
    bias: Array  # [G, 2 + 2 K]
    levels: Array  # [A], constant
    memory: int = eqx.field(static=True, default=0)  # velocity form: how many of the features come from the memory

    @property
    def velocity(self) -> bool:
        """Whether the head moves from the last action."""
        return self.memory > 0

    def values(self, features: Array) -> Array:
        """Return Q of every action: [G, rows, F] -> [G, rows, A]."""
        value, shape = self._shape(features)
        return value[..., None] - _bowl(shape, jax.lax.stop_gradient(self.levels))

    def greedy(self, features: Array) -> Array:
        """Return the best action [G, rows] int32: the level nearest to mu, because Q is symmetric around it."""
        _, (_, centre, _) = self._shape(features)
        index = jnp.round((centre - self.levels[0]) / (self.levels[1] - self.levels[0]))
        return jnp.clip(index, 0, self.levels.shape[0] - 1).astype(jnp.int32)

    def value_of(self, features: Array, action: Array) -> Array:
        """Return Q of ``action`` [G, rows] -> [G, rows], without computing the others."""
        value, shape = self._shape(features)
        level = jax.lax.stop_gradient(self.levels)[action]
        return value - _bowl(shape, level[..., None])[..., 0]

    def _move(self, features: Array) -> Array:
        """Return ``exp(tanh(g) / 2) u`` [G, rows] of the velocity form."""
        weight, bias = (x[..., CENTRE : CENTRE + 1] for x in (self.weight, self.bias))
        gain = affine(features[..., : self.memory], weight[:, : self.memory], bias)
        move = affine(features[..., self.memory : -1], weight[:, self.memory :], jnp.zeros_like(bias))
        return CENTRE_GAIN * (jnp.exp(0.5 * jnp.tanh(gain)) * move)[..., 0]

    def _shape(self, features: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        out = affine(features[..., : self.weight.shape[1]], self.weight, self.bias)
        centre = features[..., -1] + self._move(features) if self.velocity else CENTRE_GAIN * out[..., CENTRE]
        steep, width = jnp.split(out[..., 2:], 2, axis=-1)
        return out[..., 0], (jax.nn.softplus(steep), centre, jax.nn.softplus(width) + 0.01)


def _bowl(shape: tuple[Array, Array, Array], levels: Array) -> Array:
    """Return ``sum_k w_k (sqrt((x - mu)^2 + e_k^2) - e_k)``.

    Shapes: w and e [..., K], mu [...], levels [A] or [..., A] -> [..., A].
    """
    steep, centre, width = shape
    levels = jnp.broadcast_to(levels, (*centre.shape, levels.shape[-1]))
    squared = jnp.square(levels - centre[..., None])
    total = jnp.zeros_like(squared)
    for k in range(steep.shape[-1]):
        w, e = steep[..., k, None], width[..., k, None]
        total = total + w * (jnp.sqrt(squared + e * e) - e)
    return total


def make_head(
    key: Array, spec: EnvSpec, groups: int, features: int, bowls: int | None, memory: int = 0
) -> LinearHead | OrderedHead:
    """Return a freshly initialised head on ``features``: ordered with that many ``bowls``, linear where they are None.

    ``memory``: see `OrderedHead`.

    Raises:
        UserError: the actions of ``spec`` are no evenly spaced levels.
    """
    if bowls is None:
        weight = uniform(key, (groups, features, spec.num_actions), features)
        return LinearHead(weight, jnp.zeros((groups, spec.num_actions), jnp.float32))
    return OrderedHead(
        weight=uniform(key, (groups, features, 2 + 2 * bowls), features) * 0.06,
        bias=jnp.broadcast_to(_bowl_start(bowls), (groups, 2 + 2 * bowls)),
        levels=jnp.asarray(_even_levels(spec), jnp.float32),
        memory=memory,
    )


def _bowl_start(bowls: int) -> Array:
    """Return the ordered head's first bias: v and mu 0, slopes of 1/2 in all, widths spread from 0.03 to 0.5 levels.

    A wide bowl is a poor place to start from: its bottom tells little about where the kink is.
    """
    widths = np.geomspace(0.03, 0.5, bowls) if bowls > 1 else np.array([0.1])
    positive = np.concatenate([np.full(bowls, 0.5 / bowls), widths])
    return jnp.asarray(np.concatenate([[0.0, 0.0], np.log(np.expm1(positive))]), jnp.float32)


def _even_levels(spec: EnvSpec) -> np.ndarray:
    levels = np.asarray(spec.action_values, np.float64)
    even = levels.ndim == 1 and len(levels) > 1 and np.allclose(np.diff(levels), levels[1] - levels[0], atol=1e-5)
    check(
        bool(even), "action_values", spec.action_values, "the ordered head needs evenly spaced levels; use head linear"
    )
    return levels
