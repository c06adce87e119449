"""The one-step optimum of buildings in JAX, which knows the model and all that acts on it."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.types import Array, PyTree, jit
from drigm.envs.api import Environment, Shift
from drigm.envs.building.one_step import controlled_day, one_step_optimal
from drigm.envs.building.simulator import BuildingParams
from drigm.evaluation.families.api import Family

NAME = "one_step_optimum"


def _names(env: Environment, trained_in: Environment) -> list[str]:
    del trained_in
    return [NAME] if isinstance(env.params, BuildingParams) and env.spec.regulated is not None else []


def _scores(
    env: Environment, tried: list[Shift], names: Sequence[str], trained_in: Environment
) -> dict[str, np.ndarray]:
    del trained_in
    episodes, controller = jnp.arange(env.num_eval_episodes, dtype=jnp.int32), one_step_optimal(env)

    def one(params: PyTree, index: Array) -> Array:
        return jnp.sum(controlled_day(env, controller, params, index)[0].reward)

    def days(params: PyTree) -> Array:
        return jax.vmap(one, in_axes=(None, 0))(params, episodes)

    play = jit(days)
    scores = [np.asarray(env.score(play(world.params)), np.float64).mean() for world in tried]
    return {name: np.array(scores) for name in names}


BUILDINGS = Family({NAME: "One-step optimum"}, _names, _scores)
