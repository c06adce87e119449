"""The common checkpoint of a session: when it is due, what it holds, whose it is, and what is read back from it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from drigm.core.config import essential
from drigm.core.errors import UserError, check, shown, warn
from drigm.core.json_files import json_digest
from drigm.core.scales import scales_of, to_text
from drigm.runtime import interrupts
from drigm.storage.checkpoint import DamagedError, as_tree, load_arrays, previous, save_tree
from drigm.training.session import Session
from drigm.training.tick import RunState

FORMAT = "drigm-checkpoint-2"
FIRST_SECONDS = 1.0  # of training until the first checkpoint
CHECKPOINT_SECONDS = 10.0  # between two of them; a state that takes long is saved for a tenth of the time
SAVING_SHARE = 0.1
LONGEST_COUNT = 10  # digits; Python reads no number of thousands of them


class Snapshot(NamedTuple):
    """How far a session is: what a checkpoint holds."""

    state: Any  # as the program's chunks take and return it
    tick: int
    rows: list[str]  # the lines of metrics of each slot, as CSV


def save(session: Session, snapshot: Snapshot) -> None:
    """Write the checkpoint, and leave the one before beside it."""
    state = session.programs.settle(snapshot.state)
    finite = finite_slots(_numbers(state), len(session.slots))
    metadata = {
        "format": FORMAT,
        "config": _identity(session),
        "members": json.dumps(_names(session)),
        "seeds": ",".join(str(seed) for _, seed in session.slots),
        "drigm": version("drigm"),
        "tick": str(snapshot.tick),
        "not_finite": ",".join(str(k) for k, fine in enumerate(finite) if not fine),
        "rows": json.dumps(snapshot.rows),
    }
    with interrupts.finishing():
        save_tree(session.checkpoint_file, state, metadata, keep=True)


def _names(session: Session) -> list[str]:
    """Return where the members lie, as seen from the checkpoint."""
    return [os.path.relpath(member.directory.path, session.checkpoint_file.parent) for member in session.members]


def recorded_members(checkpoint_file: Path) -> list[str]:
    """Return where the runs lie that the checkpoint belongs to, as seen from it; [] if there is no whole one."""
    for file in (checkpoint_file, previous(checkpoint_file)):
        with contextlib.suppress(DamagedError, ValueError):
            found = json.loads(load_arrays(file)[1].get("members", ""))
            if isinstance(found, list):
                return found
    return []


def restore(session: Session, state: RunState) -> Snapshot:
    """Return how far the checkpoint is, and make the files of metrics hold its rows; ``state`` has its shapes.

    A damaged checkpoint is left out for the one before.

    Raises:
        UserError: it belongs to another configuration, or there is none that is whole.
    """
    newest = session.checkpoint_file
    there = [file for file in (newest, previous(newest)) if file.exists()]
    if not there:
        found = Snapshot(state, 0, ["" for _ in session.slots])
        _restore_metrics(session, found.rows)
        return found
    damage = "" if there[0] == newest else f"{newest}: is missing."
    for file in there:
        try:
            found = _read(session, file, state)
        except DamagedError as error:
            damage = damage or str(error)
            continue
        if damage:
            warn(f"{damage} The checkpoint before it is whole: going on from tick {found.tick}.")
        _restore_metrics(session, found.rows)
        return found
    raise UserError(f"{damage.rstrip('.')}; delete {' and '.join(map(str, there))} to train from the beginning.")


def _numbers(state: RunState) -> Any:
    """Return what must be finite unless a seed has diverged: all that learning and acting have computed."""
    return state.learner, state.rollout, state.ring, state.sums


def finite_slots(tree: Any, count: int) -> np.ndarray:
    """Return for each of the first ``count`` slots whether its numbers in ``tree`` [shards, slots, ...] are finite."""
    fine = np.ones(count, bool)
    for leaf in jax.tree.leaves(tree):
        x = np.asarray(leaf)
        if x.dtype.kind == "f" and x.size:  # slot by slot: a copy of all replay may not fit beside it
            fine = fine & [bool(np.isfinite(x[:, k]).all()) for k in range(count)]
    return fine


def _read(session: Session, file: Path, state: RunState) -> Snapshot:
    (arrays, metadata), slots = load_arrays(file), session.slots  # whole, or its metadata says nothing
    if metadata.get("format") != FORMAT:
        raise DamagedError(f"{file}: format: {metadata.get('format')!r} is not allowed; it must be {FORMAT}.")
    if metadata.get("config") != _identity(session):
        seeds = metadata.get("seeds", "")
        raise UserError(
            f"{file}: belongs to another configuration (of the seeds {seeds}); move it away, or restore config.json."
        )
    tick, ticks = _count(metadata.get("tick", "")), session.config.ticks
    if not 0 <= tick <= ticks:
        given = shown(metadata.get("tick", ""))
        raise DamagedError(f"{file}: tick: {given} is not allowed; it must be a whole number from 0 to {ticks}.")
    saved = as_tree(arrays, state, file)
    rows = _rows(file, metadata, len(slots))
    diverged = set(map(_count, metadata.get("not_finite", "").split(",")))
    for k, fine in enumerate(finite_slots(_numbers(saved), len(slots))):
        if not fine and k not in diverged:
            raise DamagedError(f"{file}: numbers of seed {slots[k][1]} are not finite.")
    for x, fresh in zip(jax.tree.leaves(saved.robustness), jax.tree.leaves(state.robustness), strict=True):
        if np.any(np.isfinite(np.asarray(fresh)) & ~np.isfinite(np.asarray(x))):  # a value without bounds is infinite
            raise DamagedError(f"{file}: the radius or the fail value is not finite.")
    if metadata.get("drigm") != version("drigm"):
        by = f"{file}: was written by drigm {metadata.get('drigm')}"
        warn(f"{by}; with {version('drigm')} the rest may come out differently.")
    return Snapshot(jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), saved, state), tick, rows)


def _count(text: str) -> int:
    """Return the whole number that ``text`` is, -1 if it is none of drigm's."""
    return int(text) if text.isdecimal() and len(text) <= LONGEST_COUNT else -1


def _rows(file: Path, metadata: dict[str, str], count: int) -> list[str]:
    try:
        rows = json.loads(metadata.get("rows", ""))
        check(len(rows) == count and all(isinstance(text, str) for text in rows), "rows", len(rows), f"{count} texts")
    except (ValueError, TypeError, RecursionError):
        raise DamagedError(f"{file}: has no rows of metrics.") from None
    return rows


def _restore_metrics(session: Session, rows: list[str]) -> None:
    for (member, seed), text in zip(session.slots, rows, strict=True):
        if member.directory.restore_metrics(seed, text):
            message = "rows were missing, doubled or changed; those of the checkpoint are there again"
            warn(f"{member.directory.metrics_file(seed)}: {message}.")


def _identity(session: Session) -> str:
    """Return a digest of everything that a checkpoint depends on."""
    scales = to_text(scales_of(session.env.spec))  # a lost or exchanged scales.json is another configuration
    return json_digest([[essential(member.config) for member in session.members], scales])


class Saver:
    """When a checkpoint is due: soon after the beginning, then every `CHECKPOINT_SECONDS`."""

    def __init__(self) -> None:
        self.saved_at, self.pause = time.monotonic(), min(FIRST_SECONDS, CHECKPOINT_SECONDS)

    def due(self) -> bool:
        """Return whether it is time."""
        return time.monotonic() - self.saved_at >= self.pause

    def save(self, session: Session, snapshot: Snapshot) -> None:
        """Write the checkpoint."""
        began = time.monotonic()
        save(session, snapshot)
        self.saved_at = time.monotonic()
        self.pause = max(CHECKPOINT_SECONDS, (self.saved_at - began) / SAVING_SHARE)
