"""Gains of a PI controller by a rule, from a step response in the training environment: nothing is picked by hand.

One agent's level is raised and stays raised while all others do nothing. What that adds to the agent's own reading,
step by step, is fitted by a first-order response with delay, ``k (1 - exp(-(t - d) / tau))``, and the SIMC rule gives
the gains (Skogestad, *Simple analytic rules for model reduction and PID controller tuning*, J. Process Control 13,
2003, 291-309)::

    theta = d + 1/2                          effective delay: holding a level for a step delays it by half of it
    tau_c = theta                            the paper's choice, fast control with good robustness
    kp    = tau / (k (tau_c + theta))        tau_I = min(tau, 4 (tau_c + theta))        ki = kp / tau_I

Only the first 10 theta of the response are fitted, as the authors advise where a process settles slowly (Skogestad and
Grimholt, *The SIMC method for smooth PID controller tuning*, 2012): what comes later is not what a controller that
acts within 2 theta has to deal with. In a building it matters: a zone's air answers within minutes, its neighbours
for hours. One time constant fitted to the whole day makes the air ten times slower than it is, and that controller
oscillates (score -0.2 instead of 0.99 in Tucson).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents import rollout
from drigm.agents.pi import loop_of
from drigm.agents.policies import Constant
from drigm.core.errors import check
from drigm.core.types import Array, jit
from drigm.envs.api import Environment

RAISED = 0.25  # of the way from the idle level to the highest
LONGEST = 120  # steps of a response that are looked at
WINDOW = 10  # effective delays of it that are fitted
SMALL = 0.02  # of the largest response: below it nothing has happened yet
SEED = 0  # of the episode
TIME_CONSTANTS = np.geomspace(0.1, 1000.0, 2001)  # steps that are tried


class Tuning(NamedTuple):
    """One agent's step response, and the gains that follow from it; times are steps."""

    agent: str
    gain: float  # k, change of the reading per unit of level
    time_constant: float  # tau
    delay: float  # theta
    fit: float  # R^2 of the response over the window
    kp: float
    ki: float


def tune(env: Environment) -> list[Tuning]:
    """Return the gains for each agent of ``env``, which should be the one that a team is trained in.

    Raises:
        UserError: the environment does not say what its agents hold, or a reading does not rise with its level.
    """
    responses = step_responses(env)
    return [simc(agent, y) for agent, y in zip(env.spec.agents, responses, strict=True)]


def step_responses(env: Environment) -> np.ndarray:
    """Return what a unit of each agent's level adds to its own reading, [N, T] for the steps 1 to T.

    The episode is one of training, the same with and without the step, so that the weather cancels out.
    """
    loop, spec = loop_of(env.spec), env.spec
    idle = loop.levels[spec.idle_action]
    raised = int(np.abs(loop.levels - (idle + RAISED * (loop.levels[-1] - idle))).argmin())
    actions = np.full((1 + spec.num_agents, spec.num_agents), spec.idle_action, np.int32)
    actions[1 + np.arange(spec.num_agents), np.arange(spec.num_agents)] = raised
    readings = _readings(env, actions, loop.reading)
    added = np.stack([readings[1 + i, :, i] - readings[0, :, i] for i in range(spec.num_agents)])
    return added / (loop.levels[raised] - idle)


def simc(agent: str, response: np.ndarray) -> Tuning:
    """Return the gains for a step response [T] by the rule above; `UserError` if the reading does not rise."""
    largest = float(np.abs(response).max(initial=0.0))
    dead = int((np.abs(response) > SMALL * largest).argmax())
    theta = dead + 0.5
    y = response[: int(np.ceil(WINDOW * theta))].astype(np.float64)
    t = np.arange(1, len(y) + 1)
    shapes = np.maximum(1.0 - np.exp(-np.maximum(t - dead, 0) / TIME_CONSTANTS[:, None]), 0.0)  # [tau, T]
    gains = shapes @ y / np.maximum((shapes**2).sum(axis=1), 1e-12)
    errors = ((y - gains[:, None] * shapes) ** 2).sum(axis=1)
    best = int(errors.argmin())
    k, tau = float(gains[best]), float(TIME_CONSTANTS[best])
    check(largest > 0 and k > 0, "agent", agent, "a PI controller needs a reading that rises with the agent's level")
    kp = tau / (k * 2 * theta)
    fit = 1.0 - float(errors[best]) / max(float(((y - y.mean()) ** 2).sum()), 1e-12)
    return Tuning(agent, k, tau, theta, fit, kp, kp / min(tau, 8 * theta))


def _readings(env: Environment, actions: np.ndarray, reading: int) -> np.ndarray:
    """Return the reading [C, T, N] after each step of C episodes in which the joint actions [C, N] never change."""
    steps = min(LONGEST, env.spec.episode_limit)
    if env.subprocess is not None:
        most = env.subprocess.most
        rounds = [actions[k : k + most] for k in range(0, len(actions), most)]
        return np.concatenate([_observed(env, some, steps) for some in rounds])[..., reading]

    def one(action: Array) -> Array:
        shown, _ = rollout.episode(env, Constant(action), jax.random.key(SEED), env.params)
        return shown.obs[:steps, :, reading]

    return np.asarray(jit(jax.vmap(one))(jnp.asarray(actions)))


def _observed(env: Environment, actions: np.ndarray, steps: int) -> np.ndarray:
    """Return the observations [C, T, N, O] of episodes in other processes, all from the same seed."""
    assert env.subprocess is not None
    seeds, shown = [SEED] * len(actions), list[np.ndarray]()
    vector = env.subprocess.open(seeds)
    try:
        vector.reset(seeds)
        for _ in range(steps):
            vector.send(actions)
            step = vector.receive()
            shown.append(step.obs)
            if (step.terminated | step.truncated).any():
                break
    finally:
        vector.close()
    return np.stack(shown, axis=1)
