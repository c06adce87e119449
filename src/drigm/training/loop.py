"""The host loop: compiled pieces, and between them the log, the progress display and the checkpoint.

Runs that differ in seeds and radius alone are one program.
"""

from __future__ import annotations

import contextlib
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
from drigm.storage.loggers import Slot, open_logs
from drigm.storage.run_directory import Diverged, divergence, metrics_row, seeds_of
from drigm.training.programs import ChunkSums, RunState, StoppedError, first_update, row_ticks
from drigm.training.session import Member, Session, Standing, finite_slots, restore, save

__all__ = ["Member", "Session", "Weights", "axes", "check_together", "train_session"]

PIECE_SECONDS = 1.0  # of training between two looks at the clock and at signals
FIRST_SECONDS = 1.0  # of training until the first checkpoint
CHECKPOINT_SECONDS = 10.0  # between two of them; a state that takes long is saved for a tenth of the time
SAVING_SHARE = 0.1
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


def stopped(again: str) -> KeyboardInterrupt:
    """Return the interruption that tells how to continue."""
    return KeyboardInterrupt(f"stopped; continue with {again}")


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
    with interrupts.advice(f"continue with {session.again}"):
        try:
            for member in session.members:
                member.directory.clean()
                remove(member.directory.checksums_file)  # the files are about to change
            standing = restore(session, _start(session))
            try:
                placed = session.programs.place(standing.state)  # the name must not keep what a chunk is given
                standing = _train(session, Standing(placed, standing.tick, standing.rows))
            finally:
                session.programs.close()
            _finish(session, standing)
        except FileError as error:
            kept = f"what was saved before is kept: {session.again}"
            raise UserError(f"{str(error).rstrip('.')}; {kept}.") from None
        except KeyboardInterrupt as stop:
            raise stop if str(stop) else stopped(session.again) from None
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
    with Progress(f"{config.baseline}: fitting reward estimators", runs, quiet=session.quiet) as progress:
        state = jax.block_until_ready(session.programs.init(*both))
        progress.update(runs)
    return state


class Pace:
    """How many ticks to run before looking up: what takes `PIECE_SECONDS`, and never across the end of a row.

    Nothing depends on it but how soon a signal is obeyed.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.size = config, 1

    def ticks(self, tick: int) -> int:
        """Return the length of the piece that begins with ``tick``."""
        row, learning = row_ticks(self.config), first_update(self.config) - 1
        if tick == learning:  # from here on a tick takes much longer
            self.size = 1
        end = min(self.config.ticks, (tick // row + 1) * row, learning if tick < learning else self.config.ticks)
        return max(1, min(self.size, end - tick))

    def note(self, ticks: int, seconds: float) -> None:
        """Take in how long a piece has taken."""
        fitting = int(min(ticks * PIECE_SECONDS / max(seconds, 1e-9), 2 * ticks))
        self.size = max(1, fitting if seconds > PIECE_SECONDS else max(self.size, fitting))


class Saver:
    """When a checkpoint is due: soon after the beginning, then every `CHECKPOINT_SECONDS`."""

    def __init__(self) -> None:
        self.saved_at, self.pause = time.monotonic(), min(FIRST_SECONDS, CHECKPOINT_SECONDS)

    def due(self) -> bool:
        """Return whether it is time."""
        return time.monotonic() - self.saved_at >= self.pause

    def save(self, session: Session, standing: Standing) -> None:
        """Write the checkpoint."""
        began = time.monotonic()
        save(session, standing)
        self.saved_at = time.monotonic()
        self.pause = max(CHECKPOINT_SECONDS, (self.saved_at - began) / SAVING_SHARE)


def _train(session: Session, standing: Standing) -> Standing:
    """Return where the session stands after the last tick; row by row it is logged, and in between it is saved."""
    config, (state, tick, texts) = session.config, standing
    diverged = _known_diverged(session, tick)
    _record(session, diverged)  # what came later in another attempt comes again
    pace, saver, row, ran = Pace(config), None, row_ticks(config), [0, 0.0]
    slots = [Slot(member.directory, member.config, seed, tick * config.num_envs) for member, seed in session.slots]
    with (
        Progress(label_of(session), config.steps, quiet=session.quiet, start=_step(config, tick)) as progress,
        open_logs(session.log, slots, progress.note) as write,
        contextlib.ExitStack() as stack,
    ):
        if tick == 0:
            for note in (*session.env.notes, "compiling"):
                progress.note(note)
        stop = interrupts.Request()
        while tick < config.ticks and len(diverged) < len(slots):
            ticks, began = pace.ticks(tick), time.monotonic()
            state, sums = _advance(session, Standing(state, tick, texts), ticks)
            tick, seconds = tick + ticks, time.monotonic() - began
            pace.note(ticks, seconds)
            for note in session.programs.notes():
                progress.note(note)
            ran = [ran[0] + ticks, ran[1] + seconds]
            if saver is None:  # what comes before is compiling, which a signal may break off
                saver, stop = Saver(), stack.enter_context(interrupts.deferred())
            if tick % row == 0 or tick == config.ticks:
                rows = _metric_rows(session, sums, tick, ran[0] * config.num_envs * len(slots) / ran[1])
                ran = [0, 0.0]
                write([None if k in diverged else found for k, found in enumerate(rows)])
                texts = [text if k in diverged else text + metrics_row(rows[k]) for k, text in enumerate(texts)]
                progress.update(_step(config, tick), **_shown(rows))
                _note_divergence(session, diverged, state, sums, tick)
            else:
                progress.update(_step(config, tick))
            if tick < config.ticks and (stop.signum is not None or saver.due()):
                saver.save(session, Standing(state, tick, texts))
            if tick < config.ticks and stop.signum is not None:
                raise stopped(session.again)
    return Standing(session.programs.settle(state), tick, texts)


def _step(config: TrainConfig, tick: int) -> int:
    return min(tick * config.num_envs, config.steps)


def _advance(session: Session, standing: Standing, ticks: int) -> tuple[Any, ChunkSums]:
    """Run one piece; what stops it is told with how to continue."""
    state, tick, texts = standing
    try:
        return jax.block_until_ready(session.programs.chunk(state, jnp.int32(tick), jnp.int32(ticks)))
    except StoppedError as stop:
        save(session, Standing(stop.state, stop.tick, texts))
        raise UserError(f"{stop} What was learnt is kept: {session.again}") from None


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


def _note_divergence(session: Session, diverged: dict[int, Diverged], state: Any, sums: ChunkSums, tick: int) -> None:
    """Add the slots whose loss is not finite, 0 where nothing was learnt in the row, and write them down."""
    slots, step = session.slots, _step(session.config, tick)
    loss = np.asarray(sums.metrics.loss)[0, : len(slots)]
    new = [k for k in range(len(slots)) if k not in diverged and not np.isfinite(loss[k])]
    if new:
        ring = session.programs.settle(state).ring
        diverged |= {k: Diverged(step, _blamed(session, jax.tree.map(lambda x, k=k: x[:, k], ring))) for k in new}
        _record(session, diverged)


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
            told = f"env: {config.env!r} is not allowed; it returned {x[at]:g} as {what}"
            return f"{told}, and the loss of {{seeds}} is not finite by step {{steps}}"
    told = f"learning_rate: {config.learning_rate!r} is not allowed"
    return f"{told}; the loss of {{seeds}} became infinite by step {{steps}}; give a smaller one"


def weights_of(learner: LearnerState) -> Weights:
    """Return what is kept of a learner."""
    return Weights(learner.average.agents, learner.average.mixer, learner.dual.network)


def _finish(session: Session, standing: Standing) -> None:
    """Write the weights of every slot (all shards hold the same), then drop the checkpoint they replace."""
    weights = jax.tree.map(lambda x: np.asarray(x), weights_of(standing.state.learner))
    diverged = _known_diverged(session, standing.tick)
    fine = finite_slots(weights, len(session.slots))
    for k in np.flatnonzero(~fine):
        if int(k) not in diverged:
            ring = jax.tree.map(lambda x, k=k: x[:, k], standing.state.ring)
            diverged[int(k)] = Diverged(_step(session.config, standing.tick), _blamed(session, ring))
    with interrupts.finishing():
        _record(session, diverged)
        for k, (member, seed) in enumerate(session.slots):
            if k in diverged:
                remove(member.directory.weights_file(seed))
            else:
                member.directory.save_weights(seed, jax.tree.map(lambda x, k=k: x[0, k], weights))
        for member in session.members:
            member.directory.finish(member.config)
        drop(session.checkpoint_file)
