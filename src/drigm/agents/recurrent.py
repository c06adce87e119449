"""The recurrent agents (DRQN), batched over agents.

Inside this file arrays are agent-first, [G, rows, ...], where G is N for per-agent parameters and 1 for shared
ones: one batched matmul serves all agents. Outside they are [T, B, N, ...].
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from drigm.agents.dense import affine, uniform
from drigm.agents.heads import CENTRE, CENTRE_GAIN, LinearHead, OrderedHead, make_head
from drigm.agents.lstm import lstm
from drigm.core.types import NO_ACTION, Array, EnvSpec, map_tree, standardise

# Of an agent that moves from its last action: levels per unit of what it regulates, before anything was learnt. One
# that begins with the wrong sign drives its action to an end, where it learns no more.
FIRST_GAIN = -0.1
# Changes within a step are small beside the readings' ranges, and Adam moves every weight by about the same.
CHANGE_SCALE = 5.0


class AgentInputs(NamedTuple):
    """What the agents know at each time-step, standardised."""

    obs: Float[Array, "T B N O"]
    last_action: Int[Array, "T B N"]  # NO_ACTION at the first step
    first: Bool[Array, "T B"]  # a new episode starts here: memory is cleared before this step


class Memory(NamedTuple):
    """What every agent carries from step to step."""

    hidden: Float[Array, "G rows H"]
    cell: Float[Array, "G rows H"]
    # The standardised observation before, the level of the action before (if actions have an order), and 1 where there
    # was one; None where agents see no changes.
    previous: Float[Array, "G rows C"] | None = None


def greedy_actions(q: Float[Array, "*batch N A"], avail: Bool[Array, "*batch N A"]) -> Int[Array, "*batch N"]:
    """Return each agent's own argmax, ``a_bar_i = argmax_a Q_i(h_i, a)``, over available actions.

    DrIGM makes this the greedy *joint* action.
    """
    return jnp.argmax(jnp.where(avail, q, -jnp.inf), axis=-1).astype(jnp.int32)


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
    # The readings that an agent sees as they are, if it sees the changes of all; None: it sees all as they are.
    kept: tuple[int, ...] | None = eqx.field(static=True, default=None)

    def initial_memory(self, batch: int) -> Memory:
        """Return cleared LSTM state for ``batch`` parallel joint histories."""
        groups, hidden = self.lstm_hidden.shape[:2]
        rows = batch * self.num_agents // groups
        zeros = jnp.zeros((groups, rows, hidden), jnp.float32)
        size = self.obs_offset.shape[-1] + isinstance(self.head, OrderedHead)
        seen = jnp.zeros((groups, rows, size + 1), jnp.float32)
        return Memory(zeros, zeros, None if self.kept is None else seen)

    def memory_by_agent(self, memory: Memory) -> Memory:
        """Return leaves [G, rows, ...] as [B, N, ...], as replay keeps them."""
        return map_tree(lambda x: self._batch(x, 1)[0], memory)

    def memory_by_group(self, memory: Memory) -> Memory:
        """Return leaves [B, N, ...] as [G, rows, ...]."""
        return map_tree(lambda x: self._rows(x[None]), memory)

    def unroll(self, memory: Memory, inputs: AgentInputs) -> tuple[Memory, Array]:
        """Run T steps and return the memory after them and the head's features [T, G, rows, F].

        The input projections of all T steps are one matmul, outside the recurrence.
        """
        t, batch = inputs.first.shape
        keep = self._rows(jnp.broadcast_to(~inputs.first[..., None], (t, batch, self.num_agents)))
        keep = keep.reshape(keep.shape[0], t, -1).astype(jnp.float32)
        level = self._level(inputs)
        x, previous = self._encode(inputs, level, keep, memory.previous)  # [G, T * rows, I]
        if self.encoder is None or self.encoder_bias is None:
            gates = affine(x, self.lstm_input, self.lstm_bias) + self._embed(inputs)
        else:
            hidden_in = jax.nn.relu(affine(x, self.encoder, self.encoder_bias) + self._embed(inputs))
            gates = affine(hidden_in, self.lstm_input, self.lstm_bias)
        gates = jnp.moveaxis(gates.reshape(gates.shape[0], t, -1, gates.shape[-1]), 1, 0)
        outputs, cell = lstm(gates, jnp.moveaxis(keep, 1, 0), self.lstm_hidden, memory.hidden, memory.cell)
        skip = jnp.moveaxis(x.reshape(x.shape[0], t, -1, x.shape[-1]), 1, 0)
        features = [outputs, skip]
        if level is not None and self.velocity:
            features.append(jnp.moveaxis(level[..., None].reshape(x.shape[0], t, -1, 1), 1, 0))
        return Memory(outputs[-1], cell, previous), jnp.concatenate(features, axis=-1)

    def unroll_stepwise(self, memory: Memory, inputs: AgentInputs) -> tuple[Memory, Array]:
        """As `unroll`, with each step's projections made in that step: for many rows where no gradient is taken."""
        # A bound method of arrays has no hash, which `scan` asks for.
        return jax.lax.scan(lambda memory, now: self._step(memory, now), memory, inputs)

    def memories(self, memory: Memory, inputs: AgentInputs) -> Memory:
        """Run T steps and return the memory after each of them, leaves [T, G, rows, ...]."""

        def step(memory: Memory, now: AgentInputs) -> tuple[Memory, Memory]:
            memory, _ = self._step(memory, now)
            return memory, memory

        return jax.lax.scan(step, memory, inputs)[1]

    def _step(self, memory: Memory, now: AgentInputs) -> tuple[Memory, Array]:
        """Run one step: the memory after it, and the features [G, rows, F]."""
        memory, features = self.unroll(memory, jax.tree.map(lambda x: x[None], now))
        return memory, features[0]

    def branch(self, memories: Memory, inputs: AgentInputs) -> Array:
        """Run one step from each of T memories of B histories, K times: features [T, G, rows, F].

        Args:
            memories: leaves [T, G, rows of B, ...].
            inputs: [T, B * K], the K next steps of a history beside each other.
        """
        t, rows = inputs.first.shape
        per_history = self.num_agents // memories.hidden.shape[1]
        batch = memories.hidden.shape[2] // per_history

        def repeated(x: Array) -> Array:
            x = jnp.moveaxis(x, 1, 0).reshape(x.shape[1], t, batch, 1, per_history, x.shape[-1])
            x = jnp.broadcast_to(x, (*x.shape[:3], rows // batch, *x.shape[4:]))
            return x.reshape(x.shape[0], -1, x.shape[-1])

        at_once = jax.tree.map(lambda x: x.reshape(1, t * rows, *x.shape[2:]), inputs)
        _, features = self.unroll(jax.tree.map(repeated, memories), at_once)
        return jnp.moveaxis(features[0].reshape(features.shape[1], t, -1, features.shape[-1]), 1, 0)

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
        return self.head.weight.shape[1] + self.velocity

    @property
    def velocity(self) -> bool:
        """Whether the head moves from the last action."""
        return isinstance(self.head, OrderedHead) and self.head.velocity

    def greedy(self, features: Array, avail: Array | None) -> Array:
        """Return each agent's own best available action, [T, B, N] int32; ``avail`` is [T, B, N, A] or None."""
        if avail is None:
            return self._batch(self.head.greedy(_merge_time(features)), features.shape[0])
        return greedy_actions(self.q_values(features), avail)

    def _level(self, inputs: AgentInputs) -> Array | None:
        """Return the levels [G, T * rows] of the last actions, 0 before the first; None if actions have no order."""
        if not isinstance(self.head, OrderedHead):
            return None
        level = jax.lax.stop_gradient(self.head.levels)[jnp.maximum(inputs.last_action, 0)]
        return self._rows(jnp.where(inputs.last_action != NO_ACTION, level, 0.0))

    def _encode(
        self, inputs: AgentInputs, level: Array | None, keep: Array, previous: Array | None
    ) -> tuple[Array, Array | None]:
        """Return the standardised inputs [G, T * rows, I], and the last readings where changes are seen.

        ``keep`` [G, T, rows] is 0 at the first step of an episode.
        """
        x = standardise(inputs.obs, *(jax.lax.stop_gradient(a) for a in (self.obs_offset, self.obs_scale)))
        parts = [self._rows(x)]
        if previous is not None:
            seen = parts[0] if level is None else jnp.concatenate([parts[0], level[..., None]], axis=-1)
            parts, previous = self._changes(seen, keep, previous)
        if level is not None and not self.velocity:
            known = self._rows(inputs.last_action != NO_ACTION).astype(jnp.float32)
            parts += [level[..., None], known[..., None]]
        if self.shared and not self.velocity:
            shape = (*inputs.obs.shape[:3], self.num_agents)
            parts.append(self._rows(jnp.broadcast_to(jnp.eye(self.num_agents, dtype=jnp.float32), shape)))
        return jnp.concatenate(parts, axis=-1), previous

    def _changes(self, x: Array, keep: Array, previous: Array) -> tuple[list[Array], Array]:
        """Return the ``kept`` numbers among ``x`` [G, T * rows, O] and the changes of all, and the last of them.

        At the first step of an episode, and of a window, nothing has changed.
        """
        assert self.kept is not None
        size = x.shape[-1]
        now = x.reshape(*keep.shape, size)
        known = jnp.concatenate([now, jnp.ones((*keep.shape, 1), jnp.float32)], axis=-1)
        before = jnp.concatenate([previous[:, None], known[:, :-1]], axis=1)
        change = CHANGE_SCALE * (now - before[..., :size]) * before[..., size:] * keep[..., None]
        return [x[..., jnp.asarray(self.kept)], change.reshape(x.shape)], known[:, -1]

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


def make_agents(
    key: Array,
    spec: EnvSpec,
    hidden: int,
    *,
    share_parameters: bool,
    ordered: bool,
    bowls: int = 1,
    encoder: bool = True,
    velocity: bool = False,
    changes: bool = False,
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
        velocity: the ordered head moves from the last action.
        changes: agents see how every reading, and the level of their own action, has changed since the step before. As
            it is they see only what they regulate, less its setpoint (all readings, if the environment does not say).
    """
    groups = 1 if share_parameters else spec.num_agents
    every = tuple(range(spec.obs_size))
    kept, obs_offset = None, np.array(spec.obs_offset, np.float32)
    if changes:
        kept = every if spec.regulated is None else (spec.regulated.reading,)
        if spec.regulated is not None:
            obs_offset[:, spec.regulated.reading] = spec.regulated.setpoint
    readings = spec.obs_size if kept is None else spec.obs_size + ordered + len(kept)
    inputs = readings + 2 * (ordered and not velocity) + (share_parameters and not velocity) * spec.num_agents
    features = hidden + inputs
    keys = jax.random.split(key, 6)
    head = make_head(keys[4], spec, groups, features, bowls if ordered else None, hidden if velocity else 0)
    if velocity and kept is not None and spec.regulated is not None:  # levels raise what they regulate
        head = eqx.tree_at(lambda h: h.weight, head, head.weight.at[:, hidden, CENTRE].set(FIRST_GAIN / CENTRE_GAIN))
    rows = 0 if ordered else spec.num_actions + 1
    first, read = (hidden, hidden) if encoder else (4 * hidden, inputs)
    return RecurrentAgents(
        encoder=uniform(keys[0], (groups, inputs, hidden), inputs) if encoder else None,
        encoder_bias=jnp.zeros((groups, hidden), jnp.float32) if encoder else None,
        action_embedding=uniform(keys[1], (groups, rows, first), inputs),
        lstm_input=uniform(keys[2], (groups, read, 4 * hidden), read),
        lstm_hidden=uniform(keys[3], (groups, hidden, 4 * hidden), hidden),
        lstm_bias=jnp.broadcast_to(
            jnp.repeat(jnp.array([0.0, 1.0, 0.0, 0.0], jnp.float32), hidden), (groups, 4 * hidden)
        ),
        head=head,
        obs_offset=jnp.asarray(obs_offset),
        obs_scale=jnp.asarray(spec.obs_scale, jnp.float32),
        num_agents=spec.num_agents,
        shared=share_parameters,
        ordered_input=ordered,
        kept=kept,
    )
