"""Learned agreement: teams trained by the real learner against the exact robust solution of the same small problem."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents import rollout
from drigm.agents.exploration import Exploration, explore
from drigm.agents.recurrent import Memory
from drigm.algorithms.learner import make_learner
from drigm.algorithms.robust_target import team_of
from drigm.algorithms.uncertainty.kullback_leibler import MAX_RATIO
from drigm.algorithms.value_bounds import make_robustness, nature_of
from drigm.core.config import TrainConfig
from drigm.core.types import Array, standardise
from drigm.envs.api import Environment
from drigm.envs.episodes import RolloutState, key_pairs, play, stored_step
from drigm.envs.toy.tabular import Tables, make_tabular
from drigm.runtime.devices import use_cores
from drigm.training.programs import make_train
from drigm.verification.exact import TabularProblem, agent_wise_values, robust_values

# Uniform data, all of it kept, and a slow end, so that what is left is sampling error.
LEARN = TrainConfig(
    steps=64_000,
    hidden=32,
    bowls=1,
    num_envs=16,
    epsilon_end=1.0,
    replay_size=64_000,
    window=3,
    burn_in=0,
    batch=64,
    learning_starts=320,
    learning_rate=5e-3,
    learning_rate_end=1e-5,
    dual_learning_rate=5e-3,
    dual_learning_rate_end=1e-5,
    average_decay=0.998,
    target_period=20,
    shards=1,
)
PLAY_ENVS, PLAY_STEPS = 64, 32
TOLERANCE = 0.1  # of the spread of the exact robust values over states


class Agreement(NamedTuple):
    """A learnt team against the exact robust solution.

    ``learned`` and ``exact`` are robust values by state that is not terminal; ``error`` is their largest difference as
    a share of the spread of the exact ones; ``policy`` the share of those states whose greedy joint action is
    robust-optimal; ``differs`` in how many states the nominally optimal one is not.
    """

    factorization: str
    uncertainty: str
    rho: float
    learned: list[float]
    exact: list[float]
    error: float
    policy: float
    differs: int

    @property
    def holds(self) -> bool:
        """Whether policy and values agree, the latter within `TOLERANCE`."""
        return self.policy == 1.0 and self.error <= TOLERANCE

    def __str__(self) -> str:
        return (
            f"{self.factorization:<10} {self.uncertainty} rho {self.rho:g}: greedy joint action is robust-optimal in "
            f"{100 * self.policy:.0f} % of {len(self.exact)} states (the nominal optimum fails in {self.differs}); "
            f"largest value error {100 * self.error:.1f} % of the spread"
        )


def learned_agreement(
    problem: TabularProblem, factorization: str, uncertainty: str, rho: float, *, config: TrainConfig = LEARN
) -> Agreement:
    """Train ``factorization`` on ``problem`` with the learner that every run uses, and compare with the exact solution.

    Args:
        problem: fully observed, with a horizon; every agent has the same number of actions.
        factorization: a name in `FACTORIZATIONS`.
        uncertainty: a name in `SETS`.
        rho: radius.
        config: everything else; an ``agent_rho`` of it stands for the set.
    """
    env = make_tabular(
        "tabular:verify",
        Tables(
            problem.transitions,
            problem.rewards,
            problem.initial,
            problem.terminal,
            problem.actions,
            problem.horizon or 32,
        ),
    )
    config = config.replace(
        env=env.spec.name, factorization=factorization, uncertainty=uncertainty, rho=rho, gamma=problem.gamma
    )
    fail_value = float(make_robustness(config, env.spec, jnp.float32(rho)).fail_value) / env.spec.reward_scale
    problem = problem._replace(fail_value=fail_value)
    # The cap is that of the learner's KL set; others have none.
    if config.agent_rho:
        uncertainty, rho = "agent-wise", config.agent_rho
        exact = agent_wise_values(problem, rho)
    else:
        exact = robust_values(problem, uncertainty, rho, max_ratio=MAX_RATIO if uncertainty == "kl" else None)
    nominal = robust_values(problem, "nominal", 0.0)
    values, actions = _learned(config, env)
    going = np.flatnonzero(~problem.terminal)
    best, gap = exact.max(axis=1), 1e-6
    chosen = exact[going, actions[going]]
    greedy_nominal = exact[going, nominal.argmax(axis=1)[going]]
    error = np.abs(values - best)[going].max() / max(float(np.ptp(best[going])), 1e-9)
    return Agreement(
        factorization,
        uncertainty,
        rho,
        [float(x) for x in values[going]],
        [float(x) for x in best[going]],
        float(error),
        float(np.mean(chosen >= best[going] - gap)),
        int(np.sum(greedy_nominal < best[going] - gap)),
    )


def _learned(config: TrainConfig, env: Environment) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean greedy value [S] and the commonest greedy joint action [S] of a team trained on ``env``."""
    use_cores(1)
    programs = make_train(config, env, runs=1)
    state = programs.init(jnp.full(1, config.first_seed, jnp.int32), jnp.full(1, config.rho, jnp.float32))
    state, _ = programs.chunk(state, jnp.int32(0), jnp.int32(config.ticks))
    learnt, robustness = jax.tree.map(lambda x: x[0, 0], (state.learner, state.robustness))
    learner = make_learner(config, env.spec)
    spec, (agents, mixer) = env.spec, learnt.average

    def act(carry: RolloutState, key: Array) -> tuple[Memory, Array, tuple[Array, Array, Array]]:
        """Act at random, and note the state, the greedy team's value and its joint action."""
        step = stored_step(env, carry)
        memory, features, action = rollout.perceive(agents, carry.memory, step)
        now = standardise(step.state, spec.state_offset, spec.state_scale)
        team = team_of(agents, features, action[None], now[None], None)
        value = learner.method.factorization.joint_value(mixer, team)[0]
        taken = explore(key, action, None, Exploration(jnp.float32(1.0)), spec.num_actions)
        return memory, taken, (jnp.argmax(step.state, axis=-1), value, action)

    @jax.jit
    def played(key: Array) -> tuple[Array, Array, Array]:
        k_start, k_steps = jax.random.split(key)
        carry = rollout.start(env, agents, k_start, PLAY_ENVS)
        k_act, k_env = key_pairs(k_steps, PLAY_STEPS)
        return play(env, act, carry, k_env, k_act)[1].noted

    where, value, action = (np.asarray(x) for x in played(jax.random.key(1)))  # [L, B], [L, B], [L, B, N]
    joint = np.asarray(np.ravel_multi_index(tuple(np.moveaxis(action, -1, 0)), (spec.num_actions,) * spec.num_agents))
    offset = float(nature_of(learner.method, robustness).offset)
    values, actions = np.full(spec.state_size, np.nan), np.zeros(spec.state_size, int)
    for s in np.unique(where):
        values[s] = (value[where == s].mean() + offset) / spec.reward_scale
        actions[s] = np.bincount(joint[where == s]).argmax()
    return values, actions
