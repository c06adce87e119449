"""QMIX: a mixing network that is monotone in every agent's value, conditioned on the global state."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents.dense import affine
from drigm.algorithms.factorizations.api import Factorization, Team, TeamSizes
from drigm.core.types import Array, PyTree

# Adam moves every weight by about its step size, so what a layer on S inputs says moves by S times that: on the wide
# states of battles the mixing weights would run away from the agents' values. Wider states count for less each.
STATE_SIZE = 10.0


class Mixer(eqx.Module):
    """Hypernetworks from the standardised state [S] to the mixing weights; E is the embedding size."""

    w1: Array  # [S, N * E]
    w1_bias: Array  # [N * E]
    b1: Array  # [S, E]
    b1_bias: Array  # [E]
    w2: Array  # [S, E]
    w2_bias: Array  # [E]
    v_hidden: Array  # [S, E]
    v_hidden_bias: Array  # [E]
    v_out: Array  # [E]
    v_out_bias: Array  # []


def init(key: Array, sizes: TeamSizes) -> PyTree:
    """Return a mixer that starts close to the sum of the agents' values, so that learning starts stable."""
    num_agents, state_size, embed_size = sizes.num_agents, sizes.state_size, sizes.embed_size
    k_w1, k_b1, k_w2, k_v = jax.random.split(key, 4)
    scale = 0.1 / jnp.sqrt(jnp.float32(state_size))

    def weights(k: Array, size: int) -> Array:
        return scale * jax.random.normal(k, (state_size, size), jnp.float32)

    # |w1| ~ 1 / sqrt(E) and |w2| ~ 1 / sqrt(E) at the start: in ELU's linear part Q_tot = sum_i Q_i.
    start = 1.0 / jnp.sqrt(jnp.float32(embed_size))
    zeros = jnp.zeros(embed_size, jnp.float32)
    return Mixer(
        w1=weights(k_w1, num_agents * embed_size),
        w1_bias=jnp.full(num_agents * embed_size, start),
        b1=weights(k_b1, embed_size),
        b1_bias=zeros,
        w2=weights(k_w2, embed_size),
        w2_bias=jnp.full(embed_size, start),
        v_hidden=jax.random.normal(k_v, (state_size, embed_size), jnp.float32)
        / (jnp.sqrt(jnp.float32(state_size)) * _gain(state_size)),
        v_hidden_bias=zeros,
        v_out=zeros,
        v_out_bias=jnp.float32(0.0),
    )


def joint_value(params: PyTree, team: Team) -> Array:
    """Return ``|W2(s)| ELU(|W1(s)| q + b1(s)) + v(s)`` (Rashid et al. 2018, eq. 5-6): [...]."""
    q, state = team.q, team.state * _gain(team.state.shape[-1])
    w1, b1, w2, v_hidden = _read(params, state)
    w1 = jnp.abs(w1).reshape(*q.shape, -1)
    hidden = jax.nn.elu(jnp.einsum("...n,...ne->...e", q, w1) + b1)  # pyright: ignore[reportUnknownMemberType] (one overload is untyped)
    value = jax.nn.relu(v_hidden) @ params.v_out + params.v_out_bias
    return jnp.sum(hidden * jnp.abs(w2), axis=-1) + value


def _read(params: Mixer, state: Array) -> tuple[Array, Array, Array, Array]:
    """Return what the hypernetworks say of the states [..., S], in one product: [..., N * E] and three of [..., E]."""
    layers = (params.w1, params.w1_bias), (params.b1, params.b1_bias), (params.w2, params.w2_bias)
    weights, biases = zip(*layers, (params.v_hidden, params.v_hidden_bias), strict=True)
    weight, bias = jnp.concatenate(weights, axis=1), jnp.concatenate(biases)
    out = affine(state.reshape(1, -1, state.shape[-1]), weight[None], bias[None])
    ends = np.cumsum([w.shape[1] for w in weights])[:-1]
    w1, b1, w2, v_hidden = jnp.split(out.reshape(*state.shape[:-1], -1), ends, axis=-1)
    return w1, b1, w2, v_hidden


def _gain(state_size: int) -> float:
    return min(1.0, STATE_SIZE / state_size)


QMIX = Factorization(name="qmix", init=init, joint_value=joint_value)
