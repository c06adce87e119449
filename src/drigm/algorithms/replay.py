"""Sequence replay: a ring of time-steps per environment, sampled as windows of T + 1 time-steps.

A row (`drigm.core.types.StoredStep`) is a time-step together with the action that led to it. A window's T transitions
are the pairs of neighbouring rows; the pair (last row of an episode, first row of the next) is not a transition and
is masked out by `drigm.algorithms.windows.valid_transitions`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from drigm.core.types import Array, StoredStep, map_tree


class Place(NamedTuple):
    """Which rows of a ring are a run's: several runs may share one, see `drigm.training.programs`."""

    base: Array | int  # the first
    capacity: int


def whole(ring: StoredStep) -> Place:
    """Return the place of a run that has ``ring`` to itself."""
    return Place(0, ring.reward.shape[0])


def make_replay(example: StoredStep, capacity: int) -> StoredStep:
    """Return an empty ring of ``capacity`` rows shaped like ``example`` [B, ...]."""
    return map_tree(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), example)


def insert(ring: StoredStep, row: StoredStep, tick: Array, place: Place | None = None) -> StoredStep:
    """Write ``row`` where tick number ``tick`` belongs (in ``place``, None: anywhere), overwriting the oldest."""
    base, capacity = place or whole(ring)
    slot = base + tick % capacity
    update = jax.lax.dynamic_update_index_in_dim
    return map_tree(lambda buffer, x: update(buffer, x, slot, 0), ring, row)  # pyright: ignore[reportUnknownLambdaType] (jitted: no types)


def sample(
    ring: StoredStep, key: Array, written: Array, batch: int, transitions: int, place: Place | None = None
) -> StoredStep:
    """Return ``batch`` windows [T + 1, batch, ...] of neighbouring rows, uniformly over starts and environments.

    Args:
        ring: [C, B, ...].
        key: random key.
        written: rows written so far, at least ``transitions + 1``; windows never cross the write head.
        batch: windows.
        transitions: T.
        place: where the run's rows are; None: all are.
    """
    (base, capacity), envs = place or whole(ring), ring.reward.shape[1]
    key_start, key_env = jax.random.split(key)
    filled = jnp.minimum(written, capacity)
    oldest = jnp.where(written > capacity, written % capacity, 0)
    start = jax.random.randint(key_start, (batch,), 0, filled - transitions)
    env = jax.random.randint(key_env, (batch,), 0, envs)
    offsets = jnp.arange(transitions + 1, dtype=jnp.int32)
    index = base + (oldest + start[None, :] + offsets[:, None]) % capacity
    env = jnp.broadcast_to(env[None, :], index.shape)
    return map_tree(lambda buffer: buffer[index, env], ring)
