"""The networks of `drigm.agents.recurrent` in NumPy, one time-step at a time, as pure functions of arrays.

An exported agent takes them along (`drigm.deployment.runtime_file`), so they need NumPy alone. Arrays have any leading
axes: one agent has none, the agents of several runs [K, G] (`drigm.agents.numpy_agents`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NO_ACTION = -1  # the previous action at the first step of an episode, as in `drigm.core.types`
CENTRE_GAIN = 5.0  # as in `drigm.agents.heads`, which needs JAX
CHANGE_SCALE = 5.0  # as in `drigm.agents.recurrent`


class Memory(NamedTuple):
    """What an agent carries from step to step: LSTM state, and what it saw and did before where it sees changes."""

    hidden: np.ndarray  # [..., B, H]
    cell: np.ndarray  # [..., B, H]
    previous: np.ndarray | None = None  # [..., B, C]
    traces: np.ndarray | None = None  # [..., B, K] leaky sums


class Network(NamedTuple):
    """The weights of one agent, or of several on leading axes; B rows share them, I are the inputs of a step."""

    offset: np.ndarray  # [..., 1, O] networks see (reading - offset) / scale
    scale: np.ndarray  # [..., 1, O]
    encoder: np.ndarray | None  # [..., I, H]; None: the LSTM reads the inputs themselves
    read: np.ndarray  # [..., H or I, 4 H] gates i, f, g, o; those of sigmoids are halved, one tanh serves all four
    recurrent: np.ndarray  # [..., H, 4 H], likewise
    bias: np.ndarray  # [..., 1, 4 H], likewise
    embedding: np.ndarray  # [..., A + 1, H or 4 H] of the previous action, with the bias; ordered: [..., 1, H or 4 H]
    head: np.ndarray  # [..., F, A], or [..., F, 2 + 2 K] over ordered levels
    head_bias: np.ndarray  # [..., 1, A or 2 + 2 K]
    levels: np.ndarray | None  # [..., A]; None where actions have no order
    identity: np.ndarray | None = None  # [..., B or 1, N] which agent it is, where weights are shared
    kept: tuple[int, ...] | None = None  # readings seen as they are, where changes of all are seen
    velocity: bool = False  # the best level is counted from the last one
    traces: tuple[float, ...] = ()  # what leaky sums of what is seen as it is keep from step to step


def cleared(net: Network, rows: tuple[int, ...]) -> Memory:
    """Return the memory of ``rows`` (leading axes, B) before the first step."""
    zeros = np.zeros((*rows, net.recurrent.shape[-2]), np.float32)
    seen = np.zeros((*rows, net.offset.shape[-1] + (net.levels is not None) + 1), np.float32)
    if net.kept is None:
        return Memory(zeros, zeros)
    traces = np.zeros((*rows, len(net.traces) * len(net.kept)), np.float32) if net.traces else None
    return Memory(zeros, zeros, seen, traces)


def level_of(net: Network, last: np.ndarray) -> np.ndarray:
    """Return the levels of the last actions [..., B], 0 before the first and where actions have no order."""
    if net.levels is None:
        return np.zeros(last.shape, np.float32)
    levels = np.broadcast_to(net.levels, (*last.shape[:-1], net.levels.shape[-1]))
    return np.where(last != NO_ACTION, np.take_along_axis(levels, np.maximum(last, 0), axis=-1), np.float32(0.0))


def advance(
    net: Network, memory: Memory, x: np.ndarray, last: np.ndarray, keep: np.ndarray
) -> tuple[Memory, np.ndarray]:
    """Return the memories after a step and the head's features [..., B, F].

    Args:
        net: the weights.
        memory: of the step before.
        x: standardised readings [..., B, O].
        last: the previous actions [..., B].
        keep: [..., B, 1] float32, 0 where an episode begins: its memory is cleared.
    """
    parts, previous = [x], memory.previous
    level = None if net.levels is None else level_of(net, last)[..., None]
    if previous is not None and net.kept is not None:
        x = x if level is None else np.concatenate([x, level], axis=-1)
        change = CHANGE_SCALE * (x - previous[..., :-1]) * previous[..., -1:] * keep
        previous = np.concatenate([x, np.ones((*x.shape[:-1], 1), np.float32)], axis=-1)
        parts = [x[..., list(net.kept)], change]
    traces = memory.traces
    if traces is not None:
        decay = np.repeat(np.array(net.traces, np.float32), parts[0].shape[-1])
        now = np.concatenate([parts[0]] * len(net.traces), axis=-1)
        traces = decay * traces * keep + (1 - decay) * now
        parts.append(traces)
    if level is not None and not net.velocity:
        parts += [level, (last != NO_ACTION).astype(np.float32)[..., None]]
    if net.identity is not None:
        parts.append(np.broadcast_to(net.identity, (*x.shape[:-1], net.identity.shape[-1])))
    inputs = np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
    known = net.embedding
    if net.levels is None:
        known = np.take_along_axis(known, last[..., None] + 1, axis=-2)
    if net.encoder is None:
        gates = inputs @ net.read + known
    else:
        gates = np.maximum(inputs @ net.encoder + known, 0.0) @ net.read + net.bias
    gates = np.tanh(gates + (memory.hidden * keep) @ net.recurrent)
    width = memory.hidden.shape[-1]
    i, f, g, o = (gates[..., k * width : (k + 1) * width] for k in range(4))
    cell = (0.5 * f + 0.5) * (memory.cell * keep) + (0.5 * i + 0.5) * g
    hidden = (0.5 * o + 0.5) * np.tanh(cell)
    return Memory(hidden, cell, previous, traces), np.concatenate([hidden, inputs], axis=-1)


def centre(net: Network, features: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Return the level [..., B, 1] around which the Q of ordered actions is symmetric, its best."""
    aim, bias = net.head[..., 1:2], net.head_bias[..., 1:2]
    if not net.velocity:
        return CENTRE_GAIN * (features @ aim + bias)
    known = net.recurrent.shape[-2]
    gain = np.exp(0.5 * np.tanh(features[..., :known] @ aim[..., :known, :] + bias))
    return CENTRE_GAIN * (gain * (features[..., known:] @ aim[..., known:, :])) + level_of(net, last)[..., None]


def preferences(net: Network, features: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Return what orders the actions [..., B, A] as their Q does: Q itself, or how near a level is to the best."""
    if net.levels is None:
        return features @ net.head + net.head_bias
    return -np.abs(net.levels[..., None, :] - centre(net, features, last))


def q_values(net: Network, features: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Return Q of every action [..., B, A]."""
    if net.levels is None:
        return features @ net.head + net.head_bias
    out = features @ net.head + net.head_bias
    squared = np.square(net.levels[..., None, :] - centre(net, features, last))
    steep, width = np.split(np.logaddexp(out[..., 2:], np.float32(0.0)), 2, axis=-1)
    total = np.zeros_like(squared)
    for k in range(steep.shape[-1]):
        e = width[..., k, None] + np.float32(0.01)
        total = total + steep[..., k, None] * (np.sqrt(squared + e * e) - e)
    return out[..., :1] - total
