"""Where runs and their shards live: which devices share a program's work, and how.

A run's environments, replay and windows are split into shards whose gradients are averaged, whatever the machine. Fewer
runs than shards: each device takes one shard of every run, and the devices meet at every gradient. As many or more:
each device takes runs of its own, all their shards side by side, and the devices never meet. Which of the two it is
depends on the configuration alone (given a device per shard), so that the number of cores moves a result by no more
than a compiler's choices do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from drigm.core.types import Array, PyTree

SHARD_AXIS, RUN_AXIS = "shard", "run"

# ``advance(state, tick, ticks, runs) -> (state, sums)`` on one device: leaves [local shards, local runs, ...], of which
# the first ``runs`` are real.
Advance = Callable[..., tuple[Any, Any]]


class Layout(NamedTuple):
    """Where a program with so many runs computes; see `layout_of`.

    Attributes:
        mesh: devices that share the work, None if it is one.
        by_shards: each device has one shard of every run, not all shards of its own runs.
        runs: real runs.
        places: runs that the devices have room for, a multiple of their number.
    """

    mesh: Mesh | None
    by_shards: bool
    runs: int
    places: int

    @property
    def full(self) -> bool:
        """Whether every place has a run of its own."""
        return self.places == self.runs

    @property
    def sharding(self) -> NamedSharding | None:
        """How a state [shards, places, ...] is spread over devices."""
        return None if self.mesh is None else NamedSharding(self.mesh, self._split)

    @property
    def _split(self) -> PartitionSpec:
        return PartitionSpec(SHARD_AXIS) if self.by_shards else PartitionSpec(None, RUN_AXIS)

    def fill(self, state: PyTree) -> PyTree:
        """Return a state [shards, runs, ...] on the devices, copies of the last run in the places that are left.

        Raises:
            ValueError: it is not one of as many runs as the layout is for.
        """
        given, missing = jax.tree.leaves(state)[0].shape[1], self.places - self.runs
        if given != self.runs:
            raise ValueError(f"a program of {self.runs} runs was given {given}")

        def placed(x: Any) -> Any:
            if missing:
                x = np.concatenate([x, np.repeat(x[:, -1:], missing, axis=1)], axis=1)
            return x if self.sharding is None else jax.device_put(x, self.sharding)

        return jax.tree.map(placed, state)  # one leaf after the other: memory may not hold replay three times

    def shapes(self, state: PyTree) -> PyTree:
        """Return the shapes of what `fill` returns for a state of these shapes [shards, runs, ...]."""

        def filled(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((x.shape[0], self.places, *x.shape[2:]), x.dtype, sharding=self.sharding)

        return jax.tree.map(filled, state)

    def strip(self, tree: PyTree) -> PyTree:
        """Return what the real runs have of a tree [shards, places, ...]."""
        return tree if self.full else jax.tree.map(self._gathered, tree)

    def _gathered(self, x: jax.Array) -> np.ndarray:
        """Return the real runs of ``x`` [shards, places, ...]; `np.asarray` would keep all places beside it."""
        found = np.empty((x.shape[0], self.runs, *x.shape[2:]), x.dtype)
        for part in x.addressable_shards:
            begin = part.index[1].start or 0
            count = min(part.data.shape[1], self.runs - begin)
            found[:, begin : begin + count] = np.asarray(part.data)[:, :count]
        return found

    def spread(self, advance: Advance) -> Callable[[Any, Array, Array], tuple[Any, Any]]:
        """Return ``f(state, tick, ticks)`` that advances a filled state, on all devices."""
        if self.mesh is None:
            return lambda *arguments: _alone(advance, *arguments, self.runs)
        each = self.places // self.mesh.size

        def local(*arguments):
            if self.by_shards:
                return advance(*arguments, self.runs)
            left = self.runs - jax.lax.axis_index(RUN_AXIS) * each
            return _alone(advance, *arguments, each if self.full else jnp.clip(left, 0, each))

        one = PartitionSpec()
        return jax.shard_map(
            local, mesh=self.mesh, in_specs=(self._split, one, one), out_specs=self._split, check_vma=False
        )


def layout_of(shards: int, runs: int) -> Layout:
    """Return where ``runs`` runs of ``shards`` shards each compute on this process's devices."""
    devices = jax.local_devices()
    if runs < shards <= len(devices):
        return Layout(shard_mesh(shards), True, runs, runs)
    each = -(-runs // len(devices))
    used = -(-runs // each)
    mesh = Mesh(np.array(devices[:used]), (RUN_AXIS,)) if used > 1 else None
    return Layout(mesh, False, runs, used * each)


def _alone(advance: Advance, *arguments: Any) -> tuple[Any, Any]:
    """Return what ``advance`` does where no other device has shards of the same runs: it averages over itself."""
    return jax.vmap(lambda: advance(*arguments), axis_name=SHARD_AXIS, axis_size=1, out_axes=None)()


def shard_mesh(shards: int) -> Mesh | None:
    """Return a mesh with one device per shard, or None where there are too few devices."""
    if shards > jax.local_device_count():
        return None
    return Mesh(np.array(jax.local_devices()[:shards]), (SHARD_AXIS,))


def sharding_of(mesh: Mesh | None) -> NamedSharding | None:
    """Return how a state's leading axis is spread over ``mesh``."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec(SHARD_AXIS))


def over_shards(function, mesh: Mesh | None, split: tuple[bool, ...]):
    """Map ``function`` over the leading shard axis of the arguments that are ``split``; every result has that axis.

    Over the devices of ``mesh``, or as a `vmap` without one.
    """
    if mesh is None:
        return jax.vmap(function, in_axes=tuple(0 if s else None for s in split), axis_name=SHARD_AXIS)

    def local(*arguments):
        mine = [jax.tree.map(lambda x: x[0], a) if s else a for a, s in zip(arguments, split, strict=True)]
        return jax.tree.map(lambda x: x[None], function(*mine))

    shares = tuple(PartitionSpec(SHARD_AXIS) if s else PartitionSpec() for s in split)
    return jax.shard_map(local, mesh=mesh, in_specs=shares, out_specs=PartitionSpec(SHARD_AXIS), check_vma=False)
