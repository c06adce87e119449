"""Every set's worst model against an independent solver: linear programmes, SLSQP, and fine grids of the dual."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from drigm.core.errors import UserError
from drigm.verification.exact import WORST_CASE, worst_case, worst_values

# name: (values V of the states, nominal probabilities)
PROBLEMS = {
    "positive": ([1.0, 2.5, 4.0, 7.0], [0.1, 0.2, 0.3, 0.4]),
    "negative": ([-9.0, -1.0, -4.5, -5.0], [0.4, 0.1, 0.1, 0.4]),
    "mixed": ([2.0, -3.0, 0.0, -0.5, 6.0], [0.2, 0.2, 0.2, 0.2, 0.2]),
    "rare-loss": ([4.0, -20.0, 5.0], [0.6, 0.01, 0.39]),
    "ties": ([-2.0, -2.0, 5.0, 5.0], [0.25, 0.25, 0.25, 0.25]),
    "without-mass": ([3.0, -7.0, 1.0], [0.5, 0.0, 0.5]),
    "constant": ([2.0, 2.0, 2.0], [0.2, 0.3, 0.5]),
    "certain": ([2.0, -1.0], [1.0, 0.0]),
}
RADII = (0.0, 0.02, 0.1, 0.3, 0.7, 1.0)
WIDE = ("chi2", "kl", "wasserstein")  # sets whose radius may exceed 1
SLACK = 1e-9


def line(n):
    """Distances |i - j|, in units that make the radii above interesting."""
    return np.abs(np.subtract.outer(np.arange(n), np.arange(n))).astype(float)


def problem(name):
    values, p = PROBLEMS[name]
    return np.array(values), np.array(p)


def solve(uncertainty, name, rho, **options):
    values, p = problem(name)
    distance = line(len(p)) if uncertainty == "wasserstein" else None
    return worst_case(uncertainty, values, p, rho, distance=distance, **options)


def radii(uncertainty):
    return {"nominal": (0.0,)}.get(uncertainty, (*RADII, 2.5) if uncertainty in WIDE else RADII)


def linear_programme(uncertainty, v, p, rho):
    """``min q . v`` for the sets that are polytopes."""
    n = len(v)
    one, zero = np.ones((1, n)), np.zeros((1, n))
    if uncertainty == "tv":  # t >= |q - p|, sum t <= 2 rho
        above = np.block([[np.eye(n), -np.eye(n)], [-np.eye(n), -np.eye(n)], [zero, one]])
        limits = np.concatenate([p, -p, [2 * rho]])
        solved = linprog(np.append(v, np.zeros(n)), above, limits, np.hstack([one, zero]), [1])
    elif uncertainty == "contamination":
        solved = linprog(v, -np.eye(n), -(1 - rho) * p, one, [1])
    else:  # a transport plan [i, j]
        solved = linprog(np.tile(v, n), line(n).reshape(1, -1), [rho], np.kron(np.eye(n), one), p)
    assert solved.success
    return solved.fun


def divergence(uncertainty, q, p):
    support = p > 0
    assert np.all(q[~support] == 0)
    q, p = q[support], p[support]
    if uncertainty == "chi2":
        return float(((q - p) ** 2 / p).sum())
    return float((q[q > 0] * np.log(q[q > 0] / p[q > 0])).sum())


def convex_programme(uncertainty, v, p, rho, cap=np.inf):
    """``min q . v`` by SLSQP from several interior starts, over the support of p."""
    v, p = v[p > 0], p[p > 0]
    slope = {"chi2": lambda q: -2 * (q - p) / p, "kl": lambda q: -np.log(q / p) - 1}[uncertainty]
    constraints = [
        {"type": "eq", "fun": lambda q: q.sum() - 1, "jac": np.ones_like},
        {"type": "ineq", "fun": lambda q: rho - divergence(uncertainty, q, p), "jac": slope},
    ]
    bounds = [(1e-13, min(1.0, cap * x)) for x in p]
    best = np.inf
    for toward in np.eye(len(p)):
        start = 0.97 * p + 0.03 * toward
        solved = minimize(
            lambda q: q @ v,
            start,
            jac=lambda q: v,
            bounds=bounds,
            constraints=constraints,
            options={"maxiter": 500, "ftol": 1e-14},
        )
        if divergence(uncertainty, solved.x, p) <= rho + 1e-7 and abs(solved.x.sum() - 1) < 1e-9:
            best = min(best, solved.fun)
    return best


def dual_grid(uncertainty, v, p, rho):
    """A lower bound of the worst value that is close to it: the set's dual on a fine grid."""
    v, p = v[p > 0], p[p > 0]
    span = max(np.ptp(v), 1.0)
    if uncertainty == "chi2":  # sup eta - sqrt(1 + rho) sqrt(E (eta - V)_+^2)
        eta = np.concatenate([np.linspace(v.min(), v.max(), 40001), v.max() + span * np.geomspace(1e-4, 1e5, 40001)])
        below = np.maximum(eta[:, None] - v, 0)
        return (eta - np.sqrt(1 + rho) * np.sqrt(below**2 @ p)).max()
    lam = span * np.geomspace(1e-6, 1e6, 200001)[:, None]  # sup -lam log E exp(-V / lam) - lam rho
    tilted = -lam[:, 0] * np.log(np.exp(-(v - v.min()) / lam) @ p) + v.min()
    return max((tilted - lam[:, 0] * rho).max(), v.min())


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("uncertainty", ["contamination", "tv", "wasserstein"])
def test_polytopes_equal_the_linear_programme(uncertainty, name):
    v, p = problem(name)
    for rho in radii(uncertainty):
        expected = linear_programme(uncertainty, v, p, rho)
        np.testing.assert_allclose(
            solve(uncertainty, name, rho).value, expected, rtol=1e-8, atol=1e-8, err_msg=str(rho)
        )


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("uncertainty", ["contamination", "tv"])
def test_the_fail_state_is_one_more_state(uncertainty, name):
    v, p = problem(name)
    for rho, fail_value in itertools.product(RADII, (-30.0, float(v.min()))):
        expected = linear_programme(uncertainty, np.append(v, fail_value), np.append(p, 0.0), rho)
        found = solve(uncertainty, name, rho, fail_value=fail_value)
        np.testing.assert_allclose(found.value, expected, atol=1e-8)
        np.testing.assert_allclose(found.q.sum() + found.fail_mass, 1)
        if uncertainty == "contamination":
            np.testing.assert_allclose(found.value, (1 - rho) * p @ v + rho * fail_value)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("uncertainty", ["chi2", "kl"])
def test_divergences_equal_the_dual_grid_and_slsqp(uncertainty, name):
    v, p = problem(name)
    for rho in radii(uncertainty)[1:]:
        found = float(solve(uncertainty, name, rho).value)
        below = dual_grid(uncertainty, v, p, rho)
        assert below - 1e-9 <= found <= below + 1e-4 * (1 + abs(below)), rho
        above = convex_programme(uncertainty, v, p, rho)
        assert above - 2e-5 * (1 + abs(above)) <= found <= above + 1e-6, rho


@pytest.mark.parametrize("cap", [1.0, 1.2, 2.0, 5.0])
@pytest.mark.parametrize("name", PROBLEMS)
def test_kl_with_bounded_ratios_equals_slsqp(name, cap):
    v, p = problem(name)
    for rho in (0.02, 0.1, 0.7, 2.5):
        found = solve("kl", name, rho, max_ratio=cap)
        assert np.all(found.q <= cap * p + SLACK)
        assert divergence("kl", found.q, p) <= rho + SLACK
        above = convex_programme("kl", v, p, rho, cap)
        assert above - 2e-5 * (1 + abs(above)) <= found.value <= above + 1e-6, rho


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("uncertainty", WORST_CASE)
def test_the_minimiser_is_in_the_set_and_attains_the_value(uncertainty, name):
    v, p = problem(name)
    for rho in radii(uncertainty):
        found = solve(uncertainty, name, rho)
        q = found.q
        assert np.all(q >= 0)
        assert found.fail_mass == 0
        np.testing.assert_allclose(q.sum(), 1, atol=1e-12)
        np.testing.assert_allclose(q @ v, found.value, atol=1e-12)
        if uncertainty == "tv":
            assert np.abs(q - p).sum() / 2 <= rho + SLACK
        elif uncertainty == "contamination":
            assert np.all(q >= (1 - rho) * p - SLACK)
        elif uncertainty in ("chi2", "kl"):
            assert divergence(uncertainty, q, p) <= rho + SLACK
        elif uncertainty == "wasserstein":  # on a line, W1 is the area between the cumulative distributions
            assert np.abs(np.cumsum(q - p)).sum() <= rho + SLACK


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("uncertainty", WORST_CASE)
def test_radius_0_is_nominal_and_more_radius_is_never_more_value(uncertainty, name):
    v, p = problem(name)
    curve = [float(solve(uncertainty, name, rho).value) for rho in radii(uncertainty)]
    np.testing.assert_allclose(curve[0], p @ v, atol=1e-12)
    assert all(later <= earlier + SLACK for earlier, later in itertools.pairwise(curve))
    assert all(value >= v.min() - SLACK for value in curve)


@pytest.mark.parametrize("uncertainty", WORST_CASE)
def test_many_models_at_once_equal_one_at_a_time(uncertainty):
    rng = np.random.default_rng(2)
    v, P = rng.normal(size=5), rng.dirichlet(np.ones(5), (3, 4))
    P[0, 0] = [0, 0.5, 0, 0.5, 0]
    rho = np.zeros((3, 4)) if uncertainty == "nominal" else rng.uniform(0, 0.5, (3, 4))
    allowed = P > 0
    allowed[1:] = True
    options = {"distance": line(5) if uncertainty == "wasserstein" else None}
    together = worst_values(uncertainty, v, P, rho, allowed=allowed, **options)
    for i, j in np.ndindex(3, 4):
        alone = worst_case(uncertainty, v, P[i, j], rho[i, j], allowed=allowed[i, j], **options)
        np.testing.assert_allclose(together[i, j], alone.value, atol=1e-12)
        assert np.all(alone.q[~allowed[i, j]] == 0)


def test_by_hand():
    """V is 4, 0 with 3/4, 1/4."""
    v, p = [4.0, 0.0], [0.75, 0.25]
    assert worst_case("tv", v, p, 0.25).value == 2.0  # 1/4 moves from 4 to 0
    assert worst_case("contamination", v, p, 0.5).value == 1.5
    assert worst_case("tv", v, p, 0.25, fail_value=-4.0).value == 1.0  # ... to -4
    # (x/p)^2 p + (x/(1-p))^2 (1-p) = rho: mass x = sqrt(rho p (1-p)) = 1/4 for rho = 1/3
    np.testing.assert_allclose(worst_case("chi2", v, p, 1 / 3).value, 2.0)
    half = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)  # the divergence of (1/2, 1/2)
    np.testing.assert_allclose(worst_case("kl", v, p, half).value, 2.0, atol=1e-10)
    assert worst_case("wasserstein", v, p, 0.5, distance=[[0, 2], [2, 0]]).value == 2.0


@pytest.mark.parametrize("p_low", [1e-9, 1e-17, 1e-41])
def test_chi2_hardly_reaches_a_rare_state(p_low):
    """Two outcomes: chi2 moves sqrt(rho p (1 - p)), however rare the bad one is."""
    found = worst_case("chi2", [1.0, 0.0], [1.0 - p_low, p_low], 0.5)
    np.testing.assert_allclose(1 - found.value, p_low + np.sqrt(0.5 * p_low), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("rho", [1e-9, 0.1, 3.0])
def test_a_ratio_bound_of_1_leaves_only_the_nominal_model(rho):
    p = np.array([0.71, 1e-3, 1e-20, 0.289])
    found = worst_case("kl", [-0.02, -0.4, -0.3, 0.1], p / p.sum(), rho, max_ratio=1.0)
    np.testing.assert_allclose(found.q, p / p.sum(), atol=1e-12)


@pytest.mark.parametrize("uncertainty", WORST_CASE)
@pytest.mark.parametrize(("scale", "shift"), [(20371.88569302355, 0.0), (1e-6, 0.0), (1e6, -3e7)])
def test_units_do_not_matter(uncertainty, scale, shift):
    """The worst mean of a V + b is a (the worst mean of V) + b, with ties among the values."""
    v, p = np.array([0.0, 0.0, 0.0, -1.0, -1.0]), np.array([0.14, 0.19, 0.16, 0.33, 0.18])
    rho = 0.0 if uncertainty == "nominal" else 0.09
    plain = worst_case(uncertainty, v, p, rho, distance=1.2345 * line(5)).value
    found = worst_case(uncertainty, scale * v + shift, p, rho, distance=1.2345 * line(5)).value
    np.testing.assert_allclose((found - shift) / scale, plain, atol=1e-9)


def test_nature_stays_within_the_allowed_states():
    v, p = [4.0, 0.0, -9.0], [1.0, 0.0, 0.0]
    for uncertainty in ("tv", "contamination"):
        assert worst_case(uncertainty, v, p, 0.5).value == -2.5
        assert worst_case(uncertainty, v, p, 0.5, allowed=[True, True, False]).value == 2.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("euclid", [1.0], [1.0], 0.1), "uncertainty"),
        (("tv", [1.0, 2.0], [1.0], 0.1), "p"),
        (("tv", [1.0, 2.0], [0.7, 0.7], 0.1), "p"),
        (("tv", [1.0, np.nan], [0.5, 0.5], 0.1), "values"),
        (("tv", [1.0, 2.0], [0.5, 0.5], 1.5), "rho"),
        (("kl", [1.0, 2.0], [0.5, 0.5], -0.1), "rho"),
        (("wasserstein", [1.0, 2.0], [0.5, 0.5], 0.1), "distance"),
    ],
)
def test_bad_input_is_refused_by_name(arguments, said):
    with pytest.raises(UserError, match=f"^{said}"):
        worst_case(*arguments)


def test_ratios_below_1_and_mass_outside_the_allowed_states_are_refused():
    with pytest.raises(UserError, match="max_ratio"):
        worst_case("kl", [1.0, 2.0], [0.5, 0.5], 0.1, max_ratio=0.5)
    with pytest.raises(UserError, match="allowed"):
        worst_case("tv", [1.0, 2.0], [0.5, 0.5], 0.1, allowed=[True, False])
