"""The DrIGM checker sees planted violations; the counterexample by hand; the theorem on random problems."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest

from drigm.core.errors import UserError
from drigm.verification.exact import (
    KINDS,
    WORST_CASE,
    at_state,
    check_drigm,
    check_problem,
    check_theorem,
    decompose,
    draw_problem,
    fooled,
    from_dec_pomdp,
    make_problem,
    nominal_model,
    plant,
    private_failure,
    random_problem,
    robust_values,
    solve_counterexample,
    theorem,
)
from drigm.verification.exact.drigm import sum_values
from drigm.verification.exact.theorem import draw_value

MATRIX_GAME = np.array([8, -12, -12, -12, 0, 0, -12, 0, 0.0])


def test_the_checker_by_hand():
    joint = np.array([1.0, 5.0, 2.0, 0.0])  # best: (0, 1)
    good = check_drigm([np.array([3.0, 1.0]), np.array([0.0, 2.0])], joint)
    assert good.holds
    assert good.gap == 0
    assert good.local == good.joint == ((0, 1),)
    bad = check_drigm([np.array([1.0, 3.0]), np.array([2.0, 0.0])], joint)
    assert not bad.holds
    assert bad.gap == 3  # picks (1, 0), worth 2
    assert bad.local == ((1, 0),)


def test_every_tuple_of_tied_actions_has_to_be_right():
    """Agents that must match: each is indifferent, (0, 1) is among the local argmaxes, and wrong."""
    joint = np.array([1.0, 0.0, 0.0, 1.0])
    tied = [np.array([1.0, 1.0]), np.array([1.0, 1.0])]
    found = check_drigm(tied, joint)
    assert not found.holds
    assert found.gap == 1
    assert len(found.local) == 4
    assert found.joint == ((0, 0), (1, 1))
    assert check_drigm(tied, np.zeros(4)).holds
    assert check_drigm([np.array([1.0, 1 - 1e-6]), np.array([1.0, 0.0])], np.array([1.0, 0, 0, 0])).holds
    assert not check_drigm(
        [np.array([1.0, 1 - 1e-6]), np.array([1.0, 0.0])], np.array([1.0, 0, 0, 0]), tolerance=1e-5
    ).holds


def test_the_matrix_game():
    """VDN's closed form misses the 8 and picks 0; a monotone mixer cannot represent it; QTRAN can."""
    vdn, qmix, qtran = (decompose(MATRIX_GAME, (3, 3), kind) for kind in KINDS)
    assert not vdn.holds
    assert check_drigm([q[0] for q in vdn.individual], MATRIX_GAME).gap == 8
    assert not qmix.holds
    assert qmix.residual == 12  # from (1, 1) to (0, 1) agent 1's value rises from 0 to 8, the team's falls by 12
    assert qtran.holds
    np.testing.assert_allclose(qtran.individual[0], [[4, 0, 0]])  # factor 1/2: loss 8 at (1, 1), 16 below
    assert check_drigm([q[0] for q in qtran.individual], MATRIX_GAME).holds


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_is_represented_and_noise_is_not(kind):
    rng = np.random.default_rng(4)
    for actions in ((2, 2), (3, 2), (2, 2, 3)):
        N, J = len(actions), int(np.prod(actions))
        local = rng.integers(0, 3, (N, 4))
        Q = draw_value(rng, kind, actions, local)
        found = decompose(Q, actions, kind, local)
        assert found.holds, found.residual
        for s in range(4):
            assert check_drigm(at_state(found.individual, local, s), Q[s]).holds
        blind = np.zeros((N, 4), int)  # agents that cannot tell states apart, whose best actions differ
        assert not decompose(rng.normal(size=(4, J)), actions, kind, blind).holds


def test_additive_shares_by_hand():
    """Minimum norm: main effect plus an equal share of the mean. [[19, 14.4], [7.6, 3]]: mean 11."""
    found = decompose(np.array([19, 14.4, 7.6, 3]), (2, 2), "vdn")
    np.testing.assert_allclose(found.individual[0], [[16.7 - 5.5, 5.3 - 5.5]])
    np.testing.assert_allclose(found.individual[1], [[13.3 - 5.5, 8.7 - 5.5]])
    assert found.residual < 1e-12


def test_shapes_and_kinds_are_checked():
    with pytest.raises(UserError, match="joint"):
        check_drigm([np.zeros(2), np.zeros(2)], np.zeros(3))
    with pytest.raises(UserError, match="kind"):
        decompose(np.zeros(4), (2, 2), "sum")
    with pytest.raises(UserError, match="local"):
        decompose(np.zeros(4), (2, 2), "vdn", np.zeros((2, 2), int))


def test_the_counterexample_from_scratch():
    """Every number again, without the solver: x, the market's value, is 20 q with |q - 1/2| <= 2/5."""
    reach, paid = np.array([[1.0, 0.8], [0.2, 0.0]]), np.array([[1.0, 0.0], [4.0, 3.0]])

    def own_values(team):  # main effects plus half of the mean
        return team.mean(1) - team.mean() / 2, team.mean(0) - team.mean() / 2

    shares = []
    for x in np.linspace(2, 18, 33):
        team = paid + reach * x
        q1, q2 = own_values(team)
        np.testing.assert_allclose(q1[:, None] + q2, team)  # additive under every model of the set
        shares.append((q1, q2))
    alone = np.min(shares, axis=0)
    robust = paid + reach * 2
    alone_action = tuple(alone.argmax(1))
    shared = own_values(robust)
    shared_action = tuple(np.argmax(q) for q in shared)
    assert (alone_action, shared_action) == ((0, 0), (1, 0))
    np.testing.assert_allclose([robust[alone_action], robust[shared_action], robust.max()], [3.0, 4.4, 4.4])

    found = solve_counterexample()
    assert fooled(found)
    np.testing.assert_allclose(found.robust.reshape(2, 2), robust)
    np.testing.assert_allclose(found.alone, alone, atol=1e-12)
    np.testing.assert_allclose(found.shared, shared)
    assert (found.alone_action, found.shared_action) == (alone_action, shared_action)
    np.testing.assert_allclose([found.alone_value, found.shared_value], [3.0, 4.4])
    # Two models that are never true together: agent 1 meets x = 2 going, x = 18 staying away.
    np.testing.assert_allclose(found.models, [2, 18])
    assert shares[0][0].argmin() == 0
    assert np.argmin([q[0][1] for q in shares]) == len(shares) - 1


def test_the_counterexample_prints_both_values_and_is_json():
    found = solve_counterexample()
    assert "(toward, toward): robust team value 3.00" in str(found)
    assert "(away, toward): robust team value 4.40" in str(found)
    assert json.loads(json.dumps(found.summary()))["individually_robust"]["robust_team_value"] == pytest.approx(3.0)
    assert not fooled(found._replace(alone=found.shared))
    assert not fooled(found._replace(shared=found.alone))


def test_the_counterexample_holds_for_random_models_of_the_set():
    """No model between the corners has a lower individual value, and none a lower team value of the robust choice."""
    found = solve_counterexample()
    rng = np.random.default_rng(0)
    for x in rng.uniform(*found.models, 50):
        team = np.array([1.0, 0.0, 4.0, 3.0]) + np.array([1.0, 0.8, 0.2, 0.0]) * x
        own = np.stack(decompose(team, (2, 2), "vdn").individual)[:, 0]
        assert np.all(own >= found.alone - 1e-12)
        assert np.all(team >= found.robust - 1e-12)


def test_the_theorem_on_random_problems():
    report = check_theorem(180, seed=1)
    assert (report.problems, report.violations) == (180, 0)
    for counts in (report.by_kind, report.by_set):
        assert sum(c["problems"] for c in counts.values()) == 180
        assert sum(c["private_failures"] for c in counts.values()) == report.private_failures
    assert set(report.by_kind) == set(KINDS)
    assert set(report.by_set) == set(WORST_CASE)
    assert report.private_problems == 120
    assert report.by_set["nominal"]["private_failures"] == 0
    assert "180 random problems, 0 violations" in str(report)
    json.dumps(report._asdict())


@pytest.mark.parametrize("uncertainty", ["contamination", "tv", "chi2", "kl"])
def test_the_theorem_on_a_dec_pomdp(uncertainty):
    """Joint histories that no agent knows alone: values of own histories only, in a tree with nature in it."""
    rng = np.random.default_rng(6)
    tree = from_dec_pomdp(
        [0.6, 0.4],
        rng.dirichlet([1.0, 1.0], (2, 4)),
        rng.dirichlet([1.0, 1.0], (4, 2)),
        rng.normal(size=(2, 4)),
        actions=(2, 2),
        observation_counts=(2, 1),
        horizon=3,
    )
    for kind in KINDS:
        problem, expected = plant(rng, tree, kind, uncertainty, 0.2)
        assert not check_problem(problem, kind, uncertainty, 0.2, expected).violates


def test_the_theorem_check_can_fail(monkeypatch):
    rng = np.random.default_rng(3)
    problem, expected, _ = draw_problem(rng, "vdn", "tv")
    rho = 0.3
    problem, expected = plant(rng, problem, "vdn", "tv", rho)
    assert not check_problem(problem, "vdn", "tv", rho, expected).violates
    # another value than the drawn one
    assert not check_problem(problem, "vdn", "tv", rho, expected + 1e-3).recovered
    # rewards that no sum of individual values represents
    twisted = problem._replace(rewards=problem.rewards + 5 * rng.normal(size=problem.rewards.shape))
    assert not check_problem(twisted, "vdn", "tv", rho, expected).represented
    # individual values of the nominal model in place of the worst
    monkeypatch.setattr(theorem, "worst_model", lambda problem, *_: nominal_model(problem))
    assert not check_problem(problem, "vdn", "tv", rho, expected).same_value
    assert theorem.check_theorem(6, uncertainties=["tv"]).violations > 0


def test_values_of_the_nominal_model_do_not_align():
    """The theorem needs P_worst: individual values under P0 often pick what is not robust-optimal."""
    rng = np.random.default_rng(12)
    wrong = 0
    for _ in range(20):
        problem, Q, _ = draw_problem(rng, "vdn", "tv")
        nominal = robust_values(problem, "nominal", 0.0)
        own = decompose(nominal, problem.actions, "vdn", problem.local)
        states = np.flatnonzero(~problem.terminal)
        wrong += not all(check_drigm(at_state(own.individual, problem.local, s), Q[s]).holds for s in states)
    assert wrong > 0


def test_private_worst_cases_refuse_a_hedge():
    """Agents whose shares hedge each other: 4 + 0 or 0 + 4. Each alone fears its 0 and takes 3 in place of 4."""
    START, LEFT, RIGHT, CALM, END = range(5)
    P = np.zeros((5, 4, 5))
    P[START, :, CALM] = 1
    P[START, 0] = [0, 0.5, 0.5, 0, 0]  # (0, 0) gambles
    P[1:, :, END] = 1
    rewards = np.zeros((5, 4))
    rewards[[LEFT, RIGHT, CALM]] = [[4], [4], [3]]
    allowed = P > 0
    problem = make_problem(P, rewards, (2, 2), 1.0, terminal=np.arange(5) == END, allowed=allowed)
    Q = robust_values(problem, "tv", 0.5)
    np.testing.assert_allclose(Q[START], [4, 3, 3, 3])
    hedged = np.array([[4, 4, 0, 1.5, 0], [0, 0, 4, 1.5, 0]])  # of each agent in each state; the start's is not used
    even = np.array([[2, 2, 2, 1.5, 0]] * 2)
    for shares, fails in ((hedged, True), (even, False)):
        individual = [np.repeat(share[:, None], 2, 1) for share in shares]
        np.testing.assert_allclose(sum_values(individual, problem.local).reshape(5, 4)[1:], Q[1:])
        assert private_failure(problem, "tv", 0.5, individual, Q) is fails
        assert private_failure(problem, "nominal", 0.0, individual, Q) is False


def test_bad_requests_are_refused():
    with pytest.raises(UserError, match="problems"):
        check_theorem(0)
    with pytest.raises(UserError, match="kind"):
        check_theorem(1, kinds=["sum"])
    with pytest.raises(UserError, match="uncertainty"):
        check_theorem(1, uncertainties=["euclid"])


def test_enumeration_agrees_with_a_plain_loop():
    rng = np.random.default_rng(9)
    for _ in range(50):
        actions = tuple(rng.integers(2, 4, 3))
        joint = rng.integers(0, 4, actions).astype(float)
        own = [rng.integers(0, 3, A).astype(float) for A in actions]
        expected = all(
            joint[a] == joint.max()
            for a in product(*(range(A) for A in actions))
            if all(q[x] == q.max() for q, x in zip(own, a, strict=True))
        )
        assert check_drigm(own, joint.reshape(-1)).holds is expected


def test_random_problems_are_what_was_asked_for():
    problem = random_problem(np.random.default_rng(0), states=5, actions=(2, 3), local_histories=2, terminal_states=1)
    assert problem.transitions.shape == (5, 6, 5)
    assert problem.terminal.tolist() == [False] * 4 + [True]
    assert problem.local.shape == (2, 5)
    assert problem.local.max() <= 1
