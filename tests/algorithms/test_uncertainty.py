"""Every uncertainty set against the worst model, found in the space of models and not by the dual formula."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from drigm.algorithms.dual_network import MIN_SCALE
from drigm.algorithms.uncertainty import SETS, Dual, dual_loss
from drigm.algorithms.uncertainty.kullback_leibler import MAX_RATIO

# name: (values V' of the next states, nominal probabilities, fail value m <= min V')
PROBLEMS = {
    "positive": ([1.0, 2.5, 4.0, 7.0], [0.1, 0.2, 0.3, 0.4], 0.0),
    "negative": ([-9.0, -5.0, -4.5, -1.0], [0.4, 0.1, 0.1, 0.4], -12.0),
    "mixed": ([-3.0, -0.5, 0.0, 2.0, 6.0], [0.2, 0.2, 0.2, 0.2, 0.2], -5.0),
    "m-is-the-minimum": ([-3.0, 1.0, 6.0], [0.05, 0.9, 0.05], -3.0),
    "certain-positive": ([3.0], [1.0], 0.0),
    "certain-negative": ([-3.0], [1.0], -8.0),
    "equal-values": ([-2.0, -2.0, 5.0], [0.25, 0.25, 0.5], -4.0),
    "one-rare": ([4.0, -20.0], [0.99, 0.01], -25.0),
}
OUTCOMES = 5  # shorter problems are filled up with outcomes of probability 0
RADII = (0.0, 0.02, 0.05, 0.2, 0.35, 0.5, 0.8, 1.0, 3.0, 8.0, 9.0, 10.0)
TOLERANCE = {"rtol": 5e-5, "atol": 2e-4}
DUAL = [name for name, s in SETS.items() if s.has_dual]
SCALED = [name for name, s in SETS.items() if s.has_scale]
FAILING = [name for name, s in SETS.items() if s.can_fail]


def problem(name):
    """Values and probabilities as float32 arrays, and the fail value."""
    values, p, fail_value = PROBLEMS[name]
    return np.array(values, np.float32), np.array(p, np.float32), np.float32(fail_value)


def filled(name):
    """The same with `OUTCOMES` outcomes, so that one compiled function serves all problems."""
    values, p, fail_value = problem(name)
    more = OUTCOMES - len(values)
    return np.pad(values, (0, more), mode="edge"), np.pad(p, (0, more)), fail_value


@functools.cache
def expectation(uncertainty):
    """E over V' of the sampled bootstrap for dual variables [K]; compiled once per set."""

    def of_one(v, p, eta, scale, rho, m):
        dual = Dual(jnp.full_like(v, eta), jnp.full_like(v, scale))
        return SETS[uncertainty].bootstrap(v, dual, rho, m) @ p

    return jax.jit(jax.vmap(of_one, in_axes=(None, None, 0, 0, None, None)))


def expected_bootstrap(uncertainty, name, eta, rho, scale=1.0):
    values, p, fail_value = filled(name)
    scale = np.broadcast_to(np.float32(scale), np.shape(eta))
    return np.asarray(
        expectation(uncertainty)(values, p, np.float32(eta), scale, np.float32(rho), fail_value), np.float64
    )


def candidates(name):
    """A grid on [m, max V'] that holds every kink of TV's dual objective, hence its maximum."""
    values, _, fail_value = problem(name)
    return np.unique(np.concatenate([values, [fail_value], np.linspace(fail_value, values.max(), 101)])).astype(
        np.float32
    )


@functools.cache
def best_scaled_duals(uncertainty):
    """(expectation, eta, scale) of every problem and radius at the dual variables that maximise it.

    The expectation is concave in eta, and its maximum over eta concave in the scale: two nested ternary searches.
    """
    cases = list(itertools.product(PROBLEMS, radii(uncertainty)))
    values, p, m = (np.stack(x) for x in zip(*(filled(name) for name, _ in cases), strict=True))
    rho = np.array([rho for _, rho in cases], np.float32)[:, None]

    def at(eta, log_scale):
        eta, scale = (jnp.broadcast_to(x[:, None], values.shape) for x in (eta, jnp.exp(log_scale)))
        samples = SETS[uncertainty].bootstrap(values, Dual(eta, scale), jnp.broadcast_to(rho, values.shape), m[:, None])
        return jnp.sum(samples * p, axis=1)

    def highest(f, low, high):
        def narrow(_, ends):
            low, high = ends
            left, right = low + (high - low) / 3.0, high - (high - low) / 3.0
            up = f(left) < f(right)
            return jnp.where(up, left, low), jnp.where(up, high, right)

        low, high = jax.lax.fori_loop(0, 60, narrow, (jnp.full(len(cases), low), jnp.full(len(cases), high)))
        return (low + high) / 2.0

    def best_eta(log_scale):
        return highest(lambda eta: at(eta, log_scale), -300.0, 300.0)

    def search():
        log_scale = highest(lambda x: at(best_eta(x), x), float(np.log(1e-5)), float(np.log(1e3)))
        eta = best_eta(log_scale)
        return at(eta, log_scale), eta, jnp.exp(log_scale)

    found = np.stack(jax.jit(search)(), axis=1).astype(float)
    return dict(zip(cases, found, strict=True))


def robust_value(uncertainty, name, rho):
    """The set's bootstrap in expectation, at the best dual variables where there are any."""
    if SETS[uncertainty].has_scale:
        return best_scaled_duals(uncertainty)[name, rho][0]
    return expected_bootstrap(uncertainty, name, candidates(name), rho).max()


@functools.cache
def worst_mean(uncertainty, name, rho):
    """``min E_q[V']`` over the models q of the set, on the next states and, where nature can fail, the fail state."""
    values, p, fail_value = problem(name)
    v, p = values.astype(float), p.astype(float) / p.astype(float).sum()
    if SETS[uncertainty].can_fail:
        v, p = np.append(v, fail_value), np.append(p, 0.0)
    n = len(v)
    identity, zero = np.eye(n), np.zeros((1, n))
    if rho == 0.0 or n == 1:  # one model
        return float(p @ v)
    if uncertainty == "tv":  # q, t >= 0: |q - p| <= t, sum t <= 2 rho
        above = np.block([[identity, -identity], [-identity, -identity], [zero, np.ones((1, n))]])
        limits = np.concatenate([p, -p, [2 * rho]])
        solved = linprog(
            np.append(v, np.zeros(n)), above, limits, np.append(np.ones(n), np.zeros(n))[None], [1], (0, None)
        )
        assert solved.success
        return solved.fun
    if uncertainty == "contamination":  # q = (1 - rho) p + rho w, any w
        solved = linprog(v, -identity, -(1 - rho) * p, np.ones((1, n)), [1], (0, None))
        assert solved.success
        return solved.fun
    if uncertainty == "cvar":  # the example of docs/plug-ins.md: q <= p / (1 - rho)
        solved = linprog(v, identity, p / (1 - rho), np.ones((1, n)), [1], (0, None))
        assert solved.success
        return solved.fun
    return worst_ratio_mean(v, p, *DIVERGENCES[uncertainty], rho)


# Divergences sum p f(w) of the likelihood ratio w = q / p: f, its slope, and the largest w.
DIVERGENCES = {
    "chi2": (lambda w: (w - 1.0) ** 2, lambda w: 2.0 * (w - 1.0), np.inf),
    "kl": (lambda w: w * np.log(w), lambda w: np.log(w) + 1.0, MAX_RATIO),
}


def worst_ratio_mean(v, p, f, df, cap, rho):
    """``min sum p w v`` over ``0 <= w <= cap``, ``sum p w = 1``, ``sum p f(w) <= rho``: a convex problem, by SLSQP.

    That its result is feasible is checked here; that it is the lowest follows where a dual bound equals it.
    """
    spread = np.ptp(v)
    solved = minimize(
        lambda w: p @ (w * v) / spread,
        np.ones_like(v),
        jac=lambda w: p * v / spread,
        bounds=[(1e-12, min(cap, 1.0 / x)) for x in p],
        constraints=[
            {"type": "eq", "fun": lambda w: p @ w - 1.0, "jac": lambda w: p},
            {"type": "ineq", "fun": lambda w: rho - p @ f(w), "jac": lambda w: -p * df(w)},
        ],
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 1000},
    )
    w = solved.x
    assert abs(p @ w - 1.0) < 1e-6
    assert p @ f(w) < rho + 1e-6
    return float(p @ (w * v))


def radii(uncertainty):
    return [rho for rho in RADII if rho <= SETS[uncertainty].max_rho]


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("uncertainty", SETS)
def test_bootstrap_is_the_worst_models_mean(uncertainty, name):
    for rho in radii(uncertainty):
        expected = worst_mean(uncertainty, name, rho)
        np.testing.assert_allclose(robust_value(uncertainty, name, rho), expected, **TOLERANCE, err_msg=f"rho {rho}")


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("uncertainty", SETS)
def test_no_dual_variables_promise_more_than_the_worst_model(uncertainty, name):
    """Weak duality: a dual network that is still wrong makes a target pessimistic, never optimistic."""
    rng = np.random.default_rng(0)
    values, _, _ = problem(name)
    eta = np.concatenate([rng.normal(values.mean(), 5.0 * k, 200) for k in (0.2, 1.0, 5.0)])
    scale = np.exp(rng.uniform(np.log(0.03), np.log(100.0), eta.shape))
    for rho in radii(uncertainty):
        expected = worst_mean(uncertainty, name, rho)
        found = expected_bootstrap(uncertainty, name, eta, rho, scale)
        assert np.all(found <= expected + 2e-4 + 1e-5 * np.abs(eta)), f"rho {rho}"
        if SETS[uncertainty].has_dual and rho:
            assert found.min() < expected - 1.0  # so that the bound above was tried


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("uncertainty", SETS)
def test_radius_0_is_nominal_and_more_radius_is_never_more_value(uncertainty, name):
    values, p, fail_value = problem(name)
    nominal = float(values @ p)
    curve = [robust_value(uncertainty, name, rho) for rho in radii(uncertainty)]
    np.testing.assert_allclose(curve[0], nominal, **TOLERANCE)
    slack = 2e-4
    assert all(value <= nominal + slack for value in curve)
    assert all(later <= earlier + slack for earlier, later in itertools.pairwise(curve))
    lowest = fail_value if SETS[uncertainty].can_fail else values.min()
    assert all(value >= lowest - slack for value in curve)
    if uncertainty in FAILING:
        np.testing.assert_allclose(curve[-1], fail_value, **TOLERANCE)
    if uncertainty != "nominal" and np.ptp(values) > 0.0:
        assert curve[1] < nominal - 0.01  # and the smallest radius costs something


@pytest.mark.parametrize("uncertainty", SETS)
def test_radius_0_is_nominal_whatever_the_dual_variables(uncertainty):
    """For TV only eta >= V' is: there the sup is reached at any such eta."""
    v = jnp.linspace(-4.0, 3.0, 8)
    dual = Dual(jnp.linspace(3.0, 9.0, 8), jnp.linspace(0.1, 7.0, 8))
    found = SETS[uncertainty].bootstrap(v, dual, jnp.float32(0.0), jnp.float32(-5.0))
    np.testing.assert_allclose(found, v, atol=2e-6)


@pytest.mark.parametrize("uncertainty", [name for name in SETS if name not in FAILING])
def test_the_fail_value_is_ignored_where_nature_cannot_reach_it(uncertainty):
    v, dual = jnp.linspace(-4.0, 3.0, 8), Dual(jnp.ones(8), jnp.full(8, 0.7))
    rho = jnp.float32(0.3)
    bootstrap = SETS[uncertainty].bootstrap
    np.testing.assert_array_equal(bootstrap(v, dual, rho, jnp.float32(-50.0)), bootstrap(v, dual, rho, jnp.float32(0)))


def losses_at(uncertainty, name, eta, scale, rho):
    """E of the dual loss for dual variables [K]."""
    values, p, _ = filled(name)
    shape = (len(eta), OUTCOMES)
    dual = Dual(*(jnp.broadcast_to(jnp.float32(x)[:, None], shape) for x in (eta, scale)))
    losses = dual_loss(SETS[uncertainty], dual, jnp.broadcast_to(values, shape), jnp.float32(rho))
    return np.asarray(losses, np.float64) @ p


@pytest.mark.parametrize("name", PROBLEMS)
def test_tvs_dual_loss_is_smallest_at_the_exact_dual_variable(name):
    eta = candidates(name)
    for rho in radii("tv"):
        loss = losses_at("tv", name, eta, np.ones_like(eta), rho)
        found = expected_bootstrap("tv", name, eta[[loss.argmin()]], rho)[0]
        np.testing.assert_allclose(found, worst_mean("tv", name, rho), **TOLERANCE, err_msg=f"rho {rho}")


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("uncertainty", SCALED)
def test_the_dual_loss_is_smallest_at_the_exact_dual_variables(uncertainty, name):
    """No other pair near or far has a smaller loss than the pair whose bootstrap is exact."""
    rng = np.random.default_rng(1)
    for rho in radii(uncertainty)[1:]:
        value, eta, scale = best_scaled_duals(uncertainty)[name, rho]
        np.testing.assert_allclose(losses_at(uncertainty, name, [eta], [scale], rho)[0], -value, **TOLERANCE)
        sizes = np.exp(rng.uniform(np.log(1e-3), np.log(3.0), 200))
        others = eta + scale * sizes * rng.normal(size=200), scale * np.exp(sizes * rng.normal(size=200))
        assert losses_at(uncertainty, name, *others, rho).min() >= -value - 2e-4 - 1e-5 * abs(eta)


@pytest.mark.parametrize("uncertainty", DUAL)
def test_the_dual_loss_is_convex_in_both_variables_together(uncertainty):
    """So that descent finds the exact ones from anywhere: no chord passes below the loss, for every single sample."""
    rng = np.random.default_rng(2)
    count = 2000
    v = jnp.float32(rng.normal(0.0, 4.0, count))
    ends = [
        Dual(jnp.float32(rng.normal(0.0, 6.0, count)), jnp.float32(np.exp(rng.uniform(-2.0, 3.0, count))))
        for _ in range(2)
    ]
    share = jnp.float32(rng.uniform(0.0, 1.0, count))
    between = jax.tree.map(lambda a, b: share * a + (1.0 - share) * b, *ends)
    bends = []
    for rho in (0.05, 0.5, 1.0):
        first, second, middle = (
            np.asarray(dual_loss(SETS[uncertainty], dual, v, jnp.float32(rho)), np.float64) for dual in (*ends, between)
        )
        chord = np.asarray(share, np.float64) * first + (1.0 - np.asarray(share, np.float64)) * second
        bends.append(chord - middle)
        assert np.all(bends[-1] >= -1e-4 - 1e-5 * (np.abs(first) + np.abs(second)))
    assert np.mean(np.concatenate(bends) > 0.01) > 0.2  # and it bends


def test_tvs_dual_variable_needs_no_place_outside_m_and_the_largest_value():
    """The learner cuts eta to bounds of [m, max V]: that must not cost anything."""
    for name, rho in itertools.product(PROBLEMS, radii("tv")):
        values, _, fail_value = problem(name)
        outside = np.concatenate([np.linspace(fail_value - 20.0, fail_value), np.linspace(0.0, 20.0) + values.max()])
        inside = expected_bootstrap("tv", name, candidates(name), rho).max()
        assert expected_bootstrap("tv", name, outside, rho).max() <= inside + 1e-4


def test_the_tv_dual_variable_is_the_quantile_at_1_minus_rho():
    eta = candidates("positive")  # cumulated: 0.1, 0.3, 0.6, 1
    for rho, quantile in ((0.2, 7.0), (0.5, 4.0), (0.8, 2.5), (0.95, 1.0)):
        assert eta[losses_at("tv", "positive", eta, np.ones_like(eta), rho).argmin()] == quantile


def test_by_hand():
    """V' is 1 or -1 with 3/4 and 1/4, m = -2, rho = 0.5: TV moves 1/2 of the mass from 1 to m."""
    v, p = jnp.array([1.0, -1.0]), np.array([0.75, 0.25])
    half, m, dual = jnp.float32(0.5), jnp.float32(-2.0), Dual(jnp.ones(2), jnp.ones(2))
    np.testing.assert_allclose(SETS["tv"].bootstrap(v, dual, half, m) @ p, -1.0)
    np.testing.assert_allclose(SETS["contamination"].bootstrap(v, dual, half, m) @ p, -0.75)
    np.testing.assert_allclose(SETS["nominal"].bootstrap(v, dual, half, m) @ p, 0.5)
    # chi2, rho = 1/3: q = (1/2, 1/2) is at distance (1/4)^2 / (3/4) + (1/4)^2 / (1/4) = 1/3, its mean is 0. Its ratios
    # (2/3, 2) are c (eta - V') / lambda with c^2 = 4/3, so eta - V' = (1, 3), and lambda = 3/2 c.
    dual = Dual(jnp.full(2, 2.0), jnp.full(2, 1.5 * np.sqrt(4 / 3)))
    np.testing.assert_allclose(SETS["chi2"].bootstrap(v, dual, jnp.float32(1 / 3), m) @ p, 0.0, atol=1e-6)
    # kl: the same q is at 1/2 log 2/3 + 1/2 log 2; its ratios are exp((eta - V') / lambda - 1).
    rho = 0.5 * np.log(2 / 3) + 0.5 * np.log(2)
    scale = 2.0 / np.log(3.0)  # log of the ratios' ratio, 3, is 2 / lambda
    dual = Dual(jnp.full(2, scale * (1.0 + np.log(2.0)) - 1.0), jnp.full(2, scale))
    np.testing.assert_allclose(SETS["kl"].bootstrap(v, dual, jnp.float32(rho), m) @ p, 0.0, atol=1e-6)


def test_without_a_limit_nature_takes_the_worst_outcome_as_often_as_the_set_allows():
    """chi2 reaches the minimum at rho = 1 / p - 1; kl, with ratios up to 20, the mean of the worst twentieth."""
    np.testing.assert_allclose(robust_value("chi2", "positive", 9.0), 1.0, **TOLERANCE)
    assert robust_value("chi2", "positive", 8.0) > 1.01
    for name in PROBLEMS:
        values, p, _ = problem(name)
        bounds = [(0.0, MAX_RATIO * x) for x in p]
        worst = linprog(values, A_eq=np.ones((1, len(p))), b_eq=[1.0], bounds=bounds).fun
        np.testing.assert_allclose(robust_value("kl", name, 3.0), worst, **TOLERANCE)  # log 20 < 3
    assert robust_value("kl", "one-rare", 10.0) > -1.0  # 4 * 0.8 - 20 * 0.2, and not -20


@pytest.mark.parametrize("uncertainty", ["tv", "contamination"])
@pytest.mark.parametrize("value", [5.0, -5.0])
def test_without_chance_every_failing_set_is_a_shorter_horizon(uncertainty, value):
    """On deterministic transitions both are ``(1 - rho) V' + rho m``: a plain discount gamma (1 - rho) for m = 0."""
    v = jnp.full(3, value)
    result = SETS[uncertainty].bootstrap(v, Dual(v, jnp.ones(3)), jnp.float32(0.25), jnp.float32(-8.0))
    np.testing.assert_allclose(result, 0.75 * value - 2.0)


@pytest.mark.parametrize("uncertainty", SCALED)
@pytest.mark.parametrize("value", [5.0, -5.0])
def test_without_chance_a_divergence_changes_nothing(uncertainty, value):
    """There is nothing to re-weight: V' itself, but for the smallest scale that a network can give."""
    v, scale = jnp.full(1, value), jnp.full(1, MIN_SCALE)
    for rho in (0.1, 1.0, 10.0):
        bootstrap = SETS[uncertainty].bootstrap
        results = [
            bootstrap(v, Dual(v + scale * step, scale), jnp.float32(rho), jnp.float32(-8.0))[0]
            for step in np.linspace(0.0, 2.0, 9, dtype=np.float32)
        ]
        np.testing.assert_allclose(max(results), value, atol=MIN_SCALE * (1.0 + rho))
        assert max(results) <= value + 1e-5


@pytest.mark.parametrize("uncertainty", SETS)
def test_batched_and_elementwise(uncertainty):
    """[T, B] arguments give [T, B], and no sample sees another."""
    v, dual = jnp.arange(6.0).reshape(2, 3), Dual(jnp.ones((2, 3)), 0.5 + jnp.arange(6.0).reshape(2, 3))
    rho, m = jnp.float32(0.25), jnp.float32(-1.0)
    whole = SETS[uncertainty].bootstrap(v, dual, rho, m)
    assert whole.shape == (2, 3)
    single = [
        [
            SETS[uncertainty].bootstrap(v[t, b], jax.tree.map(lambda x, t=t, b=b: x[t, b], dual), rho, m)
            for b in range(3)
        ]
        for t in range(2)
    ]
    np.testing.assert_array_equal(whole, single)
    per_sample = SETS[uncertainty].bootstrap(v, dual, jnp.full((2, 3), 0.25), jnp.full((2, 3), -1.0))
    np.testing.assert_array_equal(whole, per_sample)


@pytest.mark.parametrize("uncertainty", SETS)
def test_no_infinite_gradient_from_extreme_dual_variables(uncertainty):
    """Early in training eta is far from every value and the scale may be at its lowest."""
    v = jnp.array([-500.0, -1.0, 0.0, 1.0, 500.0])
    for eta, scale, rho in itertools.product((-1e3, 0.0, 1e3), (MIN_SCALE, 1.0, 1e3), (0.0, 0.2, 1.0)):

        def total(dual, rho=rho):
            return jnp.sum(dual_loss(SETS[uncertainty], dual, v, jnp.float32(rho)))

        value, grads = jax.value_and_grad(total)(Dual(jnp.full(5, eta), jnp.full(5, scale)))
        assert np.isfinite(value)
        assert all(np.all(np.isfinite(g)) for g in grads)
