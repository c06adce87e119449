"""make_host_train: the same training where the environments live in other processes.

Acting and learning run beside each other. A tick is one small program, `advance`: it takes in what the workers return
and chooses the next actions. Its rows gather in a block. When updates are due, a second thread stores the block in the
replay and learns from it while the workers step on; until it is due again, those agents act that had been learnt by
then. So they are one round older than in `drigm.loop`, and always the same ones, however fast the processes are.

The state is that of `drigm.loop`, but for the environments themselves, which no checkpoint can hold: a resumed run
begins new episodes.
"""

from __future__ import annotations

import functools
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from drigm import replay, rollout
from drigm.config import TrainConfig
from drigm.envs import perturbations
from drigm.envs.api import Environment
from drigm.envs.host_vector import HostSteps, HostVector
from drigm.errors import UserError, check
from drigm.layout import over_shards, shard_mesh, sharding_of
from drigm.learner import Learner, LearnerState, Metrics, make_learner
from drigm.loop import (
    ChunkSums,
    Decision,
    RunState,
    StoppedError,
    Train,
    compiled_start,
    decide,
    first_update,
    initial_state,
    learn,
    nothing_learnt,
    training_strengths,
)
from drigm.networks import RecurrentAgents
from drigm.replay import Row
from drigm.rollout import EpisodeStats, RolloutState
from drigm.types import Array, EnvSpec, PyTree, TimeStep

BLOCK = 64  # rows at most that wait for the learning thread
ACTING, SAMPLING = 0, 1  # what keys of a run are drawn for


class Lies(NamedTuple):
    """The perturbations of one environment: their memories, and what can really be done now."""

    memory: dict[str, PyTree]
    avail: Array  # [N, A]


def make_host_train(config: TrainConfig, env: Environment) -> Train:
    """Return the programs of ``config`` in an environment with a ``host``; see `drigm.loop.make_train`.

    Raises:
        UserError: the baseline needs source worlds, which such environments do not have.
    """
    learner = make_learner(config, env.spec)
    baseline = learner.method.baseline
    check(not baseline.needs_sources, "baseline", baseline.name, "it needs source worlds")
    strengths = training_strengths(config.perturb)
    for name, strength in strengths.items():
        perturbations.check_strength(env, name, strength)
    envs = config.num_envs // config.shards
    liar = Liar(env.spec, {name: jnp.float32(strength) for name, strength in strengths.items()})
    dummy = blank(env.spec, envs)
    init = initial_state(config, env, learner, lambda agents, key: liar.begin(agents, key, dummy))
    mesh = shard_mesh(config.shards)
    start, shapes = compiled_start(init, sharding_of(mesh))
    programs = Programs(config, env, learner, liar, mesh)
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


class Liar(NamedTuple):
    """Perturbations of B environments side by side, as `drigm.envs.perturbations.wrap` has them for one in JAX."""

    spec: EnvSpec
    strengths: dict[str, Array]

    def begin(self, agents: RecurrentAgents, key: Array, steps: TimeStep) -> RolloutState:
        """Return the carry at the first time-steps [B] of episodes."""
        lies, shown = self._first(jax.random.split(key, steps.reward.shape[0]), steps)
        return rollout.begin(agents, lies, shown)

    def act(self, key: Array, lies: Lies, action: Array) -> tuple[Lies, Array]:
        """Return the joint actions [B, N] that really happen."""
        keys = jax.random.split(key, action.shape[0])
        one = functools.partial(perturbations.act, self.spec)
        memory, orders = jax.vmap(one, in_axes=(0, None, 0, 0, 0))(
            keys, self.strengths, lies.memory, action, lies.avail
        )
        return lies._replace(memory=memory), orders

    def show(self, key: Array, lies: Lies, steps: TimeStep, last: Array) -> tuple[Lies, TimeStep]:
        """Return the time-steps [B] as the agents see them; where ``last`` [B] they are first ones."""
        keys = jax.random.split(key, last.shape[0])
        fresh = self._first(keys, steps)
        one = functools.partial(perturbations.show, self.spec, first=False)
        memory, shown = jax.vmap(one, in_axes=(0, None, 0, 0))(keys, self.strengths, lies.memory, steps)

        def choose(new: Array, old: Array) -> Array:
            return jnp.where(last.reshape(last.shape + (1,) * (new.ndim - 1)), new, old)

        return jax.tree.map(choose, fresh, (Lies(memory, steps.avail_actions), shown))

    def _first(self, keys: Array, steps: TimeStep) -> tuple[Lies, TimeStep]:
        def one(key: Array, step: TimeStep) -> tuple[Lies, TimeStep]:
            memory = perturbations.begin(self.spec, key, self.strengths)
            memory, shown = perturbations.show(self.spec, key, self.strengths, memory, step, first=True)
            return Lies(memory, step.avail_actions), shown

        return jax.vmap(one)(keys, steps)


def blank(spec: EnvSpec, envs: int) -> TimeStep:
    """Return time-steps [B] of zeros."""
    n = spec.num_agents
    return TimeStep(
        obs=jnp.zeros((envs, n, spec.obs_size), jnp.float32),
        state=jnp.zeros((envs, spec.state_size), jnp.float32),
        avail_actions=jnp.ones((envs, n, spec.num_actions), bool),
        reward=jnp.zeros(envs, jnp.float32),
        terminated=jnp.zeros(envs, bool),
        truncated=jnp.zeros(envs, bool),
        alive=jnp.ones((envs, n), bool),
        won=jnp.zeros(envs, bool) if spec.has_wins else None,
    )


def time_steps(spec: EnvSpec, steps: HostSteps, axes: tuple[int, ...]) -> TimeStep:
    """Return stacked time-steps from workers with the leading ``axes`` in place of [B]."""
    fields = {name: x.reshape(*axes, *x.shape[1:]) for name, x in steps._asdict().items()}
    return TimeStep(**fields if spec.has_wins else {**fields, "won": None})


class Actor(NamedTuple):
    """What acting carries from tick to tick, one shard of one seed."""

    rollout: RolloutState
    decision: Decision  # whose outcome the workers are computing
    key: Array
    episodes: EpisodeStats  # that have ended since they were last read


class Programs:
    """The compiled programs of a run; arrays have leading axes [shards, runs].

    Acting runs on one device, its shards as a `vmap`: it is too small to be worth two. Learning has a device for each
    shard, all runs of it as a `vmap`.
    """

    def __init__(self, config: TrainConfig, env: Environment, learner: Learner, liar: Liar, mesh: Mesh | None) -> None:
        self.config, self.env, self.learner, self.liar = config, env, learner, liar
        self.sharding, self.device = sharding_of(mesh), jax.local_devices()[0]
        self.rows = min(config.update_every, BLOCK)

        def acting(one, **options):
            """``one(agents, actor or key, block, steps, tick, slot)``: every shard has the same agents."""
            runs = jax.vmap(one, in_axes=(0, 0, 0, 0, None, None))
            shards = jax.vmap(runs, in_axes=(None, 0, 0, 0, None, None))
            return jax.jit(lambda agents, *rest: shards(jax.tree.map(lambda x: x[0], agents), *rest), **options)

        # What runs once need not be optimised.
        once = {"xla_backend_optimization_level": 0}
        self.begin = acting(self._begin, donate_argnums=2, compiler_options=once)
        self.advance = acting(self._advance, donate_argnums=(1, 2))
        each = jax.vmap(self._learn, in_axes=(0, 0, None, None, None))
        shared = over_shards(each, mesh, (True, True, False, False, False))
        self.learn = jax.jit(shared, donate_argnums=0, out_shardings=self.sharding)

    def to_act(self, agents: RecurrentAgents) -> RecurrentAgents:
        """Return the agents [1 or shards, runs, ...] where acting runs: the first shard's, as all hold the same."""
        return jax.device_put(jax.tree.map(lambda x: x.addressable_shards[0].data, agents), self.device)

    def to_learn(self, block: Row) -> Row:
        """Return ``block`` where learning runs."""
        return block if self.sharding is None else jax.device_put(block, self.sharding)

    def empty_block(self, state: RunState) -> Row:
        """Return a block of rows for `advance` to fill."""

        def empty(ring: Array) -> np.ndarray:
            shards, runs, _, *row = ring.shape
            return np.zeros((shards, runs, self.rows, *row), ring.dtype)

        return jax.device_put(jax.tree.map(empty, state.ring), self.device)

    def _begin(
        self, agents: RecurrentAgents, key: Array, block: Row, steps: TimeStep, tick: Array, slot: Array
    ) -> tuple[Actor, Row, Array]:
        """Decide at the first time-steps of episodes; returns the orders [B, N] too."""
        started = jax.random.fold_in(jax.random.fold_in(jax.random.wrap_key_data(key), ACTING), tick)
        k_begin, k_act = jax.random.split(started)
        carry = self.liar.begin(agents, k_begin, steps)
        nothing = jnp.zeros((), jnp.float32)
        return self._think(
            agents, carry, block, jax.random.key_data(k_act), EpisodeStats(nothing, nothing, nothing), tick, slot
        )

    def _advance(
        self, agents: RecurrentAgents, actor: Actor, block: Row, steps: TimeStep, tick: Array, slot: Array
    ) -> tuple[Actor, Row, Array]:
        """Take in what the last decision led to, and decide again."""
        carry, decision = actor.rollout, actor.decision
        last = carry.timestep.terminated | carry.timestep.truncated
        lies, shown = self.liar.show(decision.env_key, carry.env_state, steps, last)
        carry, stats = rollout.arrive(carry, lies, shown, decision.action, decision.memory)
        episodes = jax.tree.map(jnp.add, actor.episodes, stats)
        return self._think(agents, carry, block, actor.key, episodes, tick, slot)

    def _think(
        self,
        agents: RecurrentAgents,
        carry: RolloutState,
        block: Row,
        key: Array,
        episodes: EpisodeStats,
        tick: Array,
        slot: Array,
    ) -> tuple[Actor, Row, Array]:
        key, row, decision = decide(self.learner, self.env, agents, carry, key, tick)
        lies, orders = self.liar.act(decision.env_key, carry.env_state, decision.action)
        carry = carry._replace(env_state=lies)
        return Actor(carry, decision, key, episodes), replay.insert(block, row, slot), orders

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

    agents: RecurrentAgents
    metrics: Metrics
    updates: Array


class HostRun:
    """A run under way: its workers, its learning thread, and what acting carries.

    ``state`` belongs to the learning thread while ``pending`` is under way.
    """

    def __init__(self, programs: Programs, state: RunState, tick: int) -> None:
        self.programs, self.config = programs, programs.config
        self.state, self.tick, self.stored = state, tick, tick
        self.axes = (self.config.shards, self.config.seeds, self.config.num_envs // self.config.shards)
        self.vector: HostVector | None = None
        self.actor: Actor | None = None
        self.block, self.spare = programs.empty_block(state), programs.empty_block(state)
        copies = jax.tree.map(jnp.copy, state.learner.params.agents)  # the originals will be overwritten
        self.agents = self.latest = programs.to_act(copies)
        self.thread = ThreadPoolExecutor(1, "drigm-learner")
        self.pending: Future[Learnt] | None = None
        self.learnt: list[tuple[Metrics, Array]] = []

    def advance(self, ticks: int) -> ChunkSums:
        """Advance ``ticks`` ticks; raises `StoppedError` if an environment fails.

        Returns:
            Sums over the episodes that ended and the updates that finished meanwhile.
        """
        try:
            for _ in range(ticks):
                self._tick()
        except UserError as error:
            state = self.settle()
            self.close()
            raise StoppedError(str(error), state, self.tick) from None
        if self.tick == self.config.ticks:
            self._await()  # the last chunk's sums miss nothing
        return self._sums()

    def settle(self) -> RunState:
        """Return the run's state, with every row stored and everything learnt that was due.

        A run that goes on is not changed by it: when it is settled depends on the time that it takes.
        """
        if self.tick > self.stored:
            self._hand_over(due=False)
        self._await()
        return self.state if self.actor is None else self.state._replace(rollout=self.actor.rollout)

    def close(self) -> None:
        """Stop the workers and the learning thread."""
        self.thread.shutdown()
        if self.vector is not None:
            self.vector.close()
        self.vector = None

    def _tick(self) -> None:
        """Take in what the workers return, decide, send them on, and hand the rows over if it is time."""
        programs, spec = self.programs, self.programs.env.spec
        slot, tick = np.int32(self.tick - self.stored), np.int32(self.tick)
        if self.actor is None:
            self.vector = self._open()
            steps = time_steps(spec, self.vector.reset(), self.axes)
            key = jax.device_put(np.asarray(self.state.key), programs.device)
            found = programs.begin(self.agents, key, self.block, steps, tick, slot)
        else:
            assert self.vector is not None
            steps = time_steps(spec, self.vector.receive(), self.axes)
            found = programs.advance(self.agents, self.actor, self.block, steps, tick, slot)
        self.actor, self.block, orders = found
        self.vector.send(np.asarray(orders).reshape(self.vector.size, -1))
        on_time = self.tick % self.config.update_every == 0
        self.tick += 1
        if on_time:
            self._hand_over(due=self.tick >= first_update(self.config))
            self.agents = self.latest  # not those that are learnt from now on
        elif self.tick - self.stored == programs.rows:
            self._hand_over(due=False)

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
        return Learnt(*jax.block_until_ready((programs.to_act(agents), metrics, updates)))

    def _await(self) -> None:
        """Wait for the learning thread."""
        if self.pending is not None:
            found = self.pending.result()
            self.latest = found.agents
            self.learnt.append((found.metrics, found.updates))
        self.pending = None

    def _sums(self) -> ChunkSums:
        """Return the sums since they were last asked for, equal on every shard."""
        assert self.actor is not None
        episodes = jax.tree.map(lambda x: np.broadcast_to(np.asarray(x).sum(axis=0), x.shape), self.actor.episodes)
        zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), self.actor.episodes)
        self.actor = self.actor._replace(episodes=jax.device_put(zeros, self.programs.device))
        nothing = jax.tree.map(lambda x: np.zeros(self.axes[:2], np.float32), nothing_learnt())
        metrics, updates = jax.tree.map(lambda *x: np.sum([np.asarray(a) for a in x], axis=0), nothing, *self.learnt)
        self.learnt = []
        return ChunkSums(episodes, metrics, updates)

    def _open(self) -> HostVector:
        """Start the environments; a run that is resumed draws other episodes than it began with."""
        (shards, seeds, envs), first = self.axes, self.config.first_seed
        slots = [(first + k, shard, b, self.tick) for shard in range(shards) for k in range(seeds) for b in range(envs)]
        host = self.programs.env.host
        assert host is not None
        return host.open([int(np.random.SeedSequence(slot).generate_state(1)[0] >> 1) for slot in slots])
