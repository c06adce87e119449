"""The agents of `drigm.agents.recurrent` in NumPy, one time-step at a time.

Such a step is a few products of some thirty rows. As a compiled program it took 0.3 ms, and a millisecond while
learning kept XLA's threads busy; in NumPy it takes 0.1 ms beside learning too, with nothing to compile and, where
learning has an accelerator, no way to it and back.
"""

from __future__ import annotations

import jax
import numpy as np

from drigm.agents.heads import LinearHead
from drigm.agents.lstm import gate_scale
from drigm.agents.recurrent import Memory, RecurrentAgents
from drigm.core.types import StoredStep


class NumpyAgents:
    """The agents of K runs as NumPy arrays, ready for `step`.

    Args:
        agents: weights stacked on a leading axis [K]; their actions have no order.
    """

    def __init__(self, agents: RecurrentAgents) -> None:
        assert isinstance(agents.head, LinearHead)
        assert not agents.ordered_input
        self.agents, self.shared, self.num_agents = agents, agents.shared, agents.num_agents
        weights = jax.tree.map(np.asarray, agents)
        scale = gate_scale(weights.lstm_hidden.shape[-2])  # one tanh serves all gates, as in `drigm.agents.lstm`
        self.offset, self.scale = weights.obs_offset[:, None], weights.obs_scale[:, None]  # [K, 1, N, O]
        self.encoder, self.read = weights.encoder, weights.lstm_input * scale
        self.recurrent, self.bias = weights.lstm_hidden * scale, weights.lstm_bias[:, :, None] * scale
        if self.encoder is None:  # biases that meet the embedding are part of it
            self.embedding = weights.action_embedding * scale + self.bias
        else:
            self.embedding = weights.action_embedding + weights.encoder_bias[:, :, None]
        self.head, self.head_bias = weights.head.weight, weights.head.bias[:, :, None]

    def initial_memory(self, envs: int) -> Memory:
        """Return cleared LSTM state [K, G, rows, H]."""
        runs, groups, hidden, _ = self.recurrent.shape
        zeros = np.zeros((runs, groups, envs * self.num_agents // groups, hidden), np.float32)
        return Memory(zeros, zeros)  # type: ignore[arg-type]

    def act(self, memory: Memory, row: StoredStep) -> tuple[Memory, np.ndarray]:
        """Advance the memories by one step; returns the greedy actions [K, E, N] int32 too (see `rollout.act`)."""
        memory, features = self._step(memory, row)
        values = self._batch(features @ self.head + self.head_bias)
        if row.avail_actions is not None:
            values = np.where(row.avail_actions, values, -np.inf)
        return memory, values.argmax(axis=-1).astype(np.int32)

    def _step(self, memory: Memory, row: StoredStep) -> tuple[Memory, np.ndarray]:
        """Return the memories and the head's features [K, G, rows, F]."""
        x = self._encode(np.asarray(row.obs))
        index = self._rows(np.asarray(row.last_action)) + 1  # [K, G, rows]
        known = np.take_along_axis(self.embedding, index[..., None], axis=2)
        if self.encoder is None:
            gates = x @ self.read + known
        else:
            gates = np.maximum(x @ self.encoder + known, 0.0) @ self.read + self.bias
        going_on = np.broadcast_to(~np.asarray(row.first)[..., None], row.last_action.shape)
        keep = self._rows(going_on)[..., None].astype(np.float32)
        width = memory.hidden.shape[-1]
        gates = np.tanh(gates + (memory.hidden * keep) @ self.recurrent)
        i, f, g, o = (gates[..., k * width : (k + 1) * width] for k in range(4))
        cell = (0.5 * f + 0.5) * (memory.cell * keep) + (0.5 * i + 0.5) * g
        hidden = (0.5 * o + 0.5) * np.tanh(cell)
        return Memory(hidden, cell), np.concatenate([hidden, x], axis=-1)  # type: ignore[arg-type]

    def _encode(self, obs: np.ndarray) -> np.ndarray:
        """Return the standardised inputs [K, G, rows, I] of observations [K, E, N, O]."""
        x = (obs - self.offset) / self.scale
        if self.shared:
            ids = np.broadcast_to(np.eye(self.num_agents, dtype=np.float32), (*x.shape[:3], self.num_agents))
            x = np.concatenate([x, ids], axis=-1)
        return self._rows(x)

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
