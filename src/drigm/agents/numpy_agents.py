"""The agents of `drigm.agents.recurrent` in NumPy, one time-step at a time.

Such a step is a few products of some thirty rows. As a compiled program it took 0.3 ms, and a millisecond while
learning kept XLA's threads busy; in NumPy it takes 0.1 ms beside learning too, with nothing to compile and, where
learning has an accelerator, no way to it and back.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from drigm.agents.heads import CENTRE_GAIN, LinearHead
from drigm.agents.lstm import gate_scale
from drigm.agents.recurrent import CHANGE_SCALE, Memory, RecurrentAgents
from drigm.core.types import NO_ACTION, StoredStep


class NumpyAgents:
    """The agents of K runs as NumPy arrays, ready for `step`.

    Args:
        agents: weights stacked on a leading axis [K].
    """

    def __init__(self, agents: RecurrentAgents) -> None:
        self.agents, self.shared, self.num_agents = agents, agents.shared, agents.num_agents
        weights = jax.tree.map(np.asarray, agents)
        scale = gate_scale(weights.lstm_hidden.shape[-2])  # one tanh serves all gates, as in `drigm.agents.lstm`
        self.offset, self.scale = weights.obs_offset[:, None], weights.obs_scale[:, None]  # [K, 1, N, O]
        self.encoder, self.read = weights.encoder, weights.lstm_input * scale
        self.recurrent, self.bias = weights.lstm_hidden * scale, weights.lstm_bias[:, :, None] * scale
        if self.encoder is None:  # biases that meet the embedding are part of it
            embedding, bias = weights.action_embedding * scale, self.bias
        else:
            embedding, bias = weights.action_embedding, weights.encoder_bias[:, :, None]
        self.embedding = bias if agents.ordered_input else embedding + bias  # levels are inputs like the others
        self.head, self.head_bias = weights.head.weight, weights.head.bias[:, :, None]
        self.velocity = agents.velocity
        self.levels = None if isinstance(agents.head, LinearHead) else weights.head.levels  # [K, A]
        if self.levels is not None:  # greedy actions ask for the centre alone
            self.head, self.head_bias = self.head[..., 1:2], self.head_bias[..., 1:2]

    def initial_memory(self, envs: int) -> Memory:
        """Return cleared LSTM state [K, G, rows, H]."""
        runs, groups, hidden, _ = self.recurrent.shape
        rows = envs * self.num_agents // groups
        zeros = np.zeros((runs, groups, rows, hidden), np.float32)
        size = self.offset.shape[-1] + (self.levels is not None)
        seen = np.zeros((runs, groups, rows, size + 1), np.float32)
        return Memory(zeros, zeros, None if self.agents.kept is None else seen)  # type: ignore[arg-type]

    def act(self, memory: Memory, row: StoredStep) -> tuple[Memory, np.ndarray]:
        """Advance the memories by one step; returns the greedy actions [K, E, N] int32 too (see `rollout.act`)."""
        memory, features = self._step(memory, row)
        if self.velocity:  # see `OrderedHead`
            known = self.agents.head.memory  # pyright: ignore[reportAttributeAccessIssue] (an `OrderedHead`)
            gain = np.exp(0.5 * np.tanh(features[..., :known] @ self.head[..., :known, :] + self.head_bias))
            values = self._batch(gain * (features[..., known:] @ self.head[..., known:, :]))
        else:
            values = self._batch(features @ self.head + self.head_bias)
        if self.levels is not None:  # a concave Q, symmetric around its centre: the best is the nearest
            centre = CENTRE_GAIN * values
            if self.velocity:
                centre = centre + self._level(np.asarray(row.last_action))[..., None]
            values = -np.abs(self.levels[:, None, None] - centre)
        if row.avail_actions is not None:
            values = np.where(row.avail_actions, values, -np.inf)
        return memory, values.argmax(axis=-1).astype(np.int32)

    def _step(self, memory: Memory, row: StoredStep) -> tuple[Memory, np.ndarray]:
        """Return the memories and the head's features [K, G, rows, F]."""
        going_on = np.broadcast_to(~np.asarray(row.first)[..., None], row.last_action.shape)
        keep = self._rows(going_on)[..., None].astype(np.float32)
        x, previous = self._encode(np.asarray(row.obs), np.asarray(row.last_action), keep, memory.previous)
        known = self.embedding
        if not self.agents.ordered_input:
            index = self._rows(np.asarray(row.last_action)) + 1  # [K, G, rows]
            known = np.take_along_axis(known, index[..., None], axis=2)
        if self.encoder is None:
            gates = x @ self.read + known
        else:
            gates = np.maximum(x @ self.encoder + known, 0.0) @ self.read + self.bias
        width = memory.hidden.shape[-1]
        gates = np.tanh(gates + (memory.hidden * keep) @ self.recurrent)
        i, f, g, o = (gates[..., k * width : (k + 1) * width] for k in range(4))
        cell = (0.5 * f + 0.5) * (memory.cell * keep) + (0.5 * i + 0.5) * g
        hidden = (0.5 * o + 0.5) * np.tanh(cell)
        return Memory(hidden, cell, previous), np.concatenate([hidden, x], axis=-1)  # type: ignore[arg-type]

    def _level(self, last_action: np.ndarray) -> np.ndarray:
        """Return the levels of the last actions [K, E, N], 0 before the first."""
        assert self.levels is not None
        level = np.take_along_axis(self.levels, np.maximum(last_action, 0).reshape(len(last_action), -1), axis=1)
        return np.where(last_action != NO_ACTION, level.reshape(last_action.shape), np.float32(0.0))

    def _encode(
        self, obs: np.ndarray, last_action: np.ndarray, keep: np.ndarray, previous: Any
    ) -> tuple[np.ndarray, Any]:
        """Return the standardised inputs [K, G, rows, I] of observations [K, E, N, O] and last actions [K, E, N].

        And the last readings, where changes are seen (see `RecurrentAgents`); ``keep`` [K, G, rows, 1].
        """
        x = self._rows((obs - self.offset) / self.scale)
        parts = [x]
        if self.agents.kept is not None:
            if self.levels is not None:
                x = np.concatenate([x, self._rows(self._level(last_action)[..., None])], axis=-1)
            change = CHANGE_SCALE * (x - previous[..., :-1]) * previous[..., -1:] * keep
            previous = np.concatenate([x, np.ones((*x.shape[:-1], 1), np.float32)], axis=-1)
            parts = [x[..., list(self.agents.kept)], change]
        if self.agents.ordered_input and not self.velocity:
            known = (last_action != NO_ACTION).astype(np.float32)
            parts += [self._rows(self._level(last_action)[..., None]), self._rows(known[..., None])]
        if self.shared and not self.velocity:
            ids = np.broadcast_to(np.eye(self.num_agents, dtype=np.float32), (*obs.shape[:3], self.num_agents))
            parts.append(self._rows(ids))
        return np.concatenate(parts, axis=-1), previous

    def _rows(self, x: np.ndarray) -> np.ndarray:
        """[K, E, N, ...] -> [K, G, rows, ...]."""
        if self.shared:
            return x.reshape(x.shape[0], 1, -1, *x.shape[3:])
        return np.swapaxes(x, 1, 2)

    def _batch(self, x: np.ndarray) -> np.ndarray:
        """[K, G, rows, ...] -> [K, E, N, ...]."""
        if self.shared:
            return x.reshape(x.shape[0], -1, self.num_agents, *x.shape[3:])
        return np.swapaxes(x, 1, 2)
