"""A weighted sum: the state says how much each agent counts, and no weight is negative."""

import jax
import jax.numpy as jnp

from drigm.algorithms.factorizations import Factorization


def init(key, sizes):
    """Weights [S, N] and biases [N] of how much each agent counts, and [S] of what the state is worth by itself."""
    weight = 0.1 * jax.random.normal(key, (sizes.state_size, sizes.num_agents), jnp.float32)
    return {
        "weight": weight,
        "bias": jnp.zeros(sizes.num_agents, jnp.float32),
        "value": jnp.zeros(sizes.state_size, jnp.float32),
    }


def joint_value(params, team):
    """``sum_i softplus(w_i(s)) Q_i + v(s)``: rising in every Q_i, so greedy agents are the greedy team (DrIGM)."""
    weight = team.state @ params["weight"]
    weight = jax.nn.softplus(weight + jnp.broadcast_to(params["bias"], weight.shape))
    return jnp.sum(weight * team.q, axis=-1) + team.state @ params["value"]


Weighted = Factorization(name="weighted", init=init, joint_value=joint_value)
