"""The agent-wise set: its value by hand, who can fail, and what is learnt against the exact solution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SMALL

from drigm.algorithms.agent_wise import agent_wise_value, faulty_team
from drigm.algorithms.factorizations import FACTORIZATIONS, Team
from drigm.algorithms.windows import Batch
from drigm.core.errors import UserError
from drigm.core.naming import method_name
from drigm.envs import make_env
from drigm.training.runs import train_run
from drigm.training.settings import resolve, settle
from drigm.verification.exact import agent_wise_values, check_agent_wise, gamble_problem, robust_values, with_failures
from drigm.verification.learned_vs_exact import LEARN, learned_agreement

RHO = 0.25


def team(q):
    q = jnp.asarray(q, jnp.float32)
    return Team(q, jnp.zeros(q.shape, jnp.int32), jnp.zeros((*q.shape, 1)), jnp.zeros((*q.shape[:-1], 2)))


def of_sum(one):
    return FACTORIZATIONS["vdn"].joint_value((), one)


def test_of_a_sum_it_is_the_largest_loss_that_one_agent_can_cause():
    greedy, faulty = team([[[3.0, 2.0, 1.0]]]), team([[[2.5, -2.0, 0.0]]])
    value = agent_wise_value(of_sum, greedy, faulty, RHO, None)
    np.testing.assert_allclose(value, [[6.0 - RHO * 4.0]])


def test_the_dead_cannot_fail():
    greedy, faulty = team([[[3.0, 2.0, 1.0]]]), team([[[2.5, -2.0, 0.0]]])
    alive = jnp.array([[[True, False, True]]])
    np.testing.assert_allclose(agent_wise_value(of_sum, greedy, faulty, RHO, alive), [[6.0 - RHO * 1.0]])
    nobody = jnp.zeros((1, 1, 3), bool)
    np.testing.assert_allclose(agent_wise_value(of_sum, greedy, faulty, RHO, nobody), [[6.0]])


class Values:
    """Agents whose values are the actions' numbers; agent 1 twice as much."""

    def q_values(self, features):
        del features
        return jnp.array([[[[0.0, 1.0, 2.0, 3.0], [0.0, 2.0, 4.0, 6.0]]]])

    def q_of(self, features, action):
        return jnp.take_along_axis(self.q_values(features), action[..., None], axis=-1)[..., 0]


def test_faults_that_are_impossible_are_replaced():
    spec = make_env("probe:coordinate").spec._replace(num_actions=4, idle_action=1)
    avail = jnp.array([[[[True, False, True, True], [True, True, True, False]]]])
    nothing = jnp.zeros((1, 1))
    batch = Batch(nothing, nothing, nothing, jnp.array([[[2, 3]]]), None, avail, nothing, nothing, nothing)

    def fault(name):
        return faulty_team(Values(), nothing, team([[[3.0, 4.0]]]), batch, name, spec)

    np.testing.assert_array_equal(fault("idle").action, [[[0, 1]]])  # 1 is impossible for the first: its first one
    np.testing.assert_array_equal(fault("stuck").action, [[[2, 1]]])  # 3 is for the second: it idles
    np.testing.assert_array_equal(fault("stuck").q, [[[2.0, 2.0]]])
    np.testing.assert_allclose(fault("random").q, [[[5.0 / 3.0, 2.0]]])  # means over what is possible


def test_the_exact_solution_by_hand_and_the_proof_on_random_teams():
    q = np.array([[3.0, 1.0], [2.0, 0.0]])
    np.testing.assert_allclose(with_failures(q, (1, 1), 0.5), 0.5 * q + 0.5 * np.array([[1.0, 0.0], [0.0, 0.0]]))
    problem = gamble_problem()
    np.testing.assert_allclose(agent_wise_values(problem, 0.0), robust_values(problem, "nominal", 0.0), atol=1e-9)
    assert agent_wise_values(problem, 0.8)[0].argmax() == 0
    assert robust_values(problem, "nominal", 0.0)[0].argmax() == 3
    report = check_agent_wise(draws=50, games=2, seed=3)
    assert report.holds
    assert report.error < 1e-9
    assert not report._replace(error=1e-3).holds
    assert (report.greedy, report.best) == (-2.0, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("factorization", ["vdn", "qmix"])
def test_what_is_learnt_is_the_exact_solution(factorization):
    """At 0.2, where the nominal optimum is right too but worth less, and at 1, where it is wrong."""
    for rho, differs in ((0.2, 0), (1.0, 1)):
        config = LEARN.replace(agent_rho=rho)
        found = learned_agreement(gamble_problem(), factorization, "nominal", 0.0, config=config)
        assert found.holds, str(found)
        assert found.differs == differs


@pytest.mark.slow
@pytest.mark.parametrize("factorization", FACTORIZATIONS)
def test_every_factorization_trains_with_it(tmp_path, factorization):
    config = SMALL.replace(factorization=factorization, agent_rho=0.2, agent_fault="stuck", uncertainty="tv", rho=0.1)
    run = train_run(config, tmp_path / "run", quiet=True)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(run.weights().agents))
    assert "agent-wise 0.2 (stuck)" in method_name(run.config)


def test_what_does_not_go_together_is_one_sentence():
    base = {"env": "probe:coordinate", "factorization": "vdn", "agent_rho": 0.1}
    with pytest.raises(UserError, match="agent_rho"):
        resolve(settle({**base, "baseline": "individual_robust", "uncertainty": "tv", "rho": 0.1}))
    with pytest.raises(UserError, match="agent_fault"):
        resolve(settle({**base, "factorization": "qtran", "agent_fault": "random"}))
