"""The training loop: compiled chunks, and between them the log, the progress display and the checkpoint.

Runs that differ in seeds and radius alone are one program.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents.exploration import epsilon_at
from drigm.agents.recurrent import RecurrentAgents
from drigm.algorithms.baselines import BASELINES
from drigm.algorithms.learner import LearnerState
from drigm.core.config import TrainConfig
from drigm.core.errors import UserError, check
from drigm.core.naming import method_name
from drigm.core.types import PyTree
from drigm.runtime import interrupts
from drigm.runtime.files import FileError, remove
from drigm.runtime.progress import Progress
from drigm.storage.checkpoint import drop
from drigm.storage.loggers import Slot, Write, open_logs
from drigm.storage.run_directory import Diverged, divergence, metrics_row, seeds_of
from drigm.training.checkpointing import Saver, Snapshot, finite_slots, restore
from drigm.training.programs import StoppedError
from drigm.training.session import Member, Reached, Session, StopTraining
from drigm.training.tick import ChunkSums, RunState, row_ticks

__all__ = ["Member", "Session", "Weights", "axes", "check_together", "train_session"]

CHUNK_SECONDS = 1.0  # of training between two looks at the clock and at signals
OWN_AXES = {"rho": 0.0, "seeds": 1, "first_seed": 0}  # what members of one session may differ in
TOO_LARGE = 1e19  # its square is infinite in float32


class Weights(NamedTuple):
    """What a finished seed keeps."""

    agents: RecurrentAgents
    mixer: PyTree
    dual: PyTree


class DivergedError(UserError):
    """The training of some seeds diverged; all others have finished, ``finished`` are the runs without such seeds."""

    finished: Sequence[Any] = ()


def axes(configs: Sequence[TrainConfig]) -> tuple[jax.Array, jax.Array]:
    """Return seeds [K] int32 and radii [K] float32 of all configs, one after the other."""
    seeds = np.concatenate([seeds_of(config) for config in configs])
    rho = np.concatenate([np.full(config.seeds, config.rho) for config in configs])
    return jnp.asarray(seeds, jnp.int32), jnp.asarray(rho, jnp.float32)


def shared(config: TrainConfig) -> TrainConfig:
    """Return the settings of ``config`` that every run of its program has: without its own of `OWN_AXES`."""
    return config.replace(**OWN_AXES)


def stopped(resume_hint: str) -> KeyboardInterrupt:
    """Return the interruption that tells how to continue."""
    return KeyboardInterrupt(f"stopped; continue with {resume_hint}")


def check_together(configs: Sequence[TrainConfig]) -> None:
    """Raise `UserError` unless one program can train all ``configs``."""
    for config in configs[1:]:
        given, first = (dataclasses.asdict(shared(c)) for c in (config, configs[0]))
        for name, value in given.items():
            same = f"{first[name]!r}, as in the first of the runs that train together"
            check(value == first[name], name, value, same)


def train_session(session: Session) -> None:
    """Train every member to its end, from the checkpoint if there is one.

    Raises:
        DivergedError: training diverged for some seeds; the others have finished.
        UserError: an environment failed, or a file cannot be written; what was learnt is kept.
        KeyboardInterrupt: with a message that says how to continue.
    """
    with interrupts.advice(f"continue with {session.resume_hint}"):
        try:
            for member in session.members:
                member.directory.clean()
                remove(member.directory.checksums_file)  # the files are about to change
            snapshot = restore(session, _start(session))
            try:
                # No name here may keep the state: where it was placed elsewhere, memory would hold replay twice.
                snapshot = snapshot._replace(state=session.programs.place(snapshot.state))
                snapshot = _train(session, snapshot)
            finally:
                session.programs.close()
            _finish(session, snapshot)
        except FileError as error:
            kept = f"what was saved before is kept: {session.resume_hint}"
            raise UserError(f"{str(error).rstrip('.')}; {kept}.") from None
        except KeyboardInterrupt as stop:
            raise stop if str(stop) else stopped(session.resume_hint) from None
    refuse_diverged(session.members)


def refuse_diverged(members: Sequence[Member]) -> None:
    """Raise `DivergedError` if the training of a seed of ``members`` has diverged."""
    found, seeds = {}, sum(member.config.seeds for member in members)
    for member in members:
        where = f" of {member.directory.path.name}" if len(members) > 1 else ""
        found |= {f"{seed}{where}": one for seed, one in member.directory.diverged().items()}
    if found:
        others = f"the other {seeds - len(found)} have finished" if len(found) < seeds else ""
        raise DivergedError(divergence(found, others))


def _start(session: Session) -> RunState:
    """Return the state before the first tick; where a baseline fits something first, say so."""
    config, both = session.config, axes([member.config for member in session.members])
    if BASELINES[config.baseline].reward_models is None:
        return session.programs.init(*both)
    runs = len(session.slots)
    with Progress(f"{config.baseline}: fitting reward estimators", runs, quiet=session.quiet, unit="seeds") as progress:
        state = jax.block_until_ready(session.programs.init(*both))
        progress.update(runs)
    return state


class Chunking:
    """How many ticks to run before looking up: what takes `CHUNK_SECONDS`, and never across the end of a row.

    Nothing depends on it but how soon a signal is obeyed.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.size = config, 1

    def ticks(self, tick: int) -> int:
        """Return the length of the chunk that begins with ``tick``."""
        row, learning = row_ticks(self.config), self.config.first_update - 1
        if tick == learning:  # from here on a tick takes much longer
            self.size = 1
        end = min(self.config.ticks, (tick // row + 1) * row, learning if tick < learning else self.config.ticks)
        return max(1, min(self.size, end - tick))

    def note(self, ticks: int, seconds: float) -> None:
        """Take in how long a chunk has taken."""
        fitting = int(min(ticks * CHUNK_SECONDS / max(seconds, 1e-9), 2 * ticks))
        self.size = max(1, fitting if seconds > CHUNK_SECONDS else max(self.size, fitting))


class _Training:
    """A session under way: chunk by chunk it advances, row by row it is logged, and in between it is saved."""

    def __init__(self, session: Session, snapshot: Snapshot, progress: Progress, write: Write) -> None:
        self.session, self.config, self.progress, self.write = session, session.config, progress, write
        self.state, self.tick, self.rows = snapshot
        self.diverged = _known_diverged(session, self.tick)
        _record(session, self.diverged)  # what came later in another attempt comes again
        self.chunking = Chunking(self.config)
        self.row_ticks, self.row_seconds = 0, 0.0  # of the row of metrics under way, in this process
        self.failure, self.is_stopped = "", False
        self.latest: dict[int, dict[str, float]] = {}

    @property
    def snapshot(self) -> Snapshot:
        """Everything that a checkpoint holds."""
        return Snapshot(self.state, self.tick, self.rows)

    @property
    def is_over(self) -> bool:
        """Whether no tick is left, no seed to train, or the callback has ended it."""
        return self.is_stopped or self.tick >= self.config.ticks or len(self.diverged) == len(self.session.slots)

    def advance(self) -> ChunkSums:
        """Run one chunk, or as much of it as the environments allow, and return the sums since the row began."""
        ticks, began, first = self.chunking.ticks(self.tick), time.monotonic(), self.tick
        try:
            chunk = self.session.programs.chunk(self.state, jnp.int32(first), jnp.int32(ticks))
            self.state, sums = jax.block_until_ready(chunk)
            self.tick += ticks
        except StoppedError as stop:
            self.state, sums, self.tick, self.failure = stop.state, stop.sums, stop.tick, str(stop)
        seconds = time.monotonic() - began
        self.chunking.note(ticks, seconds)
        self.row_ticks, self.row_seconds = self.row_ticks + self.tick - first, self.row_seconds + seconds
        return sums

    def report(self, sums: ChunkSums) -> None:
        """Show how far training is, and log the row of metrics where one has ended."""
        step, shown = _step(self.config, self.tick), {}
        for note in self.session.programs.notes():
            self.progress.note(note)
        ended = self.tick % row_ticks(self.config) == 0 or self.tick == self.config.ticks
        if ended and self.row_ticks:
            steps = self.row_ticks * self.config.num_envs  # of each seed, as the progress shows
            found = _metric_rows(self.session, sums, self.tick, steps / self.row_seconds)
            self.row_ticks, self.row_seconds = 0, 0.0
            self.write([None if k in self.diverged else row for k, row in enumerate(found)])
            self.rows = [
                lines if k in self.diverged else lines + metrics_row(found[k]) for k, lines in enumerate(self.rows)
            ]
            shown = _shown(found)
            self.note_divergence(sums)
            seeds = enumerate(self.session.slots)
            self.latest = {seed: found[k] for k, (_, seed) in seeds if k not in self.diverged}
        self.progress.update(step, **shown)

    def consult(self, saver: Saver) -> None:
        """Tell the callback about a new row; what it raises besides `StopTraining` is raised once all is saved."""
        if self.session.callback is None or not self.latest:
            return
        reached, self.latest = Reached(_step(self.config, self.tick), self.config.steps, self.latest), {}
        try:
            self.is_stopped = self.session.callback(reached) is False
        except StopTraining:
            self.is_stopped = True
        except Exception:
            saver.save(self.session, self.snapshot)
            raise

    def save_if_due(self, saver: Saver, request: interrupts.Request) -> None:
        """Save when it is time, when the user wants to stop and when an environment failed; raise for these two."""
        if self.failure or request.signum is not None or saver.due():
            saver.save(self.session, self.snapshot)
        if self.failure:
            raise UserError(f"{self.failure} What was learnt is kept: {self.session.resume_hint}")
        if request.signum is not None:
            raise stopped(self.session.resume_hint)

    def note_divergence(self, sums: ChunkSums) -> None:
        """Add the slots whose loss is not finite, 0 where nothing was learnt in the row, and write them down."""
        loss = np.asarray(sums.metrics.loss)[0, : len(self.rows)]
        new = [k for k in range(len(self.rows)) if k not in self.diverged and not np.isfinite(loss[k])]
        if new:
            ring, step = self.session.programs.settle(self.state).ring, _step(self.config, self.tick)
            for k in new:
                self.diverged[k] = Diverged(step, _blamed(self.session, jax.tree.map(lambda x, k=k: x[:, k], ring)))
            _record(self.session, self.diverged)


def _train(session: Session, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot after the last tick."""
    config, start = session.config, snapshot.tick
    slots = [Slot(member.directory, member.config, seed, start * config.num_envs) for member, seed in session.slots]
    with (
        Progress(label_of(session), config.steps, quiet=session.quiet, start=_step(config, start)) as progress,
        open_logs(session.log, slots, progress.note) as write,
    ):
        training = _Training(session, snapshot, progress, write)
        for note in (*session.notes, *(session.env.notes if start == 0 else ()), "compiling"):
            progress.note(note)
        if not training.is_over:
            sums = training.advance()  # compiles, which a signal may break off
            saver = Saver()
            with interrupts.deferred() as request:
                training.report(sums)
                training.consult(saver)
                while training.failure or not training.is_over:
                    training.save_if_due(saver, request)
                    training.report(training.advance())
                    training.consult(saver)
    return training.snapshot._replace(state=session.programs.settle(training.state))


def _step(config: TrainConfig, tick: int) -> int:
    return min(tick * config.num_envs, config.steps)


def label_of(session: Session) -> str:
    """Return ``QMIX-TV 0.2 x5``, or the first of several methods and how many more there are."""
    names = list(dict.fromkeys(method_name(member.config) for member in session.members))
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more} x{len(session.slots)}"


def _metric_rows(session: Session, sums: ChunkSums, tick: int, rate: float) -> list[dict[str, float]]:
    """One row of metrics per slot; the sums have leading axes [shards, K or more] and are equal on every shard."""
    config, env = session.config, session.env
    sums = jax.tree.map(lambda x: np.asarray(x)[0], sums)
    epsilon = float(epsilon_at(config, tick, np))
    rows = []
    for k in range(len(session.slots)):
        count, updates = float(sums.episodes.episodes[k]), float(sums.updates[k])
        mean = float(sums.episodes.returns[k]) / count if count else math.nan
        means = {
            name: float(value[k]) / updates if updates else math.nan for name, value in sums.metrics._asdict().items()
        }
        wins = float(sums.episodes.wins[k]) / count if count and env.spec.has_wins else math.nan
        score = wins if env.spec.has_wins else float(env.score(jnp.float32(mean)))
        row = {
            "step": min(tick * config.num_envs, config.steps),
            "return": mean,
            "score": score,
            "win_rate": wins,
            "episodes": count,
            **means,
            "epsilon": epsilon,
            "steps_per_s": rate,
        }
        rows.append(row)
    return rows


def _shown(rows: list[dict[str, float]]) -> dict[str, float]:
    """The means over seeds that the progress display shows."""
    shown = {}
    for name in ("return", "score", "loss", "epsilon"):
        values = [row[name] for row in rows if math.isfinite(row[name])]
        if values:
            shown[name] = sum(values) / len(values)
    return shown


def _known_diverged(session: Session, tick: int) -> dict[int, Diverged]:
    """Return by slot what had diverged by ``tick``; what comes later in the records will be found again."""
    found = {}
    for k, (member, seed) in enumerate(session.slots):
        one = member.directory.diverged().get(seed)
        if one is not None and one.step <= _step(session.config, tick):
            found[k] = one
    return found


def _record(session: Session, diverged: dict[int, Diverged]) -> None:
    for member in session.members:
        mine = {seed: diverged[k] for k, (of, seed) in enumerate(session.slots) if of is member and k in diverged}
        member.directory.record_diverged(mine)


def _blamed(session: Session, ring: Any) -> str:
    """Return what is to blame for a divergence, as a clause: the environment, where it returned what no net can learn.

    ``ring`` is the replay of one slot, [shards, rows, B, ...].
    """
    config, spec = session.config, session.env.spec
    for name, agents in (("reward", None), ("obs", spec.agents), ("state", None)):
        x = np.asarray(getattr(ring, name))
        bad = np.argwhere(~(np.abs(x) <= TOO_LARGE))
        if len(bad):
            at = tuple(bad[0])
            what = f"an observation of agent {agents[at[3]]!r}" if agents else f"a {name}"
            message = f"env: {config.env!r} is not allowed; it returned {x[at]:g} as {what}"
            return f"{message}, and the loss of {{seeds}} is not finite by step {{steps}}"
    message = f"learning_rate: {config.learning_rate!r} is not allowed"
    return f"{message}; the loss of {{seeds}} became infinite by step {{steps}}; give a smaller one"


def weights_of(learner: LearnerState) -> Weights:
    """Return what is kept of a learner."""
    return Weights(learner.average.agents, learner.average.mixer, learner.dual.network)


def _finish(session: Session, snapshot: Snapshot) -> None:
    """Write the weights of every slot (all shards hold the same), then drop the checkpoint they replace."""
    weights = jax.tree.map(lambda x: np.asarray(x), weights_of(snapshot.state.learner))
    diverged = _known_diverged(session, snapshot.tick)
    fine = finite_slots(weights, len(session.slots))
    for k in np.flatnonzero(~fine):
        if int(k) not in diverged:
            ring = jax.tree.map(lambda x, k=k: x[:, k], snapshot.state.ring)
            diverged[int(k)] = Diverged(_step(session.config, snapshot.tick), _blamed(session, ring))
    step = _step(session.config, snapshot.tick)
    with interrupts.finishing():
        _record(session, diverged)
        for member in session.members:
            member.directory.record_stop(step if step < session.config.steps and len(diverged) < len(fine) else None)
        for k, (member, seed) in enumerate(session.slots):
            if k in diverged:
                remove(member.directory.weights_file(seed))
            else:
                member.directory.save_weights(seed, jax.tree.map(lambda x, k=k: x[0, k], weights))
        for member in session.members:
            member.directory.finish(member.config)
        drop(session.checkpoint_file)
