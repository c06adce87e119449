"""Robust dynamic programming against brute force: every policy, every extreme model, by hand-written sums."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from drigm.core.errors import UserError
from drigm.verification.exact import (
    WORST_CASE,
    decompose,
    from_dec_pomdp,
    gamble_problem,
    make_problem,
    model_values,
    nominal_model,
    policy_values,
    random_problem,
    robust_values,
    state_values,
    worst_model,
)

RADII = {"nominal": 0.0, "contamination": 0.2, "tv": 0.25, "chi2": 0.5, "kl": 0.2, "wasserstein": 0.6}


@pytest.fixture(scope="module")
def problems():
    """A few random problems: with and without terminal states, with and without a fail state."""
    rng = np.random.default_rng(5)
    return [
        random_problem(rng, states=4, actions=(2, 2)),
        random_problem(rng, states=5, actions=(3, 2), terminal_states=1, fail_value=-9.0),
        random_problem(rng, states=3, actions=(2, 2, 2), gamma=0.85, local_histories=2),
    ]


def tiny_dec_pomdp(horizon, seed=0):
    """Two hidden states, 2 agents; agent 1 sees a noisy sign, agent 2 sees nothing."""
    rng = np.random.default_rng(seed)
    T = rng.dirichlet([1.0, 1.0], (2, 4))
    O = np.broadcast_to([[0.85, 0.15], [0.3, 0.7]], (4, 2, 2))  # noqa: E741
    R = rng.normal(size=(2, 4))
    b0 = [0.5, 0.5]
    problem = from_dec_pomdp(b0, T, O, R, actions=(2, 2), observation_counts=(2, 1), horizon=horizon)
    return problem, (np.array(b0), T, O, R)


def extreme_models(uncertainty, p, rho):
    """The corners of the set around the distribution p of two outcomes."""
    if uncertainty == "nominal":
        return [p]
    if uncertainty == "contamination":
        return [(1 - rho) * p + rho * corner for corner in np.eye(2)]
    low, high = max(p[0] - rho, 0), min(p[0] + rho, 1)  # tv
    return [np.array([x, 1 - x]) for x in (low, high)]


def brute_force(arrays, uncertainty, rho):
    """max over policies of min over models of the return, horizon 3, one observation of 2 values after each action.

    A policy: a first action, one for each observation, one for each pair. A model: an observation distribution
    after the empty history, and one after each first observation (those that the policy reaches).
    """
    b0, T, O, R = arrays  # noqa: E741

    def after(b, a):
        joint = (b @ T[:, a])[:, None] * O[a]
        return joint.sum(0), [joint[:, o] / joint[:, o].sum() for o in range(2)]

    best = -np.inf
    for a0 in range(4):
        p0, b1 = after(b0, a0)
        for a1 in product(range(4), repeat=2):
            p1, b2 = zip(*(after(b1[o], a1[o]) for o in range(2)), strict=True)
            # the last actions are chosen after everything random: the best one for each history, in every model
            last = [[max(b2[o][u] @ R[:, a] for a in range(4)) for u in range(2)] for o in range(2)]
            sets = [extreme_models(uncertainty, p, rho) for p in (p0, *p1)]
            returns = [
                b0 @ R[:, a0] + sum(q0[o] * (b1[o] @ R[:, a1[o]] + (q10, q11)[o] @ last[o]) for o in range(2))
                for q0, q10, q11 in product(*sets)
            ]
            best = max(best, min(returns))
    return best


@pytest.mark.parametrize("uncertainty", ["nominal", "contamination", "tv"])
@pytest.mark.parametrize("seed", range(4))
def test_a_tiny_dec_pomdp_equals_brute_force(uncertainty, seed):
    problem, arrays = tiny_dec_pomdp(3, seed)
    for rho in (0.0,) if uncertainty == "nominal" else (0.1, 0.3):
        V = state_values(robust_values(problem, uncertainty, rho))
        np.testing.assert_allclose(V[0], brute_force(arrays, uncertainty, rho), atol=1e-12)


def test_the_tree_of_a_dec_pomdp():
    problem, (b0, T, O, R) = tiny_dec_pomdp(2)  # noqa: E741
    assert problem.rewards.shape == (1 + 4 * 2 + 1, 4)  # the empty history, (a, o), the end
    assert problem.terminal.tolist() == [False] * 9 + [True]
    np.testing.assert_allclose(problem.rewards[0], b0 @ R)
    np.testing.assert_allclose(problem.transitions[0, 2, 1 + 2 * 2 : 3 + 2 * 2], b0 @ T[:, 2] @ O[2])
    np.testing.assert_allclose(problem.transitions[1:, :, -1], 1)
    # Agent 1 tells its 2 x 2 (action, observation) pairs apart, agent 2 only its own 2 actions.
    assert [len(set(row)) for row in problem.local.tolist()] == [1 + 4 + 1, 1 + 2 + 1]
    together = problem.local[1, 1:9].reshape(4, 2)
    assert np.all(together[[0, 2]] == together[0, 0])
    assert np.all(together[[1, 3]] == together[1, 0])
    # Nature uses only what can follow (h, a): nothing at the end of the horizon can be made worse.
    np.testing.assert_allclose(robust_values(problem, "tv", 0.9)[1:9], problem.rewards[1:9])


def policy_return(problem, model, policy):
    """Discounted return of a policy under one model, summed over 250 steps of the state distribution."""
    S = len(policy)
    chain = model.transitions[np.arange(S), policy]
    step = problem.rewards[np.arange(S), policy] + problem.gamma * model.fail_mass[np.arange(S), policy] * (
        problem.fail_value or 0
    )
    chain, step = np.where(problem.terminal[:, None], 0, chain), np.where(problem.terminal, 0, step)
    values, reach = np.zeros(S), np.eye(S)
    for _ in range(250):
        values, reach = values + reach @ step, problem.gamma * reach @ chain
    return values


@pytest.mark.parametrize("uncertainty", WORST_CASE)
def test_policy_values_are_the_least_return_over_models(problems, uncertainty):
    """P_worst of a policy attains its robust value, and no other model of the set is worse for it."""
    rng = np.random.default_rng(1)
    for problem in problems:
        S, J = problem.rewards.shape
        policy = rng.integers(0, J, S)
        Q = policy_values(problem, uncertainty, RADII[uncertainty], policy)
        V = state_values(Q, policy)
        worst = worst_model(problem, uncertainty, RADII[uncertainty], V)
        np.testing.assert_allclose(policy_return(problem, worst, policy), V, atol=1e-8)
        for _ in range(12):  # the worst model for other values is another model of the set
            other = worst_model(problem, uncertainty, RADII[uncertainty], rng.normal(0, 5, S))
            assert np.all(policy_return(problem, other, policy) >= V - 1e-8)


@pytest.mark.parametrize("uncertainty", WORST_CASE)
def test_the_robust_policy_is_the_best_of_all(uncertainty):
    rng = np.random.default_rng(8)
    problem = random_problem(rng, states=3, actions=(2, 2), gamma=0.9)
    rho = RADII[uncertainty]
    V = state_values(robust_values(problem, uncertainty, rho))
    each = [
        state_values(policy_values(problem, uncertainty, rho, list(policy)), np.array(policy))
        for policy in product(range(4), repeat=3)
    ]
    np.testing.assert_allclose(np.max(each, 0), V, atol=1e-8)


@pytest.mark.parametrize("uncertainty", WORST_CASE)
def test_the_one_worst_model_gives_the_robust_values_back(problems, uncertainty):
    for problem in problems:
        rho = RADII[uncertainty]
        Q = robust_values(problem, uncertainty, rho)
        model = worst_model(problem, uncertainty, rho, state_values(Q))
        np.testing.assert_allclose(model.transitions.sum(-1) + model.fail_mass, 1, atol=1e-12)
        np.testing.assert_allclose(model_values(problem, model), Q, atol=1e-8)
        np.testing.assert_allclose(model_values(problem, model, Q.argmax(-1)), Q, atol=1e-8)
        # Nature cannot touch terminations.
        ends = problem.terminal
        np.testing.assert_array_equal(model.transitions[:, :, ends], problem.transitions[:, :, ends])


@pytest.mark.parametrize("uncertainty", WORST_CASE)
def test_robust_is_at_most_nominal_and_radius_0_is_nominal(problems, uncertainty):
    for problem in problems:
        nominal = model_values(problem, nominal_model(problem))
        np.testing.assert_allclose(robust_values(problem, uncertainty, 0.0), nominal, atol=1e-8)
        if uncertainty != "nominal":
            assert np.all(robust_values(problem, uncertainty, RADII[uncertainty]) <= nominal + 1e-9)
            assert np.any(robust_values(problem, uncertainty, RADII[uncertainty]) < nominal - 1e-3)


def test_contamination_with_a_fail_state_is_the_learners_target(problems):
    """``r + gamma (E[(1 - terminated) ((1 - rho) V' + rho m)])`` at the fixed point."""
    problem, rho = problems[1], 0.2
    Q = robust_values(problem, "contamination", rho)
    target = (1 - rho) * Q.max(-1) + rho * problem.fail_value
    expected = problem.rewards + problem.gamma * problem.transitions @ (~problem.terminal * target)
    np.testing.assert_allclose(Q[~problem.terminal], expected[~problem.terminal], atol=1e-8)


def test_by_hand():
    """One decision; the next state is worth 4 or 0 with 3/4, 1/4; TV moves 1/4: r + gamma 2."""
    P = np.zeros((3, 2, 3))
    P[0, :, 1], P[0, :, 2] = 0.75, 0.25
    P[1:, :, 2] = 1
    rewards = [[1, 0], [4, 4], [0, 0]]
    problem = make_problem(P, rewards, (2,), 0.5, allowed=P > 0)
    np.testing.assert_allclose(robust_values(problem, "tv", 0.25)[0], [2, 1])
    # If state 2 ends the episode, its 1/4 cannot be moved and state 1 is all that may follow.
    ending = problem._replace(terminal=np.array([False, False, True]))
    np.testing.assert_allclose(robust_values(ending, "tv", 0.25)[0], [1 + 0.5 * 3, 0.5 * 3])


def test_a_radius_for_each_state_and_action(problems):
    problem = problems[0]
    rho = np.zeros((4, 4))
    Q = robust_values(problem, "tv", rho)
    rho[2, 1] = 0.5
    V = state_values(Q)
    assert np.all(worst_model(problem, "tv", rho, V).transitions[0] == problem.transitions[0])
    assert np.any(worst_model(problem, "tv", rho, V).transitions[2, 1] != problem.transitions[2, 1])


def test_what_does_not_end_is_refused():
    forever = make_problem(np.ones((1, 2, 1)), [[1.0, 0.0]], (2,), 1.0)
    with pytest.raises(UserError, match="did not settle"):
        robust_values(forever, "tv", 0.1, max_sweeps=50)
    with pytest.raises(UserError, match="no value"):
        model_values(forever, nominal_model(forever))


def test_bad_problems_are_refused():
    with pytest.raises(UserError, match="transitions"):
        make_problem(np.ones((2, 2, 2)), np.zeros((2, 2)), (2,), 0.9)
    with pytest.raises(UserError, match="rewards"):
        make_problem(np.full((2, 2, 2), 0.5), np.zeros((2, 3)), (2,), 0.9)
    with pytest.raises(UserError, match="gamma"):
        make_problem(np.full((2, 2, 2), 0.5), np.zeros((2, 2)), (2,), 1.1)
    problem = make_problem(np.full((2, 2, 2), 0.5), np.zeros((2, 2)), (2,), 0.9)
    with pytest.raises(UserError, match="policy"):
        policy_values(problem, "tv", 0.1, [0, 2])
    with pytest.raises(UserError, match="joint histories"):
        tiny_dec_pomdp(6)


def test_the_gamble_by_hand():
    """Closed forms of `gamble_problem`: V is constant in each state's greedy loop."""
    problem = gamble_problem()
    nominal = model_values(problem, nominal_model(problem))
    peak = 5 / (1 - 0.8)
    valley = 0.8 * 0.28 * peak / (1 - 0.8 * 0.72)  # climbing
    np.testing.assert_allclose(state_values(nominal), [valley, peak])
    assert nominal.argmax(-1).tolist() == [3, 3]
    robust = np.array([2, 5]) / (1 - 0.8 * 0.7)  # staying, holding on; m = 0
    for uncertainty, loss in (("contamination", 0.8 * 0.7 * 0.14 * (robust[1] - robust[0])), ("tv", 0.0)):
        Q = robust_values(problem, uncertainty, 0.3)
        np.testing.assert_allclose(state_values(Q), robust)
        assert Q.argmax(-1).tolist() == [0, 3]
        np.testing.assert_allclose(Q[0], robust[0] - np.array([0, 1, 1, 2]) * (1 - loss))
    for Q in (nominal, robust_values(problem, "contamination", 0.3), robust_values(problem, "tv", 0.3)):
        assert decompose(Q, problem.actions, "vdn").residual < 1e-9
        ordered = np.sort(Q, -1)
        assert np.all(ordered[:, -1] - ordered[:, -2] > 0.3)
