"""An episodic problem of costs on which the paper's fail value 0 picks the worse policy, and `auto` the better one."""

import jax
import numpy as np
import pytest
from small import LEARN, seeds_to_learn, train_all

from drigm.algorithms.value_bounds import auto_fail_value
from drigm.envs import make_env
from drigm.envs.api import Shift
from drigm.envs.toy.tabular import detour
from drigm.evaluation.players import teams
from drigm.evaluation.scores import episode_scores
from drigm.verification.exact import TabularProblem, policy_values

GAMMA, RHO = 0.8, 0.5
CONFIG = LEARN.replace(
    env="tabular:detour",
    factorization="vdn",
    uncertainty="contamination",
    rho=RHO,
    gamma=GAMMA,
    steps=9_600,
    epsilon_end=1.0,
    replay_size=9_600,
    window=3,
    burn_in=0,
)
QUIT, GO_ON = 2, 0  # joint actions (1, 0) and (0, 0): agent 0 decides


def problem():
    tables = detour()
    return TabularProblem(
        tables.transitions,
        tables.rewards,
        tables.actions,
        GAMMA,
        tables.terminal,
        np.tile(np.arange(3), (2, 1)),
        tables.initial,
    )


def test_going_on_is_worse_in_every_model():
    """By hand: -2 against -0.5 - 0.8 * 3 = -2.9. A real state is the worst that nature can reach."""
    for rho in (0.0, RHO):
        quits, goes = (policy_values(problem(), "contamination", rho, [a, 0, 0])[0, a] for a in (QUIT, GO_ON))
        assert quits == -2.0
        np.testing.assert_allclose(goes, -2.9)
    assert auto_fail_value(make_env("tabular:detour").spec, GAMMA) == pytest.approx(
        -1.0 / (1.0 - GAMMA)
    )  # in units of -3


@pytest.mark.slow
@pytest.mark.learns
@pytest.mark.parametrize(("fail_value", "undiscounted"), [(0.0, -3.5), ("auto", -2.0)])
def test_fail_value_0_goes_on_and_auto_quits(fail_value, undiscounted):
    config = CONFIG.replace(fail_value=fail_value)
    env = make_env(config.env)
    seeds = seeds_to_learn(3)
    state, _ = train_all(config, env, seeds=seeds, rho=[RHO] * len(seeds))
    agents = jax.tree.map(lambda x: x[0], state.learner.average.agents)
    returns = episode_scores(env, teams(agents), [Shift("nominal", env.params)])
    np.testing.assert_allclose(returns, undiscounted, rtol=1e-5)
