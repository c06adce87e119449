"""Acting where environments live in other processes: one time-step at a time, for all runs, in NumPy.

Leading axes are [K, E]: runs, and the environments of each.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents.policies import Policy
from drigm.core.types import NO_ACTION, Array, EnvSpec, PyTree, StoredStep, TimeStep
from drigm.envs import perturbations
from drigm.envs.api import Environment
from drigm.envs.episodes import EpisodeStats, RolloutState, arrive, stored_step
from drigm.envs.subprocess.vector import SubprocessSteps

Strengths = Mapping[str, Any]


class PerturbationState(NamedTuple):
    """The perturbations of environments: their memories, and what can really be done now."""

    memory: dict[str, PyTree]
    avail: Array  # [N, A]


class Perturber:
    """Perturbations of [K, E] environments side by side, as `drigm.envs.perturbations.wrap` has them for one in JAX.

    Compiled once for all strengths; where there are none, nothing is computed.
    """

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = spec
        self._show, self._act = jax.jit(self._later), jax.jit(self._order)

    def act(
        self, strengths: Strengths, keys: Array, tick: int, perturbed: Any, action: np.ndarray
    ) -> tuple[PerturbationState | tuple[()], np.ndarray]:
        """Return the joint actions [K, E, N] that really happen; ``keys`` [K] are the runs'."""
        return self._act(strengths, keys, np.int32(tick), perturbed, action) if strengths else ((), action)

    def show(
        self, strengths: Strengths, keys: Array, tick: int, perturbed: Any, steps: TimeStep, last: np.ndarray
    ) -> tuple[PerturbationState | tuple[()], TimeStep]:
        """Return the time-steps as the agents see them; where ``last`` [K, E] they are first ones."""
        return self._show(strengths, keys, np.int32(tick), perturbed, steps, last) if strengths else ((), steps)

    def _first(
        self, strengths: Strengths, keys: Array, tick: Array, steps: TimeStep
    ) -> tuple[PerturbationState, TimeStep]:
        def one(key: Array, step: TimeStep) -> tuple[PerturbationState, TimeStep]:
            memory = perturbations.begin(self.spec, key, strengths)
            memory, shown = perturbations.show(self.spec, key, strengths, memory, step, first=True)
            return PerturbationState(memory, step.avail_actions), shown

        return _each(one)(_spread(keys, tick, steps.reward.shape[1]), steps)

    def _order(
        self, strengths: Strengths, keys: Array, tick: Array, perturbed: PerturbationState, action: Array
    ) -> tuple[PerturbationState, Array]:
        def one(key: Array, perturbed: PerturbationState, action: Array) -> tuple[PerturbationState, Array]:
            memory, order = perturbations.act(self.spec, key, strengths, perturbed.memory, action, perturbed.avail)
            return perturbed._replace(memory=memory), order

        return _each(one)(_spread(keys, tick, action.shape[1]), perturbed, action)

    def _later(
        self, strengths: Strengths, keys: Array, tick: Array, perturbed: PerturbationState, steps: TimeStep, last: Array
    ) -> tuple[PerturbationState, TimeStep]:
        def one(key: Array, perturbed: PerturbationState, step: TimeStep) -> tuple[PerturbationState, TimeStep]:
            memory, shown = perturbations.show(self.spec, key, strengths, perturbed.memory, step, first=False)
            return PerturbationState(memory, step.avail_actions), shown

        def choose(new: Array, old: Array) -> Array:
            return jnp.where(last.reshape(last.shape + (1,) * (new.ndim - 2)), new, old)

        fresh = self._first(strengths, keys, tick, steps)
        later = _each(one)(_spread(keys, tick, last.shape[1]), perturbed, steps)
        return jax.tree.map(choose, fresh, later)


def _each(one: Any) -> Any:
    """``one`` for every environment [K, E]."""
    return jax.vmap(jax.vmap(one))


def _spread(keys: Array, tick: Array, envs: int) -> Array:
    """Return the keys [K, E] of a tick."""
    return jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, tick), envs))(keys)


def before_reset(spec: EnvSpec, strengths: Strengths, memory: PyTree, axes: tuple[int, ...]) -> RolloutState:
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
    perturbed = (
        PerturbationState(jax.tree.map(lambda x: jnp.zeros((*axes, *x.shape), x.dtype), memories), avail)
        if strengths
        else ()
    )
    return RolloutState(
        env_state=perturbed,
        timestep=steps,
        last_action=jnp.full((*axes, spec.num_agents), NO_ACTION, jnp.int32),
        first=jnp.zeros(axes, bool),
        memory=memory,
        episode_return=jnp.zeros(axes, jnp.float32),
    )


def time_steps(spec: EnvSpec, steps: SubprocessSteps, runs: int) -> TimeStep:
    """Return stacked time-steps [B, ...] from workers as [K, E, ...]."""
    fields = {name: x.reshape(runs, -1, *x.shape[1:]) for name, x in steps._asdict().items()}
    return TimeStep(**fields if spec.has_wins else {**fields, "won": None})


class Actor:
    """Teams at play in [K, E] environments; `arrive` and `decide` take turns.

    Args:
        env: whose spec says how to read the time-steps.
        perturber: its perturbations.
        strengths: theirs.
        keys: [K], what the perturbations of each run are drawn with.
        carry: what acting carries from tick to tick, as `decide` leaves it or as `before_reset` has it.
        tick: the number of the tick that was decided last.
    """

    def __init__(
        self, env: Environment, perturber: Perturber, strengths: Strengths, keys: Array, carry: RolloutState, tick: int
    ) -> None:
        self.env, self.runs, self.tick = env, keys.shape[0], tick
        self._act = functools.partial(perturber.act, strengths, keys)
        self._show = functools.partial(perturber.show, strengths, keys)
        self.carry: Any = jax.tree.map(np.asarray, carry)

    @property
    def over(self) -> np.ndarray:
        """Whether the episode in each environment [K, E] is over."""
        return self.carry.timestep.terminated | self.carry.timestep.truncated

    def abandon(self, lost: np.ndarray) -> None:
        """Break off the episodes in the environments ``lost`` [K, E], whose next time-step is the first of another."""
        step = self.carry.timestep
        self.carry = self.carry._replace(timestep=step._replace(truncated=step.truncated | lost))

    def decide(self, team: Policy, choose: Any = None) -> tuple[StoredStep, np.ndarray]:
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
        perturbed, orders = self._act(self.tick, self.carry.env_state, action)
        self.carry = self.carry._replace(env_state=perturbed, last_action=action, memory=memory)
        return row, np.asarray(orders)

    def arrive(self, steps: SubprocessSteps) -> EpisodeStats:
        """Take in the time-steps that the decision led to; returns the sums [K] of the episodes that ended."""
        carry = self.carry
        perturbed, shown = carry.env_state, time_steps(self.env.spec, steps, self.runs)
        perturbed, shown = self._show(self.tick, perturbed, shown, self.over)
        self.tick += 1
        shown = jax.tree.map(np.asarray, shown) if perturbed else shown
        self.carry, stats = arrive(carry, perturbed, shown, carry.last_action, carry.memory, np)
        return stats
