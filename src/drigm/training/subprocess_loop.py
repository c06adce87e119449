"""make_subprocess_train: the same training where the environments live in other processes.

Acting and learning run beside each other. A tick takes in what the workers return and chooses the next actions
(`drigm.agents.subprocess_acting`); its rows gather in a block. When updates are due, a second thread stores the block
in the replay and learns from it while the workers step on; until it is due again, those agents act that had been learnt
by then. So they are one round older than in `drigm.training.programs`, and always the same ones, however fast
the processes are.

The state is that of `drigm.training.programs`, but for what acting carries, which is
`drigm.training.subprocess_resume`'s: a run that is resumed goes on in the same episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from drigm.agents.exploration import epsilon_at, explore_in_numpy
from drigm.agents.numpy_agents import NumpyAgents
from drigm.agents.recurrent import RecurrentAgents
from drigm.agents.subprocess_acting import Actor, Perturber
from drigm.algorithms import replay
from drigm.algorithms.learner import Learner, LearnerState, make_learner
from drigm.core.config import TrainConfig
from drigm.core.errors import UserError, check
from drigm.core.metrics import Metrics
from drigm.core.strengths import parse_strengths
from drigm.core.types import Array, PyTree, StoredStep
from drigm.envs import perturbations
from drigm.envs.api import Environment
from drigm.envs.persistent import in_subprocess_worlds, parse_ranges
from drigm.envs.subprocess.vector import SubprocessSteps, SubprocessVector
from drigm.runtime import devices
from drigm.runtime.sharding import over_shards, shard_mesh, sharding_of
from drigm.training import subprocess_resume
from drigm.training.programs import StoppedError, Train, compiled_start, initial_state
from drigm.training.tick import ChunkSums, RunState, learn, nothing_learnt, row_ticks

BLOCK = 64  # rows at most that wait for the learning thread
ACTING, SAMPLING = 0, 1  # what keys of a run are drawn for


def make_subprocess_train(config: TrainConfig, env: Environment) -> Train:
    """Return the programs of ``config`` in an environment of other processes; see `drigm.training.programs.make_train`.

    Raises:
        UserError: the baseline needs source worlds, which such environments do not have.
    """
    learner = make_learner(config, env.spec)
    baseline = learner.method.baseline
    check(not baseline.needs_sources, "baseline", baseline.name, "it needs source worlds")
    env, strengths = perturbations.split(env, parse_strengths(config.perturb))
    if config.worlds:
        env = in_subprocess_worlds(env, parse_ranges(config.worlds), config.world_count)
    envs = config.num_envs // config.shards
    init = initial_state(
        config, env, learner, lambda agents, key: subprocess_resume.begin(env.spec, strengths, agents, envs)
    )
    mesh = shard_mesh(config.shards)
    start, shapes = compiled_start(init, sharding_of(mesh))
    programs = Programs(config, env, learner, strengths, mesh)
    going: list[SubprocessRun] = []
    notes: list[str] = []

    def chunk(state: RunState | SubprocessRun, tick: Array, ticks: Array) -> tuple[SubprocessRun, ChunkSums]:
        if isinstance(state, RunState):
            state = SubprocessRun(programs, state, int(tick), notes.append)
            going.append(state)
        return state, state.advance(int(ticks))

    def settle(state: RunState | SubprocessRun) -> RunState:
        return state if isinstance(state, RunState) else state.settle()

    def close() -> None:
        while going:
            going.pop().close()

    def say() -> list[str]:
        said, notes[:] = list(notes), []
        return said

    return Train(start, chunk, shapes, close, settle, notes=say)


class Programs:
    """What is compiled for a run: the learning of all shards, leading axes [shards, runs].

    Learning has a device for each shard. Where runs take turns (`devices.runs_in_turn`) it is compiled for one of them
    and called for each; otherwise all are a `vmap`.
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
        self.perturber, self.strengths = Perturber(env.spec), {name: np.float32(x) for name, x in strengths.items()}
        self.rows = min(config.update_every, BLOCK)
        each = jax.vmap(self._learn, in_axes=(0, 0, None, None, None))
        shared = over_shards(each, mesh, (True, True, False, False, False))
        options = devices.compiler_options()
        self.learn = jax.jit(shared, donate_argnums=0, out_shardings=self.sharding, compiler_options=options)

    def turns(self, runs: int) -> list[slice]:
        """Return which of ``runs`` learn together, turn by turn."""
        return [slice(k, k + 1) for k in range(runs)] if devices.runs_in_turn() else [slice(0, runs)]

    def to_learn(self, tree: PyTree) -> PyTree:
        """Return ``tree`` [shards, ...] where learning runs."""
        return tree if self.sharding is None else jax.device_put(tree, self.sharding)

    def empty_block(self, state: RunState) -> StoredStep:
        """Return a block of rows [shards, runs, rows, B, ...] to fill."""

        def empty(ring: Array) -> np.ndarray:
            shards, runs, _, *row = ring.shape
            return np.zeros((shards, runs, self.rows, *row), ring.dtype)

        return jax.tree.map(empty, state.ring)

    def _learn(
        self, state: RunState, block: StoredStep, first: Array, rows: Array, due: Array
    ) -> tuple[RunState, RecurrentAgents, Metrics, Array]:
        """Store the first ``rows`` rows of ``block``, which begin with tick ``first``, and learn if it is ``due``.

        The agents are returned once more: those in the state are overwritten by the next call.
        """

        def store(row: Array, ring: StoredStep) -> StoredStep:
            return replay.insert(ring, jax.tree.map(lambda x: x[row], block), first + row)

        # Row by row, which is done in place: as one scatter of all rows it would copy the replay.
        state = state._replace(ring=jax.lax.fori_loop(0, rows, store, state.ring))
        tick = first + rows - 1
        key = jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(state.key), SAMPLING), tick)
        ring = jax.tree.map(lambda x: x[None], state.ring)

        def update() -> tuple[LearnerState, Metrics, Array]:
            return learn(self.learner, state.learner, ring, key[None], tick, state.robustness)

        learnt, metrics, updates = jax.lax.cond(due, update, lambda: (state.learner, *nothing_learnt()))
        return state._replace(learner=learnt), learnt.params.agents, metrics, updates


class Learnt(NamedTuple):
    """What the learning thread returns."""

    team: NumpyAgents
    metrics: Metrics
    updates: Array


class SubprocessRun:
    """A run under way: its workers, its learning thread, and what acting carries.

    ``states`` belong to the learning thread while ``pending`` is under way, those of each of the ``turns``; they are
    without what acting carries.
    """

    def __init__(self, programs: Programs, state: RunState, tick: int, note: Callable[[str], None]) -> None:
        self.programs, self.config, self.note = programs, programs.config, note
        self.tick, self.stored = tick, tick
        keys = np.array(state.key)  # [shards, K, 2]
        self.axes = (keys.shape[1], self.config.shards, self.config.num_envs // self.config.shards)
        self.slot_keys, self.run_keys = keys, keys[0]
        carry, acting = subprocess_resume.unpack(state.rollout)
        self.past, self.team = acting.past, NumpyAgents(acting.agents)
        acting_keys = jax.vmap(lambda key: jax.random.fold_in(jax.random.wrap_key_data(key), ACTING))(keys[0])
        self.actor = Actor(programs.env, programs.perturber, programs.strengths, acting_keys, carry, tick - 1)
        learning = state._replace(rollout=())  # type: ignore[arg-type]
        self.turns = programs.turns(keys.shape[1])
        alone = len(self.turns) == 1
        parts = [learning] if alone else [jax.tree.map(lambda x, t=t: x[:, t], learning) for t in self.turns]
        self.states: list[RunState] = list(map(programs.to_learn, parts))
        self.vector: SubprocessVector | None = None
        self.shown: SubprocessSteps | None = None
        self.block, self.spare = programs.empty_block(state), programs.empty_block(state)
        # A copy: the original will be overwritten.
        self.latest = team_of(jax.tree.map(jnp.copy, state.learner.params.agents))
        self.draws = -1, np.zeros(0)
        self.thread = ThreadPoolExecutor(1, "drigm-learner")
        self.pending: Future[Learnt] | None = None
        self.sums = jax.tree.map(np.array, state.sums)  # since the row of metrics began

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
            raise StoppedError(str(error), state, self.tick, jax.tree.map(np.copy, self.sums)) from None
        if self.tick == self.config.ticks or self.tick % row_ticks(self.config) == 0:
            self._await()  # a row's sums miss nothing
        return jax.tree.map(np.copy, self.sums)

    def settle(self) -> RunState:
        """Return the run's state, with every row stored and everything learnt that was due.

        A run that goes on is not changed by it: when it is settled depends on the time that it takes.
        """
        if self.tick > self.stored:
            self._hand_over(due=False)
        self._await()
        past = self.past
        if self.shown is not None:
            past = past._replace(checksum=subprocess_resume.checksums_of(self.shown, past.steps.shape))
        acting = subprocess_resume.Acting((), self.team.agents, past)
        rollout = subprocess_resume.pack(self.actor.carry, acting, self.config.shards)
        sums, state = self.programs.to_learn(jax.tree.map(np.copy, self.sums)), self.states[0]
        if len(self.turns) > 1:
            state = self.programs.to_learn(side_by_side(self.states))
        return state._replace(rollout=rollout, sums=sums)

    def close(self) -> None:
        """Stop the workers and the learning thread."""
        self.thread.shutdown()
        if self.vector is not None:
            self.vector.close()
        self.vector = None

    def _tick(self) -> None:
        """Take in what the workers return, decide, send them on, and hand the rows over if it is time."""
        if self.vector is None:
            self.vector = self._open()
        steps = self.vector.receive()
        episodes = jax.tree.map(np.add, self.sums.episodes, self.actor.arrive(steps))
        self.sums, self.shown = self.sums._replace(episodes=episodes), steps
        over, remembered = self.actor.over, self.actor.carry.memory
        row, orders = self.actor.decide(self.team, self._explore)
        if self.config.stored_state:
            row = row._replace(memory=self.team.memory_by_agent(remembered))
        self._keep(row)
        subprocess_resume.record(self.past, over, orders)
        try:
            self.vector.send(orders.reshape(self.vector.size, -1))
        finally:  # what has been decided is part of the state, whether or not a worker lives to hear it
            self._count()

    def _count(self) -> None:
        """Count the tick that has been decided, and hand the rows over if it is time."""
        on_time = self.tick % self.config.update_every == 0
        self.tick += 1
        if on_time:
            self._hand_over(due=self.tick >= self.config.first_update)
            self.team = self.latest  # not those that are learnt from now on
        elif self.tick - self.stored == self.programs.rows:
            self._hand_over(due=False)

    def _explore(self, action: np.ndarray, avail: np.ndarray | None) -> np.ndarray:
        config, epsilon = self.config, float(epsilon_at(self.config, self.tick, np))
        joint, count = config.joint_exploration, self.programs.env.spec.num_actions
        return explore_in_numpy(self._drawn(action.shape), action, avail, epsilon, count, joint=joint)

    def _drawn(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the numbers [2, K, E, N] that the present tick explores with: they follow from its number alone."""
        number, tick = divmod(self.tick, BLOCK)
        if self.draws[0] != number:
            generators = [np.random.default_rng([*key.tolist(), number]) for key in self.run_keys]
            self.draws = number, np.stack([g.random((BLOCK, 2, *shape[1:])) for g in generators], axis=2)
        return self.draws[1][tick]

    def _keep(self, row: StoredStep) -> None:
        """Write ``row`` [K, E, ...] into the block."""
        slot = self.tick - self.stored

        def write(block: np.ndarray, x: np.ndarray) -> None:
            x = np.swapaxes(x.reshape(*self.axes, *x.shape[2:]), 0, 1)
            assert x.shape == block[:, :, slot].shape  # it would be broadcast: one run's rows to all
            block[:, :, slot] = x

        jax.tree.map(write, self.block, row)

    def _hand_over(self, *, due: bool) -> None:
        """Let the learning thread store the block and learn if that is ``due``; `latest` is what it learnt before."""
        self._await()
        block, self.block, self.spare = self.block, self.spare, self.block
        self.pending = self.thread.submit(self._learn, block, self.stored, self.tick - self.stored, due)
        self.stored = self.tick

    def _learn(self, block: StoredStep, first: int, rows: int, due: bool) -> Learnt:
        programs = self.programs
        arguments = np.int32(first), np.int32(rows), np.bool_(due)
        agents, sums = list[RecurrentAgents](), list[tuple[Metrics, Array]]()
        for i, turn in enumerate(self.turns):
            mine = programs.to_learn(jax.tree.map(lambda x, turn=turn: x[:, turn], block))
            self.states[i], learnt, *more = programs.learn(self.states[i], mine, *arguments)
            agents.append(learnt)
            sums.append(tuple(more))
        return Learnt(team_of(*agents), *side_by_side(sums))

    def _await(self) -> None:
        """Wait for the learning thread."""
        if self.pending is not None:
            found = self.pending.result()
            self.latest = found.team
            before = self.sums.metrics, self.sums.updates
            metrics, updates = jax.tree.map(np.add, before, (found.metrics, found.updates))
            self.sums = self.sums._replace(metrics=metrics, updates=updates)
        self.pending = None

    def _open(self) -> SubprocessVector:
        """Start the environments, lead them to where they were, and send them the orders that were given last."""
        source, (runs, shards, envs) = self.programs.env.subprocess, self.axes
        assert source is not None
        again = [] if source.seeded else [self.tick]  # other battles than it began with
        slots = [
            [*self.slot_keys[s, k].tolist(), b, *again] for k in range(runs) for s in range(shards) for b in range(envs)
        ]
        vector = source.open([int(np.random.SeedSequence(slot).generate_state(1)[0] >> 1) for slot in slots])
        lost = subprocess_resume.remake(self.past, vector)
        if lost.any():
            self.actor.abandon(lost)
            message = "they do not repeat themselves from seed and actions, or are far longer than their time limit"
            self.note(f"{lost.sum()} of {lost.size} episodes could not be resumed, new ones begin: {message}")
        vector.send(subprocess_resume.last_orders(self.past).reshape(vector.size, -1))
        return vector


def team_of(*agents: RecurrentAgents) -> NumpyAgents:
    """Return agents [shards, runs, ...] of every turn, to act with: the first shard's, as all hold the same."""
    first = [jax.tree.map(lambda x: np.asarray(x.addressable_shards[0].data)[0], one) for one in agents]
    return NumpyAgents(jax.tree.map(lambda *x: np.concatenate(x), *first))


def side_by_side(turns: Sequence[Any]) -> Any:
    """Return trees [shards, runs, ...] of every turn as one of all runs."""
    return jax.tree.map(lambda *x: np.concatenate(x, axis=1), *turns)
