"""The agents of `drigm.agents.recurrent` in NumPy, one time-step at a time.

Such a step is a few products of some thirty rows. As a compiled program it took 0.3 ms, and a millisecond while
learning kept XLA's threads busy; in NumPy it takes 0.1 ms beside learning too, with nothing to compile and, where
learning has an accelerator, no way to it and back. Exported agents take the same steps (`drigm.agents.numpy_network`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from drigm.agents.lstm import gate_scale
from drigm.agents.numpy_network import Network, advance, cleared, preferences
from drigm.agents.recurrent import Memory, RecurrentAgents
from drigm.core.types import StoredStep

PARTS = ("encoder", "encoder_bias", "action_embedding", "lstm_input", "lstm_hidden", "lstm_bias")
HEAD_PARTS = ("weight", "bias", "levels")  # of `head`


def network_of(
    arrays: Mapping[str, Any], offset: np.ndarray, scale: np.ndarray, *, kept: tuple[int, ...] | None, velocity: bool
) -> Network:
    """Return the network of agents whose arrays, by their names in `RecurrentAgents`, have any leading axes.

    Args:
        arrays: those of `PARTS`, and of `HEAD_PARTS` as ``head.weight``; what the agents lack is None or not there.
        offset, scale: of the readings, whatever their shape.
        kept, velocity: see `RecurrentAgents`.
    """
    width = arrays["lstm_hidden"].shape[-2]
    halves = gate_scale(width)  # one tanh serves all gates, as in `drigm.agents.lstm`
    bias, levels, encoder = arrays["lstm_bias"][..., None, :] * halves, arrays.get("head.levels"), arrays.get("encoder")
    if encoder is None:  # biases that meet the embedding are part of it
        embedding, met = arrays["action_embedding"] * halves, bias
    else:
        embedding, met = arrays["action_embedding"], arrays["encoder_bias"][..., None, :]
    return Network(
        offset=offset,
        scale=scale,
        encoder=encoder,
        read=arrays["lstm_input"] * halves,
        recurrent=arrays["lstm_hidden"] * halves,
        bias=bias,
        embedding=embedding + met if levels is None else met,  # levels are inputs like the others
        head=arrays["head.weight"],
        head_bias=arrays["head.bias"][..., None, :],
        levels=levels,
        kept=kept,
        velocity=velocity,
    )


def arrays_of(agents: RecurrentAgents) -> dict[str, np.ndarray]:
    """Return the arrays of ``agents`` as `network_of` takes them."""
    parts = {name: getattr(agents, name) for name in PARTS}
    parts |= {f"head.{name}": getattr(agents.head, name, None) for name in HEAD_PARTS}
    return {name: np.asarray(x) for name, x in parts.items() if x is not None}


class NumpyAgents:
    """The agents of K runs as NumPy arrays, ready for `act`.

    Args:
        agents: weights stacked on a leading axis [K].
    """

    def __init__(self, agents: RecurrentAgents) -> None:
        self.agents, self.shared, self.num_agents = agents, agents.shared, agents.num_agents
        offset, scale = (np.asarray(x)[:, None] for x in (agents.obs_offset, agents.obs_scale))  # [K, 1, N, O]
        arrays = arrays_of(agents)
        if "head.levels" in arrays:
            arrays["head.levels"] = arrays["head.levels"][:, None]  # [K, 1, A]
        self.network = network_of(arrays, offset, scale, kept=agents.kept, velocity=agents.velocity)
        self.network = self.network._replace(traces=agents.traces)

    def initial_memory(self, envs: int) -> Memory:
        """Return cleared LSTM state [K, G, rows, H]."""
        runs, groups = self.network.recurrent.shape[:2]
        return Memory(*cleared(self.network, (runs, groups, envs * self.num_agents // groups)))  # type: ignore[arg-type]

    def act(self, memory: Memory, row: StoredStep) -> tuple[Memory, np.ndarray]:
        """Advance the memories by one step; returns the greedy actions [K, E, N] int32 too (see `rollout.act`)."""
        net, obs, last = self.network, np.asarray(row.obs), self._rows(np.asarray(row.last_action))
        if self.shared and not net.velocity:
            net = net._replace(identity=np.tile(np.eye(self.num_agents, dtype=np.float32), (obs.shape[1], 1)))
        going_on = np.broadcast_to(~np.asarray(row.first)[..., None], row.last_action.shape)
        keep = self._rows(going_on)[..., None].astype(np.float32)
        x = self._rows((obs - net.offset) / net.scale)
        found, features = advance(net, memory, x, last, keep)  # type: ignore[arg-type]
        values = self._batch(preferences(net, features, last))
        if row.avail_actions is not None:
            values = np.where(row.avail_actions, values, -np.inf)
        return Memory(*found), values.argmax(axis=-1).astype(np.int32)  # type: ignore[arg-type]

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
