"""make_host_train: the same training where the environments live in other processes.

Acting and learning run beside each other. A tick takes in what the workers return and chooses the next actions
(`drigm.host_acting`); its rows gather in a block. When updates are due, a second thread stores the block in the replay
and learns from it while the workers step on; until it is due again, those agents act that had been learnt by then. So
they are one round older than in `drigm.loop`, and always the same ones, however fast the processes are.

The state is that of `drigm.loop`, but for what acting carries: no checkpoint can hold the environments themselves, and
a resumed run begins new episodes.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from drigm import rollout
from drigm.config import TrainConfig
from drigm.envs import perturbations
from drigm.envs.api import Environment
from drigm.envs.host_vector import HostVector
from drigm.errors import UserError, check
from drigm.host_acting import Actor, HostTeam, Liar, blank, explore
from drigm.layout import over_shards, shard_mesh, sharding_of
from drigm.learner import Learner, LearnerState, Metrics, make_learner
from drigm.loop import (
    ChunkSums,
    RunState,
    StoppedError,
    Train,
    compiled_start,
    epsilon_at,
    first_update,
    initial_state,
    learn,
    nothing_learnt,
    row_ticks,
    training_strengths,
)
from drigm.networks import RecurrentAgents
from drigm.replay import Row
from drigm.rollout import EpisodeStats
from drigm.types import Array

BLOCK = 64  # rows at most that wait for the learning thread
ACTING, SAMPLING = 0, 1  # what keys of a run are drawn for


def make_host_train(config: TrainConfig, env: Environment) -> Train:
    """Return the programs of ``config`` in an environment with a ``host``; see `drigm.loop.make_train`.

    Raises:
        UserError: the baseline needs source worlds, which such environments do not have.
    """
    learner = make_learner(config, env.spec)
    baseline = learner.method.baseline
    check(not baseline.needs_sources, "baseline", baseline.name, "it needs source worlds")
    strengths = training_strengths(config.perturb)
    for perturbation, strength in strengths.items():
        perturbations.check_strength(env, perturbation, strength)
    dummy = blank(env.spec, config.num_envs // config.shards)
    init = initial_state(config, env, learner, lambda agents, key: rollout.begin(agents, (), dummy))
    mesh = shard_mesh(config.shards)
    start, shapes = compiled_start(init, sharding_of(mesh))
    programs = Programs(config, env, learner, strengths, mesh)
    going: list[HostRun] = []

    def chunk(state: RunState | HostRun, tick: Array, ticks: Array) -> tuple[HostRun, ChunkSums]:
        if isinstance(state, RunState):
            state = HostRun(programs, state, int(tick))
            going.append(state)
        return state, state.advance(int(ticks))

    def settle(state: RunState | HostRun) -> RunState:
        return state if isinstance(state, RunState) else state.settle()

    def close() -> None:
        while going:
            going.pop().close()

    return Train(start, chunk, shapes, close, settle)


class Programs:
    """What is compiled for a run: the learning of all shards and runs, leading axes [shards, runs].

    Learning has a device for each shard, all runs of it as a `vmap`.
    """

    def __init__(
        self,
        config: TrainConfig,
        env: Environment,
        learner: Learner,
        strengths: dict[str, float],
        mesh: Mesh | None,
    ) -> None:
        self.config, self.env, self.learner, self.sharding = config, env, learner, sharding_of(mesh)
        self.liar, self.strengths = Liar(env.spec), {name: np.float32(x) for name, x in strengths.items()}
        self.rows = min(config.update_every, BLOCK)
        each = jax.vmap(self._learn, in_axes=(0, 0, None, None, None))
        shared = over_shards(each, mesh, (True, True, False, False, False))
        self.learn = jax.jit(shared, donate_argnums=0, out_shardings=self.sharding)

    def to_learn(self, block: Row) -> Row:
        """Return ``block`` where learning runs."""
        return block if self.sharding is None else jax.device_put(block, self.sharding)

    def empty_block(self, state: RunState) -> Row:
        """Return a block of rows [shards, runs, rows, B, ...] to fill."""

        def empty(ring: Array) -> np.ndarray:
            shards, runs, _, *row = ring.shape
            return np.zeros((shards, runs, self.rows, *row), ring.dtype)

        return jax.tree.map(empty, state.ring)

    def _learn(
        self, state: RunState, block: Row, first: Array, rows: Array, due: Array
    ) -> tuple[RunState, RecurrentAgents, Metrics, Array]:
        """Store the first ``rows`` rows of ``block``, which begin with tick ``first``, and learn if it is ``due``.

        The agents are returned once more: those in the state are overwritten by the next call.
        """
        slots = jnp.arange(self.rows, dtype=jnp.int32)
        capacity = state.ring.reward.shape[0]
        place = jnp.where(slots < rows, (first + slots) % capacity, capacity)  # beyond the ring: dropped
        state = state._replace(ring=jax.tree.map(lambda x, new: x.at[place].set(new, mode="drop"), state.ring, block))
        tick = first + rows - 1
        key = jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(state.key), SAMPLING), tick)
        ring = jax.tree.map(lambda x: x[None], state.ring)

        def update() -> tuple[LearnerState, Metrics, Array]:
            return learn(self.learner, state.learner, ring, key[None], tick, state.robustness)

        learnt, metrics, updates = jax.lax.cond(due, update, lambda: (state.learner, *nothing_learnt()))
        return state._replace(learner=learnt), learnt.params.agents, metrics, updates


class Learnt(NamedTuple):
    """What the learning thread returns."""

    team: HostTeam
    metrics: Metrics
    updates: Array


class HostRun:
    """A run under way: its workers, its learning thread, and what acting carries.

    ``state`` belongs to the learning thread while ``pending`` is under way.
    """

    def __init__(self, programs: Programs, state: RunState, tick: int) -> None:
        self.programs, self.config = programs, programs.config
        self.state, self.tick, self.stored = state, tick, tick
        self.axes = (self.config.seeds, self.config.shards, self.config.num_envs // self.config.shards)
        self.vector: HostVector | None = None
        self.actor: Actor | None = None
        self.block, self.spare = programs.empty_block(state), programs.empty_block(state)
        # Copies: the originals will be overwritten.
        self.team = self.latest = team_of(jax.tree.map(jnp.copy, state.learner.params.agents))
        keys = np.asarray(state.key)[0]  # the first shard's, one for each run
        self.keys = jax.vmap(lambda key: jax.random.fold_in(jax.random.wrap_key_data(key), ACTING))(keys)
        self.generators = [np.random.default_rng([*key.tolist(), tick]) for key in keys]
        self.thread = ThreadPoolExecutor(1, "drigm-learner")
        self.pending: Future[Learnt] | None = None
        self.learnt: list[tuple[Metrics, Array]] = []
        self.episodes: list[EpisodeStats] = []  # [K] each
        self.sums = jax.tree.map(np.asarray, state.sums)  # of the row, until the lists were taken in

    def advance(self, ticks: int) -> ChunkSums:
        """Advance ``ticks`` ticks; raises `StoppedError` if an environment fails.

        Returns:
            Sums over the episodes that ended and the updates that were begun since the row of metrics began.
        """
        if self.tick % row_ticks(self.config) == 0:
            self.sums = jax.tree.map(np.zeros_like, self.sums)
        try:
            for _ in range(ticks):
                self._tick()
        except UserError as error:
            state = self.settle()
            self.close()
            raise StoppedError(str(error), state, self.tick) from None
        if self.tick == self.config.ticks or self.tick % row_ticks(self.config) == 0:
            self._await()  # a row's sums miss nothing
        return self._sums()

    def settle(self) -> RunState:
        """Return the run's state, with every row stored and everything learnt that was due.

        A run that goes on is not changed by it: when it is settled depends on the time that it takes.
        """
        if self.tick > self.stored:
            self._hand_over(due=False)
        self._await()
        sums = self._sums()
        return self.state._replace(
            sums=sums if self.programs.sharding is None else jax.device_put(sums, self.programs.sharding)
        )

    def close(self) -> None:
        """Stop the workers and the learning thread."""
        self.thread.shutdown()
        if self.vector is not None:
            self.vector.close()
        self.vector = None

    def _tick(self) -> None:
        """Take in what the workers return, decide, send them on, and hand the rows over if it is time."""
        if self.actor is None or self.vector is None:
            self.vector = self._open()
            self.actor = self._begin(self.vector)
        else:
            self.episodes.append(self.actor.arrive(self.vector.receive()))
        row, orders = self.actor.decide(self.team, self._explore)
        self.vector.send(orders.reshape(self.vector.size, -1))
        self._keep(row)
        on_time = self.tick % self.config.update_every == 0
        self.tick += 1
        if on_time:
            self._hand_over(due=self.tick >= first_update(self.config))
            self.team = self.latest  # not those that are learnt from now on
        elif self.tick - self.stored == self.programs.rows:
            self._hand_over(due=False)

    def _explore(self, action: np.ndarray, avail: np.ndarray | None) -> np.ndarray:
        config, epsilon = self.config, float(epsilon_at(self.config, self.tick, np))
        joint, count = config.joint_exploration, self.programs.env.spec.num_actions
        return explore(self.generators, action, avail, epsilon, count, joint=joint)

    def _keep(self, row: Row) -> None:
        """Write ``row`` [K, E, ...] into the block."""
        slot = self.tick - self.stored

        def write(block: np.ndarray, x: np.ndarray) -> None:
            block[:, :, slot] = np.swapaxes(x.reshape(*self.axes, *x.shape[2:]), 0, 1)

        jax.tree.map(write, self.block, row)

    def _hand_over(self, *, due: bool) -> None:
        """Let the learning thread store the block and learn if that is ``due``; `latest` is what it learnt before."""
        self._await()
        block, self.block, self.spare = self.block, self.spare, self.block
        self.pending = self.thread.submit(self._learn, block, self.stored, self.tick - self.stored, due)
        self.stored = self.tick

    def _learn(self, block: Row, first: int, rows: int, due: bool) -> Learnt:
        programs = self.programs
        arguments = np.int32(first), np.int32(rows), np.bool_(due)
        self.state, agents, metrics, updates = programs.learn(self.state, programs.to_learn(block), *arguments)
        return Learnt(team_of(agents), *jax.block_until_ready((metrics, updates)))

    def _await(self) -> None:
        """Wait for the learning thread."""
        if self.pending is not None:
            found = self.pending.result()
            self.latest = found.team
            self.learnt.append((found.metrics, found.updates))
        self.pending = None

    def _sums(self) -> ChunkSums:
        """Return the sums [shards, runs] since the row began, equal on every shard."""
        episodes = jax.tree.map(lambda *x: sum(x[1:], x[0]), self.sums.episodes, *self.episodes)
        done = self.sums.metrics, self.sums.updates
        metrics, updates = jax.tree.map(lambda *x: np.sum([np.asarray(a) for a in x], axis=0), done, *self.learnt)
        self.learnt, self.episodes, self.sums = [], [], ChunkSums(episodes, metrics, updates)
        return self.sums

    def _begin(self, vector: HostVector) -> Actor:
        programs = self.programs
        return Actor(programs.env, programs.liar, programs.strengths, self.keys, self.team, vector.reset(), self.tick)

    def _open(self) -> HostVector:
        """Start the environments; a run that is resumed draws other episodes than it began with."""
        (seeds, shards, envs), first = self.axes, self.config.first_seed
        slots = [(first + k, shard, b, self.tick) for k in range(seeds) for shard in range(shards) for b in range(envs)]
        host = self.programs.env.host
        assert host is not None
        return host.open([int(np.random.SeedSequence(slot).generate_state(1)[0] >> 1) for slot in slots])


def team_of(agents: RecurrentAgents) -> HostTeam:
    """Return the agents [shards, runs, ...] to act with: the first shard's, as all hold the same."""
    return HostTeam(jax.tree.map(lambda x: np.asarray(x.addressable_shards[0].data)[0], agents))
