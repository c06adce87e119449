"""The examples of docs/plug-ins.md under the exact checks of drigm's own sets and factorizations."""

import itertools

import numpy as np
import pytest
import test_factorizations as aligned
import test_uncertainty as exact
from plugged import registries  # noqa: F401 (a fixture)

import drigm

draws = aligned.draws
pytestmark = pytest.mark.usefixtures("registries")


@pytest.fixture(autouse=True)
def examples(registries):  # noqa: F811
    from drigm_example.cvar import CVaR
    from drigm_example.weighted import Weighted

    drigm.register_uncertainty(CVaR)
    drigm.register_factorization(Weighted)


@pytest.mark.parametrize("name", exact.PROBLEMS)
def test_the_example_set_is_the_worst_models_mean(name):
    exact.test_bootstrap_is_the_worst_models_mean("cvar", name)
    exact.test_no_dual_variables_promise_more_than_the_worst_model("cvar", name)


@pytest.mark.parametrize("name", exact.PROBLEMS)
def test_the_example_set_is_nominal_at_0_and_costs_more_with_more_radius(name):
    values, p, _ = exact.problem(name)
    curve = [exact.robust_value("cvar", name, rho) for rho in exact.radii("cvar")]
    assert len(curve) > 5
    np.testing.assert_allclose(curve[0], float(values @ p), **exact.TOLERANCE)
    assert all(later <= earlier + 2e-4 for earlier, later in itertools.pairwise(curve))
    assert (curve[-1] < curve[0] - 0.1) == (np.ptp(values) > 0.0)
    exact.test_radius_0_is_nominal_whatever_the_dual_variables("cvar")
    exact.test_the_fail_value_is_ignored_where_nature_cannot_reach_it("cvar")


def test_greedy_agents_of_the_example_factorization_are_the_greedy_team(draws):
    aligned.test_no_agents_value_ever_lowers_the_teams("weighted", draws)
    aligned.test_the_greedy_agents_are_the_greedy_team("weighted", draws)
    aligned.test_joint_value_is_batched("weighted", None, draws)
