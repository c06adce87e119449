"""Doing nothing, which every environment has."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from drigm.agents.policies import Constant, Policy
from drigm.envs.api import Environment, Shift
from drigm.evaluation.families.api import Family
from drigm.evaluation.players import constant
from drigm.evaluation.scores import episode_scores

NAME = "do_nothing"


def _scores(
    env: Environment, tried: list[Shift], names: Sequence[str], trained_in: Environment
) -> dict[str, np.ndarray]:
    del names, trained_in
    idle = jnp.full((1, env.spec.num_agents), env.spec.idle_action, jnp.int32)
    found = episode_scores(env, constant(idle), tried).mean(axis=-1)[:, 0]
    return {NAME: found}


def _policy(name: str, env: Environment, trained_in: Environment) -> Policy:
    del name, trained_in
    return Constant(np.full(env.spec.num_agents, env.spec.idle_action, np.int32))


def _names(env: Environment, trained_in: Environment) -> list[str]:
    del env, trained_in
    return [NAME]


IDLE = Family({NAME: "Doing nothing"}, _names, _scores, _policy, (NAME,))
