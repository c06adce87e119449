"""QTRAN: any joint value, tied to a sum of the agents' values at the greedy joint action.

Where VDN and QMIX restrict the joint value, QTRAN (Son et al. 2019) learns it freely, Q_jt(h, a), and trains the agents
to have a sum Q'(h, a) = sum_i Q_i that agrees with it, up to V(h), where it matters: equality at the agents' own greedy
joint action, and not below it anywhere else. Both conditions together are what DrIGM needs.

The joint network here learns what the sum misses, ``Q_jt = sum_i Q_i + f(h, a, s)`` with f = 0 at the start: early on
QTRAN learns like VDN, and f takes over where the values are not additive.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from drigm.algorithms.factorizations.api import Factorization, Team, TeamSizes
from drigm.core.types import Array, PyTree

# f learns this much slower than the agents' sum. Adam moves every weight by about its step size whatever the weight
# does, and f has many: without the gain it soaks up what the sum could have said, and the agents, who act, learn late.
RESIDUAL_GAIN = 0.1
MAX_CANDIDATES = 16  # actions per agent that the alternative loss compares; evenly spread where there are more


class Encoder(eqx.Module):
    """One hidden layer per agent on what it remembers and does, summed over agents; then one with the state."""

    feature: Array  # [N, F, E]
    action: Array  # [N, A, E], or [N, 2, E] on a level and its square; [N, 0, E]: blind to actions
    bias: Array  # [N, E]
    team: Array  # [E, E]
    state: Array  # [S, E]
    team_bias: Array  # [E]
    out: Array  # [E]
    out_bias: Array  # []


class JointNetwork(eqx.Module):
    """f(h, a, s) and V(h, s)."""

    residual: Encoder
    value: Encoder
    levels: Array  # [A] or [0]: constant


def init(key: Array, sizes: TeamSizes) -> PyTree:
    """Return a joint network whose f and V are 0 everywhere."""
    k_residual, k_value = jax.random.split(key)
    levels = jnp.zeros(0) if sizes.levels is None else jnp.asarray(sizes.levels, jnp.float32)
    rows = sizes.num_actions if sizes.levels is None else 2
    return JointNetwork(_encoder(k_residual, sizes, rows), _encoder(k_value, sizes, 0), levels)


def joint_value(params: PyTree, team: Team) -> Array:
    """Return ``Q_jt(h, a) = sum_i Q_i(h_i, a_i) + f(h, a, s)``: [...]."""
    return jnp.sum(team.q, axis=-1) + _residual(params, team)


def consistency(params: PyTree, taken: Team, greedy: Team, q: Array, weights: tuple[float, float]) -> Array:
    """Return ``lambda_opt L_opt + lambda_nopt L_nopt`` of QTRAN-base (Son et al. 2019, eq. 5-6): [...].

    ``L_opt = (Q'(a_bar) - sg[Q_jt(a_bar)] + V)^2`` and ``L_nopt = min(Q'(a) - sg[Q_jt(a)] + V, 0)^2`` (sg: stop
    gradient): they move the agents' sum and V, never f.
    """
    del q
    slack = _slack(params, taken, jnp.sum(taken.q, axis=-1))
    return weights[0] * _optimal(params, greedy) + weights[1] * jnp.square(jnp.minimum(slack, 0.0))


def alternative(params: PyTree, taken: Team, greedy: Team, q: Array, weights: tuple[float, float]) -> Array:
    """Return the same with QTRAN-alt's condition (eq. 8): ``L_nopt = mean_i (min_{a_i} D(h, a_i, a_{-i}))^2``.

    ``D = Q' - sg[Q_jt] + V``. Instead of "not below anywhere" some action of each agent must touch: a tighter envelope.
    With many actions the minimum is over `MAX_CANDIDATES` evenly spread ones and the one taken.
    """
    agents, actions = q.shape[-2:]
    stride = -(-actions // MAX_CANDIDATES)
    candidates = jnp.arange(0, actions, stride, dtype=jnp.int32)
    total = jnp.sum(taken.q, axis=-1)
    own = _slack(params, taken, total)

    def lowest(agent: Array) -> Array:
        """min over the agent's candidates, and its taken action."""

        def one(action: Array) -> Array:
            column = q[..., agent, action]
            available = jnp.isfinite(column)
            column = jnp.where(available, column, 0.0)
            swapped = taken._replace(action=taken.action.at[..., agent].set(action))
            slack = _slack(params, swapped, total - taken.q[..., agent] + column)
            return jnp.where(available, slack, jnp.inf)

        return jnp.minimum(jnp.min(jax.vmap(one)(candidates), axis=0), own)

    slack = jax.vmap(lowest)(jnp.arange(agents))
    return weights[0] * _optimal(params, greedy) + weights[1] * jnp.mean(jnp.square(slack), axis=0)


def _optimal(params: PyTree, greedy: Team) -> Array:
    return jnp.square(_slack(params, greedy, jnp.sum(greedy.q, axis=-1)))


def _slack(params: PyTree, team: Team, total: Array) -> Array:
    """Return ``D = Q' - sg[Q_jt] + V`` where ``total`` is Q'."""
    joint = jax.lax.stop_gradient(total + _residual(params, team))
    return total - joint + RESIDUAL_GAIN * _affine_sum(params.value, team, None)


def _residual(params: PyTree, team: Team) -> Array:
    if params.levels.shape[0]:
        level = jax.lax.stop_gradient(params.levels)[team.action]
        return RESIDUAL_GAIN * _affine_sum(params.residual, team, _on_levels(params.residual, level))
    agents = jnp.broadcast_to(jnp.arange(team.action.shape[-1]), team.action.shape)
    return RESIDUAL_GAIN * _affine_sum(params.residual, team, params.residual.action[agents, team.action])


def _on_levels(encoder: Encoder, level: Array) -> Array:
    return jnp.einsum("...nk,nke->...ne", jnp.stack([level, jnp.square(level)], axis=-1), encoder.action)  # pyright: ignore[reportUnknownMemberType] (one overload is untyped)


def _affine_sum(encoder: Encoder, team: Team, action: Array | None) -> Array:
    """Return the encoder's output [...]; ``action`` [..., N, E] is what the actions add to each agent's layer."""
    x = jnp.einsum("...nf,nfe->...ne", jax.lax.stop_gradient(team.features), encoder.feature)  # pyright: ignore[reportUnknownMemberType] (one overload is untyped)
    x = x + jnp.broadcast_to(encoder.bias, x.shape)
    if action is not None:
        x = x + action
    total = jnp.sum(jax.nn.relu(x), axis=-2) @ encoder.team + team.state @ encoder.state
    hidden = jax.nn.relu(total + jnp.broadcast_to(encoder.team_bias, total.shape))
    return hidden @ encoder.out + encoder.out_bias


def _encoder(key: Array, sizes: TeamSizes, action_rows: int) -> Encoder:
    agents, features, width = sizes.num_agents, sizes.feature_size, sizes.embed_size
    keys = jax.random.split(key, 4)

    def weights(k: Array, shape: tuple[int, ...], fan_in: int) -> Array:
        return jax.random.normal(k, shape, jnp.float32) / jnp.sqrt(jnp.float32(fan_in))

    return Encoder(
        feature=weights(keys[0], (agents, features, width), features),
        action=weights(keys[1], (agents, action_rows, width), 2),
        bias=jnp.zeros((agents, width), jnp.float32),
        team=weights(keys[2], (width, width), agents * width),
        state=weights(keys[3], (sizes.state_size, width), sizes.state_size),
        team_bias=jnp.zeros(width, jnp.float32),
        out=jnp.zeros(width, jnp.float32),
        out_bias=jnp.float32(0.0),
    )


QTRAN = Factorization(name="qtran", init=init, joint_value=joint_value, consistency=consistency)
QTRAN_ALT = Factorization(name="qtran-alt", init=init, joint_value=joint_value, consistency=alternative)
