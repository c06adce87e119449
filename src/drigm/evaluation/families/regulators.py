"""P and PI, where the environment says what each agent holds at a setpoint."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from drigm.agents.pi import HAND_PICKED, PI, loop_of
from drigm.agents.policies import Policy
from drigm.core.errors import check
from drigm.envs.api import Environment, Shift
from drigm.evaluation.families.api import Family
from drigm.evaluation.players import pi_controllers
from drigm.evaluation.scores import episode_scores
from drigm.evaluation.tuning import tune

TITLES = {"p": "P", "pi": "PI", "pi_tuned": "PI, tuned by SIMC"}


def _names(env: Environment, trained_in: Environment) -> list[str]:
    """Return none where nothing is held, and no tuned PI where there is nowhere to tune it."""
    if env.spec.regulated is None:
        return []
    return [name for name in TITLES if name != "pi_tuned" or trained_in.spec.regulated is not None]


def _scores(
    env: Environment, tried: list[Shift], names: Sequence[str], trained_in: Environment
) -> dict[str, np.ndarray]:
    gains = [_gains(name, env, trained_in) for name in names]
    kp, ki = (jnp.asarray(np.stack(side), jnp.float32) for side in zip(*gains, strict=True))
    scores = episode_scores(env, pi_controllers(env.spec, kp, ki), tried).mean(axis=-1)
    return {name: scores[:, i] for i, name in enumerate(names)}


def _policy(name: str, env: Environment, trained_in: Environment) -> Policy:
    kp, ki = (side.astype(np.float32) for side in _gains(name, env, trained_in))
    return PI(loop_of(env.spec), kp, ki)


def _gains(name: str, env: Environment, trained_in: Environment) -> tuple[np.ndarray, np.ndarray]:
    """The gains kp and ki, each [N]."""
    agents = env.spec.agents
    if name != "pi_tuned":
        kp, ki = HAND_PICKED
        return np.full(len(agents), kp), np.full(len(agents), ki if name == "pi" else 0.0)
    tuned = {one.agent: one for one in tune(trained_in)}
    missing = [agent for agent in agents if agent not in tuned]
    check(not missing, "trained_in", trained_in.spec.name, f"it has no agent {', '.join(missing)} to tune")
    return np.array([tuned[agent].kp for agent in agents]), np.array([tuned[agent].ki for agent in agents])


REGULATORS = Family(TITLES, _names, _scores, _policy, tuple(TITLES))
