"""A network on the state and the joint action: the dual variables of a set, or a reward (GroupDR)."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents.dense import uniform
from drigm.core.types import Array, EnvSpec

MIN_SCALE = 1e-3  # of lambda: divergences divide by it
START_SCALE = 0.1  # of lambda; too high a price is a pessimism that deterministic transitions forget only slowly


class DualNetwork(eqx.Module):
    """eta(s, a), and the scale lambda(s, a) where the set has one: an MLP on standardised state and joint action."""

    state_weight: Array  # [S, H]
    action_weight: Array  # [N, A, H], or [N, 1, H] on levels
    hidden_bias: Array  # [H]
    middle: Array  # [H, H]
    middle_bias: Array  # [H]
    out: Array  # [H]
    out_bias: Array  # []
    levels: Array  # [A] or [0]: constant
    scale_out: Array | None = None  # [H]
    scale_bias: Array | None = None  # []

    def __call__(self, state: Array, action: Array) -> tuple[Array, Array]:
        """Return eta and lambda > 0 (1 without a scale): state [..., S] standardised, action [..., N] -> [...]."""
        if self.levels.shape[0]:
            level = jax.lax.stop_gradient(self.levels)[action]
            from_action = level @ self.action_weight[:, 0]
        else:
            agents = jnp.arange(self.action_weight.shape[0])
            from_action = jnp.sum(self.action_weight[jnp.broadcast_to(agents, action.shape), action], axis=-2)
        x = state @ self.state_weight + from_action
        x = jax.nn.relu(x + jnp.broadcast_to(self.hidden_bias, x.shape))
        x = x @ self.middle
        x = jax.nn.relu(x + jnp.broadcast_to(self.middle_bias, x.shape))
        eta = x @ self.out + self.out_bias
        if self.scale_out is None or self.scale_bias is None:
            return eta, jnp.ones_like(eta)
        return eta, jax.nn.softplus(x @ self.scale_out + self.scale_bias) + MIN_SCALE


def make_dual(key: Array, spec: EnvSpec, hidden: int, *, ordered: bool, scale: bool = False) -> DualNetwork:
    """Return a freshly initialised dual network of width ``hidden``; ``scale``: with a second output, lambda."""
    keys = jax.random.split(key, 3)
    inputs = spec.state_size + spec.num_agents
    levels = spec.action_values if ordered and spec.action_values is not None else np.zeros(0, np.float32)
    return DualNetwork(
        state_weight=uniform(keys[0], (spec.state_size, hidden), inputs),
        action_weight=uniform(keys[1], (spec.num_agents, 1 if ordered else spec.num_actions, hidden), inputs),
        hidden_bias=jnp.zeros(hidden, jnp.float32),
        middle=uniform(keys[2], (hidden, hidden), hidden),
        middle_bias=jnp.zeros(hidden, jnp.float32),
        out=jnp.zeros(hidden, jnp.float32),
        out_bias=jnp.float32(0.0),
        levels=jnp.asarray(levels, jnp.float32),
        scale_out=jnp.zeros(hidden, jnp.float32) if scale else None,
        scale_bias=jnp.float32(np.log(np.expm1(START_SCALE))) if scale else None,
    )
