"""The recurrent agents (DRQN) and the dual network, batched over agents.

Inside this file arrays are agent-first, [G, rows, ...], where G is N for per-agent parameters and 1 for shared
ones: one batched matmul serves all agents. Outside they are [T, B, N, ...].
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from drigm.errors import check
from drigm.lstm import lstm
from drigm.products import affine
from drigm.targets import greedy_actions
from drigm.types import Array, EnvSpec

NO_ACTION = -1  # the previous action at the first step of an episode
# Adam moves every weight by about its step size, whatever the weight does. A deadbeat controller of a heavy zone
# needs slopes far above 1 (levels per degree): without the gain most of a short run goes into growing them.
CENTRE_GAIN = 5.0
MIN_SCALE = 1e-3  # of lambda: divergences divide by it
START_SCALE = 0.1  # of lambda; too high a price is a pessimism that deterministic transitions forget only slowly


class AgentInputs(NamedTuple):
    """What the agents know at each time-step, standardised."""

    obs: Array  # [T, B, N, O] float32
    last_action: Array  # [T, B, N] int32, NO_ACTION at the first step
    first: Array  # [T, B] bool, a new episode starts here: memory is cleared before this step


class Memory(NamedTuple):
    """LSTM state of every agent."""

    hidden: Array  # [G, rows, H]
    cell: Array  # [G, rows, H]


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
    """

    weight: Array  # [G, F, 2 + 2 K]
    bias: Array  # [G, 2 + 2 K]
    levels: Array  # [A], constant

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

    def _shape(self, features: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        out = affine(features, self.weight, self.bias)
        centre = CENTRE_GAIN * out[..., 1]
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


class RecurrentAgents(eqx.Module):
    """MLP (if any) -> LSTM -> Q head for every agent, each on its own observation and previous action.

    The head sees the LSTM's output and, past it, the standardised observation ("skip"): a saturating
    LSTM cannot extrapolate to a colder city, a linear path can.
    """

    encoder: Array | None  # [G, I, H]; None where the LSTM reads the inputs themselves
    encoder_bias: Array | None  # [G, H]
    # [G, A + 1, H], or 4H without encoder; row 0 is "no action yet"; one row per level would be wasteful if ordered.
    action_embedding: Array
    lstm_input: Array  # [G, H or I, 4H], gates i, f, g, o
    lstm_hidden: Array  # [G, H, 4H]
    lstm_bias: Array  # [G, 4H]
    head: LinearHead | OrderedHead
    obs_offset: Array  # [N, O], constant
    obs_scale: Array  # [N, O], constant
    num_agents: int = eqx.field(static=True)
    shared: bool = eqx.field(static=True)
    ordered_input: bool = eqx.field(static=True)

    def initial_memory(self, batch: int) -> Memory:
        """Return cleared LSTM state for ``batch`` parallel joint histories."""
        groups, hidden = self.lstm_hidden.shape[:2]
        zeros = jnp.zeros((groups, batch * self.num_agents // groups, hidden), jnp.float32)
        return Memory(zeros, zeros)

    def unroll(self, memory: Memory, inputs: AgentInputs) -> tuple[Memory, Array]:
        """Run T steps and return the memory after them and the head's features [T, G, rows, F].

        The input projections of all T steps are one matmul, outside the recurrence.
        """
        x = self._encode(inputs)  # [G, T * rows, I]
        t, batch = inputs.first.shape
        if self.encoder is None or self.encoder_bias is None:
            gates = affine(x, self.lstm_input, self.lstm_bias) + self._embed(inputs)
        else:
            hidden_in = jax.nn.relu(affine(x, self.encoder, self.encoder_bias) + self._embed(inputs))
            gates = affine(hidden_in, self.lstm_input, self.lstm_bias)
        gates = jnp.moveaxis(gates.reshape(gates.shape[0], t, -1, gates.shape[-1]), 1, 0)
        keep = self._rows(jnp.broadcast_to(~inputs.first[..., None], (t, batch, self.num_agents)))
        keep = jnp.moveaxis(keep.reshape(keep.shape[0], t, -1), 1, 0).astype(jnp.float32)
        outputs, cell = lstm(gates, keep, self.lstm_hidden, memory.hidden, memory.cell)
        skip = jnp.moveaxis(x.reshape(x.shape[0], t, -1, x.shape[-1]), 1, 0)
        return Memory(outputs[-1], cell), jnp.concatenate([outputs, skip], axis=-1)

    def unroll_stepwise(self, memory: Memory, inputs: AgentInputs) -> tuple[Memory, Array]:
        """As `unroll`, with each step's projections made in that step: for many rows where no gradient is taken."""

        def step(memory: Memory, now: AgentInputs) -> tuple[Memory, Array]:
            memory, features = self.unroll(memory, jax.tree.map(lambda x: x[None], now))
            return memory, features[0]

        return jax.lax.scan(step, memory, inputs)

    def q_values(self, features: Array) -> Array:
        """Return Q of every action: features [T, G, rows, F] -> [T, B, N, A]."""
        q = self.head.values(_merge_time(features))
        return self._batch(q, features.shape[0])

    def q_of(self, features: Array, action: Array) -> Array:
        """Return Q of ``action`` [T, B, N] -> [T, B, N]."""
        q = self.head.value_of(_merge_time(features), self._rows(action))
        return self._batch(q, features.shape[0])

    def by_agent(self, features: Array) -> Array:
        """Return features [T, G, rows, F] as [T, B, N, F]."""
        return self._batch(_merge_time(features), features.shape[0])

    @property
    def feature_size(self) -> int:
        return self.head.weight.shape[1]

    def greedy(self, features: Array, avail: Array | None) -> Array:
        """Return each agent's own best available action, [T, B, N] int32; ``avail`` is [T, B, N, A] or None."""
        if avail is None:
            return self._batch(self.head.greedy(_merge_time(features)), features.shape[0])
        return greedy_actions(self.q_values(features), avail)

    def _encode(self, inputs: AgentInputs) -> Array:
        """Return the standardised inputs [G, T * rows, I]."""
        t, batch = inputs.first.shape
        shape = (t, batch, *self.obs_offset.shape)
        offset, scale = (jax.lax.stop_gradient(a) for a in (self.obs_offset, self.obs_scale))
        x = (inputs.obs - jnp.broadcast_to(offset, shape)) / jnp.broadcast_to(scale, shape)
        if self.ordered_input:
            assert isinstance(self.head, OrderedHead)
            known = inputs.last_action != NO_ACTION
            level = jax.lax.stop_gradient(self.head.levels)[jnp.maximum(inputs.last_action, 0)]
            level = jnp.where(known, level, 0.0)
            x = jnp.concatenate([x, level[..., None], known[..., None].astype(jnp.float32)], axis=-1)
        if self.shared:
            ids = jnp.broadcast_to(jnp.eye(self.num_agents, dtype=jnp.float32), (*shape[:3], self.num_agents))
            x = jnp.concatenate([x, ids], axis=-1)
        return self._rows(x)

    def _embed(self, inputs: AgentInputs) -> Array:
        """Return the embedding of the previous action, a table look-up instead of a one-hot product."""
        if self.ordered_input:
            return jnp.float32(0.0)
        index = self._rows(inputs.last_action) + 1  # [G, T * rows]
        return jnp.take_along_axis(self.action_embedding, index[..., None], axis=1)

    def _rows(self, x: Array) -> Array:
        """[T, B, N, ...] -> [G, T * rows, ...]."""
        t, batch, agents = x.shape[:3]
        if self.shared:
            return x.reshape(1, t * batch * agents, *x.shape[3:])
        return jnp.moveaxis(x, 2, 0).reshape(agents, t * batch, *x.shape[3:])

    def _batch(self, x: Array, t: int) -> Array:
        """[G, T * rows, ...] -> [T, B, N, ...]."""
        if self.shared:
            return x.reshape(t, -1, self.num_agents, *x.shape[2:])
        return jnp.moveaxis(x.reshape(self.num_agents, t, -1, *x.shape[2:]), 0, 2)


def _merge_time(features: Array) -> Array:
    """[T, G, rows, F] -> [G, T * rows, F]."""
    return jnp.moveaxis(features, 0, 1).reshape(features.shape[1], -1, features.shape[-1])


def _uniform(key: Array, shape: tuple[int, ...], fan_in: int) -> Array:
    bound = 1.0 / float(np.sqrt(fan_in))
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)


def make_agents(
    key: Array,
    spec: EnvSpec,
    hidden: int,
    *,
    share_parameters: bool,
    ordered: bool,
    bowls: int = 1,
    encoder: bool = True,
) -> RecurrentAgents:
    """Return freshly initialised agents for ``spec``.

    Args:
        key: random key.
        spec: sizes and standardisation.
        hidden: width H of the MLP and the LSTM.
        share_parameters: one set of weights for all agents (an agent's id is then part of its input).
        ordered: use `OrderedHead` over ``spec.action_values``; the previous action enters as its level.
        bowls: number K of kinks in the ordered head.
        encoder: the MLP before the LSTM.
    """
    groups = 1 if share_parameters else spec.num_agents
    inputs = spec.obs_size + 2 * ordered + share_parameters * spec.num_agents
    features = hidden + inputs
    keys = jax.random.split(key, 6)
    if ordered:
        head = OrderedHead(
            weight=_uniform(keys[4], (groups, features, 2 + 2 * bowls), features) * 0.06,
            bias=jnp.broadcast_to(_bowl_start(bowls), (groups, 2 + 2 * bowls)),
            levels=jnp.asarray(_even_levels(spec), jnp.float32),
        )
    else:
        head = LinearHead(
            weight=_uniform(keys[4], (groups, features, spec.num_actions), features),
            bias=jnp.zeros((groups, spec.num_actions), jnp.float32),
        )
    rows = 0 if ordered else spec.num_actions + 1
    first, read = (hidden, hidden) if encoder else (4 * hidden, inputs)
    return RecurrentAgents(
        encoder=_uniform(keys[0], (groups, inputs, hidden), inputs) if encoder else None,
        encoder_bias=jnp.zeros((groups, hidden), jnp.float32) if encoder else None,
        action_embedding=_uniform(keys[1], (groups, rows, first), inputs),
        lstm_input=_uniform(keys[2], (groups, read, 4 * hidden), read),
        lstm_hidden=_uniform(keys[3], (groups, hidden, 4 * hidden), hidden),
        lstm_bias=jnp.broadcast_to(
            jnp.repeat(jnp.array([0.0, 1.0, 0.0, 0.0], jnp.float32), hidden), (groups, 4 * hidden)
        ),
        head=head,
        obs_offset=jnp.asarray(spec.obs_offset, jnp.float32),
        obs_scale=jnp.asarray(spec.obs_scale, jnp.float32),
        num_agents=spec.num_agents,
        shared=share_parameters,
        ordered_input=ordered,
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
        state_weight=_uniform(keys[0], (spec.state_size, hidden), inputs),
        action_weight=_uniform(keys[1], (spec.num_agents, 1 if ordered else spec.num_actions, hidden), inputs),
        hidden_bias=jnp.zeros(hidden, jnp.float32),
        middle=_uniform(keys[2], (hidden, hidden), hidden),
        middle_bias=jnp.zeros(hidden, jnp.float32),
        out=jnp.zeros(hidden, jnp.float32),
        out_bias=jnp.float32(0.0),
        levels=jnp.asarray(levels, jnp.float32),
        scale_out=jnp.zeros(hidden, jnp.float32) if scale else None,
        scale_bias=jnp.float32(np.log(np.expm1(START_SCALE))) if scale else None,
    )
