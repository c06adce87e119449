"""The upper end of a building's score: the one-step optimum with full knowledge.

It knows the model, all temperatures and the weather that is about to act, and chooses the joint power with the best
reward of the next step alone. No agent could: the controllers that see what agents see are in
`drigm.evaluation.controllers`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.errors import check
from drigm.core.types import Array, TimeStep, map_tree
from drigm.envs.api import Environment, reset_all
from drigm.envs.building import simulator
from drigm.envs.building.simulator import FULL_PRECISION, BuildingParams, BuildingState
from drigm.envs.episodes import RolloutState, begin, play

Controller = Callable[[BuildingState, BuildingParams], Array]
"""``controller(env_state, params) -> joint action [N] int32``."""

RELAXED_SWEEPS = 20  # coordinate descents over the powers as real numbers; six zones need fewer than ten
MOVES = np.array([-16, -4, -1, 0, 1, 4, 16], np.int32)  # levels that one zone may move at a time
POSSIBLE_DAYS = 4
LEVEL_SWEEPS = 3  # trying every level in eight sweeps moves no city's score by 1e-5


def one_step_optimal(env: Environment) -> Controller:
    """Return the controller with the best reward of the next step, found in two stages.

    The next temperatures are affine in the powers p: ``T' = c + H p``. First ``|ac_map (T' - target)|_2`` is minimised
    over the powers as real numbers in their range by exact coordinate descent, which converges fast because a zone
    hardly heats its neighbours within a step. Then the nearest levels are improved zone by zone under the true reward
    of `Environment.step`, power term and all.
    """
    levels = jnp.asarray(_levels(env))
    zones = np.flatnonzero(np.asarray(env.params.ac_map))  # of the agents; the same in every world of a suite
    off = jnp.full(env.spec.num_agents, env.spec.idle_action, jnp.int32)

    def next_step(state: BuildingState, params: BuildingParams, action: Array) -> tuple[BuildingState, Array]:
        state, timestep = env.step(jax.random.key(0), state, action, params)  # no randomness: any key
        return state, timestep.reward

    def controller(state: BuildingState, params: BuildingParams) -> Array:
        effect = (1.0 - params.lag) * params.heating[:, zones]  # H [n, N]
        drifted, _ = next_step(state, params, off)
        constant = drifted.temperatures - jnp.matmul(effect, levels[off], precision=FULL_PRECISION)
        weighted = effect * jnp.broadcast_to(params.ac_map[:, None], effect.shape)
        error = params.ac_map * (constant - params.target)
        power = _box_least_squares(weighted, error, levels[0], levels[-1])
        action = jnp.argmin(jnp.abs(levels[None, :] - power[:, None]), axis=-1).astype(jnp.int32)
        return _improve(lambda a: next_step(state, params, a)[1], action, levels.shape[0])

    return controller


def controlled_day(
    env: Environment, controller: Controller, params: BuildingParams, episode: Array
) -> tuple[TimeStep, Array]:
    """Play protocol episode number ``episode`` with ``controller``; returns as `rollout.greedy_episode`."""
    return _day(env._replace(params=env.episode(params, episode)), controller, jax.random.key(0))  # nothing is drawn


def possible_return(env: Environment, params: BuildingParams) -> Array:
    """Return what the one-step optimum gets on average on a few days that the world ``params`` draws: []."""
    world, controller = env._replace(params=params), one_step_optimal(env)

    def one(key: Array) -> Array:
        return jnp.sum(_day(world, controller, key)[0].reward)

    return jnp.mean(jax.vmap(one)(jax.random.split(jax.random.key(0), POSSIBLE_DAYS)))


def building(name: str, **options: Any) -> Environment:
    """Return `drigm.envs.building.simulator.building` that knows what is possible in its worlds."""
    env = simulator.building(name, **options)
    return env if env.spec.action_values is None else env._replace(possible=functools.partial(possible_return, env))


def _day(world: Environment, controller: Controller, key: Array) -> tuple[TimeStep, Array]:
    """Play one day of ``world``."""

    def act(carry: RolloutState, _: Array) -> tuple[None, Array, None]:
        return None, controller(map_tree(lambda x: x[0], carry.env_state), world.params)[None], None

    carry = begin(None, *reset_all(world, key, 1))
    _, played = play(world, act, carry, jax.random.split(key, world.spec.episode_limit))
    return map_tree(lambda x: x[:, 0], (played.after, played.action))


def _levels(env: Environment) -> np.ndarray:
    """The powers [A] that the actions stand for, ascending."""
    values = env.spec.action_values
    check(values is not None, "env", env.spec.name, "the one-step optimum needs levels of power as actions")
    return np.asarray(values, np.float32)


def _box_least_squares(matrix: Array, offset: Array, low: Array, high: Array) -> Array:
    """Return x [N] in [low, high] that minimises ``|matrix x + offset|_2``: matrix [n, N], offset [n]."""
    squares = jnp.maximum(jnp.sum(matrix * matrix, axis=0), 1e-12)

    def improve(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        x, residual = carry
        k = i % x.shape[0]
        column = matrix[:, k]
        best = jnp.clip(x[k] - jnp.vdot(column, residual, precision=FULL_PRECISION) / squares[k], low, high)
        return x.at[k].set(best), residual + column * (best - x[k])

    start = jnp.zeros(matrix.shape[1], jnp.float32)
    return jax.lax.fori_loop(0, RELAXED_SWEEPS * matrix.shape[1], improve, (start, offset))[0]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] (untyped)


def _improve(reward_of: Callable[[Array], Array], action: Array, levels: int) -> Array:
    """Return ``action`` [N] after moving one zone at a time to the level of `MOVES` with the highest reward."""
    moves = jnp.asarray(MOVES)

    def improve(i: Array, action: Array) -> Array:
        k = i % action.shape[0]
        candidates = jnp.broadcast_to(action, (len(MOVES), *action.shape))
        candidates = candidates.at[:, k].set(jnp.clip(action[k] + moves, 0, levels - 1))
        return candidates[jnp.argmax(jax.vmap(reward_of)(candidates))]

    return jax.lax.fori_loop(0, LEVEL_SWEEPS * action.shape[0], improve, action)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] (untyped)
