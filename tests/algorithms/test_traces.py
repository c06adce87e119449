"""Eligibility traces: the returns that they add up, the fixed point that they keep, and every method with them."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from small import SMALL, assert_equal, leaves, train_all

from drigm.algorithms.traces import traced_target
from drigm.algorithms.uncertainty import Dual
from drigm.algorithms.uncertainty.total_variation import TOTAL_VARIATION
from drigm.envs import make_env

GAMMA = 0.9


def test_of_greedy_actions_it_is_the_lambda_return():
    """Sutton and Barto 2018, 12.2: the mean of n-step returns, the n-th by (1 - lambda) lambda^(n - 1)."""
    rng = np.random.default_rng(0)
    reward, v, decay = rng.normal(size=(6, 1)), rng.normal(size=(6, 1)), 0.7
    one_step = reward + GAMMA * v
    y = traced_target(jnp.float32(one_step), jnp.float32(v), jnp.ones((6, 1), bool), jnp.float32(GAMMA * decay))

    def n_step(t, n):
        return sum(GAMMA**k * reward[t + k, 0] for k in range(n)) + GAMMA**n * v[t + n - 1, 0]

    for t in range(6):
        left = 6 - t
        mixed = sum((1 - decay) * decay ** (n - 1) * n_step(t, n) for n in range(1, left))
        assert y[t, 0] == pytest.approx(mixed + decay ** (left - 1) * n_step(t, left), abs=1e-5)


def test_nothing_passes_the_end_of_an_episode():
    mask = np.array([True, True, False, True, True])[:, None]  # the third enters another episode
    u, q = np.arange(5.0)[:, None], np.array([0.5, 7.0, 7.0, 0.25, 7.0])[:, None]
    y = traced_target(jnp.float32(u), jnp.float32(q), jnp.asarray(mask), jnp.float32(0.5))
    expected = [0 + 0.5 * (1 - 0.5), 1, 3 + 0.5 * (4 - 0.25), 4]
    np.testing.assert_allclose(y[mask], expected)


# Three states, two actions; rewards by (state, action).
CHANCES = np.array([[[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], [[0.5, 0.5, 0.0], [0.3, 0.3, 0.4]], [[0.2, 0.2, 0.6]] * 2])
REWARDS = np.array([[1.0, 0.0], [0.0, 0.4], [2.0, -1.0]])
RHO = 0.2


def robust_q():
    """The exact robust values [3, 2] of total variation without a fail state below them, and eta of each."""
    q = np.zeros((3, 2))
    for _ in range(500):
        v = q.max(axis=1)
        duals = [[max((_dual(eta, s, a, v), eta) for eta in v) for a in range(2)] for s in range(3)]
        q = REWARDS + GAMMA * np.array([[value for value, _ in row] for row in duals])
    return q, np.array([[eta for _, eta in row] for row in duals])


def _dual(eta, s, a, v):
    sample = TOTAL_VARIATION.bootstrap(jnp.float32(v), Dual(jnp.float32(eta), jnp.float32(1.0)), jnp.float32(RHO), 0.0)
    return float(CHANCES[s, a] @ np.asarray(sample))


def test_the_fixed_point_of_a_greedy_team_is_the_robust_value():
    """At the exact robust Q the expected target is Q, whatever was done first."""
    q, eta = robust_q()
    rng, steps, paths = np.random.default_rng(1), 5, 200_000
    s, where, u, known = rng.integers(0, 3, paths), [], [], []
    a = rng.integers(0, 2, paths)
    for _ in range(steps):
        s_next = np.minimum((rng.random((paths, 1)) > CHANCES[s, a].cumsum(axis=1)).sum(axis=1), 2)
        greedy = q.argmax(axis=1)[s_next]
        dual = Dual(jnp.float32(eta[s, a]), jnp.float32(1.0))
        sample = TOTAL_VARIATION.bootstrap(jnp.float32(q.max(axis=1)[s_next]), dual, jnp.float32(RHO), 0.0)
        where.append((s, a))
        u.append(REWARDS[s, a] + GAMMA * np.asarray(sample))
        known.append(q.max(axis=1)[s_next])
        s, a = s_next, greedy
    mask = jnp.ones((steps, paths), bool)
    y = traced_target(jnp.float32(np.array(u)), jnp.float32(np.array(known)), mask, jnp.float32(GAMMA * 0.9))
    states, actions = where[0]
    for s, a in itertools.product(range(3), range(2)):
        of_these = np.asarray(y[0])[(states == s) & (actions == a)]
        error = of_these.std() / np.sqrt(len(of_these))
        assert abs(of_these.mean() - q[s, a]) < 5 * error
        assert of_these.std() > 10 * error  # it is a mean over chance, not a constant


SETS = [
    {"factorization": "vdn"},
    {"factorization": "qmix", "uncertainty": "tv", "rho": 0.2},
    {"factorization": "qtran", "uncertainty": "contamination", "rho": 0.1},
    {"factorization": "vdn", "uncertainty": "kl", "rho": 0.1, "samples": 4},
    {"factorization": "vdn", "agent_rho": 0.2, "double_q": True},
    {"factorization": "vdn", "updates": 5},
    {"factorization": "vdn", "uncertainty": "tv", "rho": 0.2, "baseline": "individual_robust"},
]


@pytest.mark.parametrize("settings", SETS)
def test_every_method_learns_with_them_and_differently(settings):
    config = SMALL.replace(**settings, env="probe:recall")
    env = make_env(config.env)
    found = [
        leaves(train_all(config.replace(td_lambda=decay), env, rho=(config.rho,))[0].learner.params)
        for decay in (0.0, 0.8)
    ]
    assert all(np.isfinite(x).all() for x in found[1].values())
    assert any((found[0][name] != found[1][name]).any() for name in found[0])


@pytest.mark.long  # to the bit with the compiler of users
def test_contamination_without_a_fail_value_is_still_the_shorter_discount():
    config = SMALL.replace(env="probe:recall", factorization="vdn", fail_value="0", td_lambda=0.8)
    env = make_env(config.env)
    one, other = (
        train_all(config.replace(**changes, rho=0.3), env, rho=(0.3,))[0].learner.params
        for changes in ({"uncertainty": "contamination"}, {"baseline": "short_horizon"})
    )
    assert_equal(one, other)
