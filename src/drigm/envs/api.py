"""The environment protocol: a record of pure functions.

An environment is two pure functions and a pytree of the physical quantities that may shift.
Because ``params`` is an argument, a suite of shifted worlds is one `jax.vmap` over ``params``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.types import Array, EnvSpec, PyTree, TimeStep
from drigm.envs.subprocess.vector import SubprocessSource

Reset = Callable[[Array, PyTree], tuple[PyTree, TimeStep]]
Step = Callable[[Array, PyTree, Array, PyTree], tuple[PyTree, TimeStep]]


class Shift(NamedTuple):
    """One world of a shift suite: how it is shown, and its parameters."""

    name: str
    params: PyTree


class Held(NamedTuple):
    """A strength that is drawn anew within an episode: uniformly from [low, high], and held about ``hours``."""

    low: float
    high: float
    hours: float  # on average; 0: the whole episode


def held(strength: float | np.ndarray | Held) -> Held:
    """Return a strength as a range; a number, one for all, is held for whole episodes."""
    return strength if isinstance(strength, Held) else Held(float(strength), float(strength), 0.0)


class Parameter(NamedTuple):
    """A physical parameter that can be perturbed, or drawn from a range (`drigm.envs.persistent`).

    Attributes:
        about: what a strength means.
        values: the strengths of the suite ``parameters``.
        lowest: every strength is above it.
        highest: no strength is above it.
        size: how many numbers it is, one for each zone perhaps; a single strength stands for all of them.
        factor: a strength multiplies what is there: ranges are drawn logarithmically.
        held: a range of it may be drawn anew within an episode, as a `Held`.
    """

    about: str
    values: tuple[float, ...] = (-0.2, 0.2)
    lowest: float = -1.0
    size: int = 1
    factor: bool = False
    held: bool = False
    highest: float = math.inf


Strength = float | np.ndarray | Held


class PersistentSet(NamedTuple):
    """A finite set of worlds xi_1..xi_K of which every episode has one.

    Attributes:
        world: ``world(env_state) -> []`` int32, the number of the episode's world.
        weigh: ``weigh(params, weights [K]) -> params`` with other chances that a reset draws each world.
        possible: ``possible(params) -> [K]``, what can be had in each (see `Environment.possible`); 0 if nobody knows.
    """

    world: Callable[[PyTree], Array]
    weigh: Callable[[PyTree, Array], PyTree]
    possible: Callable[[PyTree], Array]


def any_episode(params: PyTree, index: Array) -> PyTree:
    """The default `Environment.episode`: the index only changes the random key."""
    del index
    return params


class Environment(NamedTuple):
    """A simulator as pure functions.

    Attributes:
        spec: static facts.
        params: the nominal parameters (a pytree of arrays).
        reset: ``reset(key, params) -> (env_state, TimeStep)``; the time-step has reward 0 and both
            ends False.
        step: ``step(key, env_state, joint_action [N] int32, params) -> (env_state, TimeStep)``.
            Behaviour after an end is undefined: callers reset.
        episode: ``episode(params, i) -> params`` fixes the i-th episode of the evaluation
            protocol (for a building, its i-th protocol day).
        num_eval_episodes: how many episodes the evaluation protocol has.
        score: maps an undiscounted episode return to the environment's published score.
        shifts: the shift suites this environment knows, by name; each value builds its worlds when called,
            all with the tree structure and shapes of ``params`` (see `drigm.envs.shifts.shift_suite`). The suite
            ``sources`` holds the worlds that training may know: the nominal one, and others that no test uses.
        suites: shift suites that are told in strengths: by their names the worlds, by theirs the strength of each
            parameter or perturbation, as in ``{"weather": {"dry": {"leak": 0.0}, "storm": {"leak": 0.1}}}``. The first
            is the suite that an evaluation plays where it is given none.
        parameters: physical parameters that can be perturbed, by name.
        vary: ``vary({name: strength}) -> Environment``, the same environment with those parameters changed; all its
            worlds have the structure and shapes of this one's.
        possible: ``possible(params) -> []``, about what return could be had in that world by whoever knew all of it;
            None: nobody knows.
        persistent: how its episodes are spread over a finite set of worlds; see `drigm.envs.persistent`.
        world_per_env: ``params`` has a leading axis [B], one world per parallel environment (only for training).
        subprocess: how to make it in another process; ``reset`` and ``step`` then only refuse (see
            `drigm.envs.subprocess.environment`).
        eval_seeds: seeds of the evaluation's episodes, where it lives in another process and has a protocol of its own.
        notes: what a user should know about it, such as fallbacks that were taken.
    """

    spec: EnvSpec
    params: PyTree
    reset: Reset
    step: Step
    episode: Callable[[PyTree, Array], PyTree] = any_episode
    num_eval_episodes: int = 32
    score: Callable[[Array], Array] = lambda episode_return: episode_return
    shifts: Mapping[str, Callable[[], list[Shift]]] = MappingProxyType({})
    suites: Mapping[str, Mapping[str, Mapping[str, float]]] = MappingProxyType({})
    parameters: Mapping[str, Parameter] = MappingProxyType({})
    vary: Callable[[Mapping[str, Strength]], Environment] | None = None
    possible: Callable[[PyTree], Array] | None = None
    persistent: PersistentSet | None = None
    world_per_env: bool = False
    subprocess: SubprocessSource | None = None
    eval_seeds: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def step_or_reset(
    env: Environment, key: Array, env_state: PyTree, action: Array, over: Array
) -> tuple[PyTree, TimeStep]:
    """Step B parallel environments, and reset those whose episode is ``over``.

    Args:
        env: the environment; with ``world_per_env`` each runs in its own world.
        key: random key.
        env_state: leading axis [B].
        action: [B, N] int32.
        over: [B] bool, the present time-step ends an episode.
    """
    keys = jax.random.split(key, over.shape[0])
    worlds = 0 if env.world_per_env else None
    stepped = jax.vmap(env.step, in_axes=(0, 0, 0, worlds))(keys, env_state, action, env.params)
    fresh = jax.vmap(env.reset, in_axes=(0, worlds))(keys, env.params)

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(over.reshape(over.shape + (1,) * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, fresh, stepped)


def reset_all(env: Environment, key: Array, num_envs: int) -> tuple[PyTree, TimeStep]:
    """Reset ``num_envs`` parallel environments; leading axes [B]."""
    worlds = 0 if env.world_per_env else None
    return jax.vmap(env.reset, in_axes=(0, worlds))(jax.random.split(key, num_envs), env.params)
