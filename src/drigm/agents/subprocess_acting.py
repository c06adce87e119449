"""Acting where environments live in other processes: one time-step at a time, in NumPy.

Such a step is a few products of some thirty rows. As a compiled program it took 0.3 ms, and a millisecond while
learning kept XLA's threads busy; in NumPy it takes 0.1 ms beside learning too, with nothing to compile and, where
learning has an accelerator, no way to it and back. The networks' definition is
`drigm.agents.recurrent`, of which `HostTeam` is one step. Leading axes are [K, E]: runs, and the environments of each.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents.heads import LinearHead
from drigm.agents.lstm import gate_scale
from drigm.agents.recurrent import Memory, RecurrentAgents
from drigm.core.types import NO_ACTION, Array, EnvSpec, PyTree, StoredStep, TimeStep
from drigm.envs import perturbations
from drigm.envs.api import Environment
from drigm.envs.play import EpisodeStats, RolloutState, arrive, stored_step
from drigm.envs.subprocess.vector import HostSteps

Strengths = Mapping[str, Any]


class HostTeam:
    """The agents of K runs as NumPy arrays, ready for `step`.

    Args:
        agents: weights stacked on a leading axis [K]; their actions have no order, as no hosted environment's have.
    """

    def __init__(self, agents: RecurrentAgents) -> None:
        assert isinstance(agents.head, LinearHead)
        assert not agents.ordered_input
        self.agents, self.shared, self.num_agents = agents, agents.shared, agents.num_agents
        weights = jax.tree.map(np.asarray, agents)
        scale = gate_scale(weights.lstm_hidden.shape[-2])  # one tanh serves all gates, as in `drigm.agents.lstm`
        self.offset, self.scale = weights.obs_offset[:, None], weights.obs_scale[:, None]  # [K, 1, N, O]
        self.encoder, self.read = weights.encoder, weights.lstm_input * scale
        self.recurrent, self.bias = weights.lstm_hidden * scale, weights.lstm_bias[:, :, None] * scale
        if self.encoder is None:  # biases that meet the embedding are part of it
            self.embedding = weights.action_embedding * scale + self.bias
        else:
            self.embedding = weights.action_embedding + weights.encoder_bias[:, :, None]
        self.head, self.head_bias = weights.head.weight, weights.head.bias[:, :, None]

    def initial_memory(self, envs: int) -> Memory:
        """Return cleared LSTM state [K, G, rows, H]."""
        runs, groups, hidden, _ = self.recurrent.shape
        zeros = np.zeros((runs, groups, envs * self.num_agents // groups, hidden), np.float32)
        return Memory(zeros, zeros)  # type: ignore[arg-type]

    def act(self, memory: Memory, row: StoredStep) -> tuple[Memory, np.ndarray]:
        """Advance the memories by one step; returns the greedy actions [K, E, N] int32 too (see `rollout.act`)."""
        memory, features = self._step(memory, row)
        values = self._batch(features @ self.head + self.head_bias)
        if row.avail_actions is not None:
            values = np.where(row.avail_actions, values, -np.inf)
        return memory, values.argmax(axis=-1).astype(np.int32)

    def _step(self, memory: Memory, row: StoredStep) -> tuple[Memory, np.ndarray]:
        """Return the memories and the head's features [K, G, rows, F]."""
        x = self._encode(np.asarray(row.obs))
        index = self._rows(np.asarray(row.last_action)) + 1  # [K, G, rows]
        known = np.take_along_axis(self.embedding, index[..., None], axis=2)
        if self.encoder is None:
            gates = x @ self.read + known
        else:
            gates = np.maximum(x @ self.encoder + known, 0.0) @ self.read + self.bias
        going_on = np.broadcast_to(~np.asarray(row.first)[..., None], row.last_action.shape)
        keep = self._rows(going_on)[..., None].astype(np.float32)
        width = memory.hidden.shape[-1]
        gates = np.tanh(gates + (memory.hidden * keep) @ self.recurrent)
        i, f, g, o = (gates[..., k * width : (k + 1) * width] for k in range(4))
        cell = (0.5 * f + 0.5) * (memory.cell * keep) + (0.5 * i + 0.5) * g
        hidden = (0.5 * o + 0.5) * np.tanh(cell)
        return Memory(hidden, cell), np.concatenate([hidden, x], axis=-1)  # type: ignore[arg-type]

    def _encode(self, obs: np.ndarray) -> np.ndarray:
        """Return the standardised inputs [K, G, rows, I] of observations [K, E, N, O]."""
        x = (obs - self.offset) / self.scale
        if self.shared:
            ids = np.broadcast_to(np.eye(self.num_agents, dtype=np.float32), (*x.shape[:3], self.num_agents))
            x = np.concatenate([x, ids], axis=-1)
        return self._rows(x)

    def _rows(self, x: np.ndarray) -> np.ndarray:
        """[K, E, N, ...] -> [K, G, rows, ...]."""
        if self.shared:
            return x.reshape(x.shape[0], 1, -1, *x.shape[3:])
        return np.swapaxes(x, 1, 2)

    def _batch(self, x: np.ndarray) -> np.ndarray:
        """[K, G, rows, ...] -> [K, E, N, ...]."""
        if self.shared:
            return x.reshape(x.shape[0], -1, self.num_agents, *x.shape[3:])
        return np.swapaxes(x, 1, 2)


class Lies(NamedTuple):
    """The perturbations of environments: their memories, and what can really be done now."""

    memory: dict[str, PyTree]
    avail: Array  # [N, A]


class Liar:
    """Perturbations of [K, E] environments side by side, as `drigm.envs.perturbations.wrap` has them for one in JAX.

    Compiled once for all strengths; where there are none, nothing is computed.
    """

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = spec
        self._show, self._act = jax.jit(self._later), jax.jit(self._order)

    def act(
        self, strengths: Strengths, keys: Array, tick: int, lies: Any, action: np.ndarray
    ) -> tuple[Lies | tuple[()], np.ndarray]:
        """Return the joint actions [K, E, N] that really happen; ``keys`` [K] are the runs'."""
        return self._act(strengths, keys, np.int32(tick), lies, action) if strengths else ((), action)

    def show(
        self, strengths: Strengths, keys: Array, tick: int, lies: Any, steps: TimeStep, last: np.ndarray
    ) -> tuple[Lies | tuple[()], TimeStep]:
        """Return the time-steps as the agents see them; where ``last`` [K, E] they are first ones."""
        return self._show(strengths, keys, np.int32(tick), lies, steps, last) if strengths else ((), steps)

    def _first(self, strengths: Strengths, keys: Array, tick: Array, steps: TimeStep) -> tuple[Lies, TimeStep]:
        def one(key: Array, step: TimeStep) -> tuple[Lies, TimeStep]:
            memory = perturbations.begin(self.spec, key, strengths)
            memory, shown = perturbations.show(self.spec, key, strengths, memory, step, first=True)
            return Lies(memory, step.avail_actions), shown

        return _each(one)(_spread(keys, tick, steps.reward.shape[1]), steps)

    def _order(self, strengths: Strengths, keys: Array, tick: Array, lies: Lies, action: Array) -> tuple[Lies, Array]:
        def one(key: Array, lies: Lies, action: Array) -> tuple[Lies, Array]:
            memory, order = perturbations.act(self.spec, key, strengths, lies.memory, action, lies.avail)
            return lies._replace(memory=memory), order

        return _each(one)(_spread(keys, tick, action.shape[1]), lies, action)

    def _later(
        self, strengths: Strengths, keys: Array, tick: Array, lies: Lies, steps: TimeStep, last: Array
    ) -> tuple[Lies, TimeStep]:
        def one(key: Array, lies: Lies, step: TimeStep) -> tuple[Lies, TimeStep]:
            memory, shown = perturbations.show(self.spec, key, strengths, lies.memory, step, first=False)
            return Lies(memory, step.avail_actions), shown

        def choose(new: Array, old: Array) -> Array:
            return jnp.where(last.reshape(last.shape + (1,) * (new.ndim - 2)), new, old)

        fresh = self._first(strengths, keys, tick, steps)
        later = _each(one)(_spread(keys, tick, last.shape[1]), lies, steps)
        return jax.tree.map(choose, fresh, later)


def _each(one: Any) -> Any:
    """``one`` for every environment [K, E]."""
    return jax.vmap(jax.vmap(one))


def _spread(keys: Array, tick: Array, envs: int) -> Array:
    """Return the keys [K, E] of a tick."""
    return jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, tick), envs))(keys)


def before_reset(spec: EnvSpec, strengths: Strengths, memory: Memory, axes: tuple[int, ...]) -> RolloutState:
    """Return the carry [*axes] of environments whose next time-step is the first of an episode."""
    avail = jnp.ones((*axes, spec.num_agents, spec.num_actions), bool)
    steps = TimeStep(
        obs=jnp.zeros((*axes, spec.num_agents, spec.obs_size), jnp.float32),
        state=jnp.zeros((*axes, spec.state_size), jnp.float32),
        avail_actions=avail,
        reward=jnp.zeros(axes, jnp.float32),
        terminated=jnp.zeros(axes, bool),
        truncated=jnp.ones(axes, bool),
        alive=jnp.ones((*axes, spec.num_agents), bool),
        won=jnp.zeros(axes, bool) if spec.has_wins else None,
    )
    memories = jax.eval_shape(lambda: perturbations.begin(spec, jax.random.key(0), strengths))
    lies = Lies(jax.tree.map(lambda x: jnp.zeros((*axes, *x.shape), x.dtype), memories), avail) if strengths else ()
    return RolloutState(
        env_state=lies,
        timestep=steps,
        last_action=jnp.full((*axes, spec.num_agents), NO_ACTION, jnp.int32),
        first=jnp.zeros(axes, bool),
        memory=memory,
        episode_return=jnp.zeros(axes, jnp.float32),
    )


def time_steps(spec: EnvSpec, steps: HostSteps, runs: int) -> TimeStep:
    """Return stacked time-steps [B, ...] from workers as [K, E, ...]."""
    fields = {name: x.reshape(runs, -1, *x.shape[1:]) for name, x in steps._asdict().items()}
    return TimeStep(**fields if spec.has_wins else {**fields, "won": None})


class Actor:
    """Teams at play in [K, E] environments; `arrive` and `decide` take turns.

    Args:
        env: whose spec says how to read the time-steps.
        liar: its perturbations.
        strengths: theirs.
        keys: [K], what the perturbations of each run are drawn with.
        carry: what acting carries from tick to tick, as `decide` leaves it or as `before_reset` has it.
        tick: the number of the tick that was decided last.
    """

    def __init__(
        self, env: Environment, liar: Liar, strengths: Strengths, keys: Array, carry: RolloutState, tick: int
    ) -> None:
        self.env, self.runs, self.tick = env, keys.shape[0], tick
        self._act = functools.partial(liar.act, strengths, keys)
        self._show = functools.partial(liar.show, strengths, keys)
        self.carry: Any = jax.tree.map(np.asarray, carry)

    @property
    def over(self) -> np.ndarray:
        """Whether the episode in each environment [K, E] is over."""
        return self.carry.timestep.terminated | self.carry.timestep.truncated

    def abandon(self, lost: np.ndarray) -> None:
        """Break off the episodes in the environments ``lost`` [K, E], whose next time-step is the first of another."""
        step = self.carry.timestep
        self.carry = self.carry._replace(timestep=step._replace(truncated=step.truncated | lost))

    def decide(self, team: HostTeam, choose: Any = None) -> tuple[StoredStep, np.ndarray]:
        """Choose what to do at the present time-steps.

        Args:
            team: who chooses.
            choose: ``choose(greedy actions, avail or None)``: what is done instead of them.

        Returns:
            The row to store [K, E, ...], and the joint actions [K, E, N] that really happen.
        """
        row = stored_step(self.env, self.carry)
        memory, action = team.act(self.carry.memory, row)
        if choose is not None:
            action = choose(action, row.avail_actions)
        lies, orders = self._act(self.tick, self.carry.env_state, action)
        self.carry = self.carry._replace(env_state=lies, last_action=action, memory=memory)
        return row, np.asarray(orders)

    def arrive(self, steps: HostSteps) -> EpisodeStats:
        """Take in the time-steps that the decision led to; returns the sums [K] of the episodes that ended."""
        carry = self.carry
        lies, shown = carry.env_state, time_steps(self.env.spec, steps, self.runs)
        lies, shown = self._show(self.tick, lies, shown, self.over)
        self.tick += 1
        shown = jax.tree.map(np.asarray, shown) if lies else shown
        self.carry, stats = arrive(carry, lies, shown, carry.last_action, carry.memory, np)
        return stats
