"""make_host_train: the same training where the environments live in other processes.

A tick is three small programs with the environments between them: `think` stores the time-steps and chooses actions,
`learn` updates while the workers step, `see` takes in what they return. The state is that of `drigm.loop`, but for the
environments themselves, which no checkpoint can hold: a resumed run begins new episodes.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from drigm import rollout
from drigm.config import TrainConfig
from drigm.envs import perturbations
from drigm.envs.api import Environment
from drigm.envs.host_vector import HostSteps, HostVector
from drigm.errors import UserError, check
from drigm.learner import Learner, Metrics, make_learner
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
    over_shards,
    shard_mesh,
    sharding_of,
    training_strengths,
)
from drigm.networks import RecurrentAgents
from drigm.robust_targets import SHARD_AXIS
from drigm.rollout import EpisodeStats, RolloutState
from drigm.types import Array, EnvSpec, PyTree, TimeStep


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
    start, shapes = compiled_start(init, mesh)
    host = _Host(config, env, learner, liar, mesh)
    return Train(start, host.chunk, shapes, host.close)


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


class _Host:
    """Runs chunks of ticks. The workers start with the first chunk and stay until `close`."""

    def __init__(self, config: TrainConfig, env: Environment, learner: Learner, liar: Liar, mesh: Mesh | None) -> None:
        self.config, self.env, self.learner, self.liar = config, env, learner, liar
        self.vector: HostVector | None = None
        sharding = sharding_of(mesh)

        def compiled(one, split: tuple[bool, ...], runs: tuple[int | None, ...]):
            mapped = over_shards(jax.vmap(one, in_axes=runs), mesh, split)
            return jax.jit(mapped, donate_argnums=0, out_shardings=sharding)

        self.first_look = compiled(self._first_look, (True, True), (0, 0))
        self.think = compiled(self._think, (True, False), (0, None))
        self.learn = compiled(self._learn, (True, True, False), (0, 0, None))
        self.see = compiled(self._see, (True, True, True), (0, 0, 0))

    def chunk(self, state: RunState, tick: Array, ticks: Array) -> tuple[RunState, ChunkSums]:
        """Advance ``ticks`` ticks from number ``tick``; raises `StoppedError` if an environment fails."""
        config, now, end = self.config, int(tick), int(tick) + int(ticks)
        axes = (config.shards, config.seeds, config.num_envs // config.shards)
        episodes: list[EpisodeStats] = []
        learnt: list[tuple[Metrics, Array]] = []
        try:
            if self.vector is None:
                self.vector = self._open(axes, now)
                state = self.first_look(state, time_steps(self.env.spec, self.vector.reset(), axes))
            while now < end:
                state, decision, orders = self.think(state, jnp.int32(now))
                self.vector.send(np.asarray(orders).reshape(self.vector.size, -1))
                now += 1  # from here on the tick's row is stored: a run that stops goes on with the next one
                if now >= first_update(config) and (now - 1) % config.update_every == 0:
                    state, *sums = self.learn(state, decision, jnp.int32(now - 1))
                    learnt.append((sums[0], sums[1]))
                steps = time_steps(self.env.spec, self.vector.receive(), axes)
                state, stats = self.see(state, decision, steps)
                episodes.append(stats)
        except UserError as error:
            self.close()
            raise StoppedError(str(error), state, now) from None
        total, updates = (
            _sum(learnt) if learnt else jax.tree.map(lambda x: np.broadcast_to(x, axes[:2]), nothing_learnt())
        )
        return state, ChunkSums(_sum(episodes), total, updates)

    def close(self) -> None:
        """Stop the workers."""
        if self.vector is not None:
            self.vector.close()
        self.vector = None

    def _open(self, axes: tuple[int, ...], tick: int) -> HostVector:
        """Start the environments; a run that is resumed at ``tick`` draws other episodes than it began with."""
        shards, seeds, envs = axes
        first = self.config.first_seed
        slots = [(first + k, shard, b, tick) for shard in range(shards) for k in range(seeds) for b in range(envs)]
        assert self.env.host is not None
        return self.env.host.open([int(np.random.SeedSequence(slot).generate_state(1)[0] >> 1) for slot in slots])

    def _first_look(self, state: RunState, steps: TimeStep) -> RunState:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), 0)
        return state._replace(rollout=self.liar.begin(state.learner.params.agents, key, steps))

    def _think(self, state: RunState, tick: Array) -> tuple[RunState, Decision, Array]:
        state, decision = decide(self.learner, self.env, state, tick)
        lies, orders = self.liar.act(decision.env_key, state.rollout.env_state, decision.action)
        return state._replace(rollout=state.rollout._replace(env_state=lies)), decision, orders

    def _learn(self, state: RunState, decision: Decision, tick: Array) -> tuple[RunState, Metrics, Array]:
        learnt, metrics, updates = learn(self.learner, state, decision.sample_key, tick)
        return state._replace(learner=learnt), metrics, updates

    def _see(self, state: RunState, decision: Decision, steps: TimeStep) -> tuple[RunState, EpisodeStats]:
        carry = state.rollout
        last = carry.timestep.terminated | carry.timestep.truncated
        lies, shown = self.liar.show(decision.env_key, carry.env_state, steps, last)
        carry, stats = rollout.arrive(carry, lies, shown, decision.action, decision.memory)
        return state._replace(rollout=carry), jax.tree.map(lambda x: jax.lax.psum(x, SHARD_AXIS), stats)


def _sum(trees: list) -> PyTree:
    """Sum results that the device may still be computing; only now they are waited for."""
    return jax.tree.map(lambda *leaves: np.sum([np.asarray(x) for x in leaves], axis=0), *trees)
