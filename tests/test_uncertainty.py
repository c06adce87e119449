"""Every uncertainty set against the worst model found by a linear programme, for values of both signs."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from drigm.uncertainty import SETS

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
RADII = (0.0, 0.05, 0.2, 0.35, 0.5, 0.8, 1.0)
TOLERANCE = {"rtol": 1e-5, "atol": 2e-5}


def problem(name):
    """Values and probabilities as float32 arrays, and the fail value."""
    values, p, fail_value = PROBLEMS[name]
    return np.array(values, np.float32), np.array(p, np.float32), np.float32(fail_value)


def expected_bootstrap(uncertainty, name, eta, rho):
    """E over V' of the sampled bootstrap, for every eta [K]."""
    values, p, fail_value = problem(name)
    shape = (len(eta), len(values))
    v, dual = jnp.broadcast_to(values, shape), jnp.broadcast_to(jnp.float32(eta)[:, None], shape)
    samples = SETS[uncertainty].bootstrap(v, dual, jnp.float32(rho), fail_value)
    return np.asarray(samples, np.float64) @ p.astype(np.float64)


def candidates(name):
    """A grid on [m, max V'] that holds every kink of the dual objective, hence its maximum."""
    values, _, fail_value = problem(name)
    return np.unique(np.concatenate([values, [fail_value], np.linspace(fail_value, values.max(), 101)])).astype(
        np.float32
    )


def robust_value(uncertainty, name, rho):
    """The set's bootstrap in expectation, at the best dual variable where there is one."""
    return expected_bootstrap(uncertainty, name, candidates(name), rho).max()


def worst_mean(uncertainty, name, rho):
    """``min E_q[V']`` over the models q of the set, on the next states and the fail state."""
    values, p, fail_value = problem(name)
    v, p = np.append(values, fail_value).astype(float), np.append(p, 0.0).astype(float)
    n = len(v)
    p /= p.sum()
    identity, zero = np.eye(n), np.zeros((1, n))
    if uncertainty == "tv":  # q, t >= 0: |q - p| <= t, sum t <= 2 rho
        above = np.block([[identity, -identity], [-identity, -identity], [zero, np.ones((1, n))]])
        limits = np.concatenate([p, -p, [2 * rho]])
        solved = linprog(
            np.append(v, np.zeros(n)), above, limits, np.append(np.ones(n), np.zeros(n))[None], [1], (0, None)
        )
    elif uncertainty == "contamination":  # q = (1 - rho) p + rho w, any w
        solved = linprog(v, -identity, -(1 - rho) * p, np.ones((1, n)), [1], (0, None))
    else:
        assert uncertainty == "nominal"
        return float(p @ v)
    assert solved.success
    return solved.fun


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
def test_radius_0_is_nominal_and_more_radius_is_never_more_value(uncertainty, name):
    values, p, fail_value = problem(name)
    nominal = float(values @ p)
    curve = [robust_value(uncertainty, name, rho) for rho in radii(uncertainty)]
    np.testing.assert_allclose(curve[0], nominal, **TOLERANCE)
    slack = 1e-4
    assert all(value <= nominal + slack for value in curve)
    assert all(later <= earlier + slack for earlier, later in itertools.pairwise(curve))
    assert all(value >= fail_value - slack for value in curve)
    if SETS[uncertainty].max_rho == 1.0:
        np.testing.assert_allclose(curve[-1], fail_value, **TOLERANCE)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("uncertainty", [name for name, s in SETS.items() if s.dual_loss is not None])
def test_dual_loss_is_smallest_at_the_exact_dual_variable(uncertainty, name):
    values, p, _ = problem(name)
    eta = candidates(name)
    shape = (len(eta), len(values))
    for rho in radii(uncertainty):
        losses = SETS[uncertainty].dual_loss(
            jnp.broadcast_to(eta[:, None], shape), jnp.broadcast_to(values, shape), jnp.float32(rho)
        )
        loss = np.asarray(losses, np.float64) @ p
        best = eta[[loss.argmin()]]
        found = expected_bootstrap(uncertainty, name, best, rho)[0]
        np.testing.assert_allclose(found, worst_mean(uncertainty, name, rho), **TOLERANCE, err_msg=f"rho {rho}")
        # The loss is convex in eta, so that descent finds this place from anywhere.
        slopes = np.diff(loss) / np.diff(eta)
        assert np.all(np.diff(slopes) > -1e-3)


def test_the_tv_dual_variable_is_the_quantile_at_1_minus_rho():
    values, p, _ = problem("positive")  # cumulated: 0.1, 0.3, 0.6, 1
    eta = candidates("positive")
    shape = (len(eta), len(values))
    for rho, quantile in ((0.2, 7.0), (0.5, 4.0), (0.8, 2.5), (0.95, 1.0)):
        losses = SETS["tv"].dual_loss(
            jnp.broadcast_to(eta[:, None], shape), jnp.broadcast_to(values, shape), jnp.float32(rho)
        )
        assert eta[np.argmin(np.asarray(losses, np.float64) @ p)] == quantile


def test_by_hand():
    """V' is 1 or -1 with 3/4 and 1/4, m = -2, rho = 0.5: TV moves 1/2 of the mass from 1 to m."""
    v, p = jnp.array([1.0, -1.0]), np.array([0.75, 0.25])
    half, m = jnp.float32(0.5), jnp.float32(-2.0)
    np.testing.assert_allclose(SETS["tv"].bootstrap(v, jnp.ones(2), half, m) @ p, -1.0)
    np.testing.assert_allclose(SETS["contamination"].bootstrap(v, jnp.zeros(2), half, m) @ p, -0.75)
    np.testing.assert_allclose(SETS["nominal"].bootstrap(v, jnp.zeros(2), half, m) @ p, 0.5)


@pytest.mark.parametrize("uncertainty", ["tv", "contamination"])
@pytest.mark.parametrize("value", [5.0, -5.0])
def test_without_chance_every_set_is_a_shorter_horizon(uncertainty, value):
    """On deterministic transitions both are ``(1 - rho) V' + rho m``: a plain discount gamma (1 - rho) for m = 0."""
    v = jnp.full(3, value)
    result = SETS[uncertainty].bootstrap(v, v, jnp.float32(0.25), jnp.float32(-8.0))
    np.testing.assert_allclose(result, 0.75 * value - 2.0)


@pytest.mark.parametrize("uncertainty", SETS)
def test_batched_and_elementwise(uncertainty):
    """[T, B] arguments give [T, B], and no sample sees another."""
    v, eta = jnp.arange(6.0).reshape(2, 3), jnp.ones((2, 3))
    rho, m = jnp.float32(0.25), jnp.float32(-1.0)
    whole = SETS[uncertainty].bootstrap(v, eta, rho, m)
    single = [[SETS[uncertainty].bootstrap(v[t, b], eta[t, b], rho, m) for b in range(3)] for t in range(2)]
    np.testing.assert_array_equal(whole, single)
