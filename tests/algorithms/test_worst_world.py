"""The team's worst worlds: nature's weights, and the record of what the team gets in each."""

import jax.numpy as jnp
import numpy as np
import pytest

from drigm.algorithms.worst_world import FOLLOWS, WorldReturns, no_returns, with_episodes, worst_weights


def returns(mean, possible=None, episodes=None):
    mean = jnp.asarray(mean, jnp.float32)
    possible = jnp.zeros_like(mean) if possible is None else jnp.asarray(possible, jnp.float32)
    return WorldReturns(mean, jnp.ones_like(mean) if episodes is None else jnp.asarray(episodes, jnp.float32), possible)


@pytest.mark.parametrize(
    ("alpha", "weights"),
    [
        (1.0, [0.25, 0.25, 0.25, 0.25]),  # domain randomization
        (0.5, [0.0, 0.5, 0.5, 0.0]),
        (0.25, [0.0, 0.0, 1.0, 0.0]),
        (0.375, [0.0, 1.0 / 3.0, 2.0 / 3.0, 0.0]),  # one and a half worlds
        (0.01, [0.0, 0.0, 1.0, 0.0]),
    ],
)
def test_nature_takes_the_share_of_worlds_with_the_largest_regret(alpha, weights):
    found = worst_weights(returns([-1.0, -3.0, -9.0, -2.0]), alpha)
    np.testing.assert_allclose(found, weights, atol=1e-6)


def test_weights_minimise_the_teams_return_over_all_that_nature_may_choose():
    """Against a linear programme over Q_alpha = {q: 0 <= q_k <= 1 / (alpha K), sum q = 1}."""
    from scipy.optimize import linprog

    rng = np.random.default_rng(0)
    for _ in range(20):
        j, alpha = rng.normal(size=7), float(rng.uniform(0.1, 1.0))
        found = np.asarray(worst_weights(returns(j), alpha), np.float64)
        exact = linprog(j, A_eq=np.ones((1, 7)), b_eq=[1.0], bounds=[(0.0, 1.0 / (alpha * 7))] * 7)
        np.testing.assert_allclose(found.sum(), 1.0, atol=1e-5)
        np.testing.assert_allclose(found @ j, exact.fun, atol=1e-5)


def test_a_world_that_nobody_can_do_well_in_does_not_count_as_the_worst():
    mean, possible = [-10.0, -2.0], [-9.9, 0.0]
    np.testing.assert_array_equal(worst_weights(returns(mean, possible), 0.5), [0.0, 1.0])
    np.testing.assert_array_equal(worst_weights(returns(mean), 0.5), [1.0, 0.0])


def test_a_world_that_was_never_played_comes_first():
    np.testing.assert_array_equal(worst_weights(returns([-5.0, 0.0], episodes=[3.0, 0.0]), 0.5), [0.0, 1.0])


def test_the_record_follows_the_mean_return_of_each_world():
    record = no_returns(jnp.zeros(3))
    world, ended = jnp.array([0, 0, 2, 1]), jnp.array([True, True, True, False])
    record = with_episodes(record, world, jnp.array([1.0, 3.0, -4.0, 100.0]), ended)
    np.testing.assert_allclose(record.mean, [2.0, 0.0, -4.0])
    np.testing.assert_allclose(record.episodes, [2.0, 0.0, 1.0])
    record = with_episodes(record, jnp.array([0]), jnp.array([12.0]), jnp.array([True]))
    np.testing.assert_allclose(record.mean, [2.0 + FOLLOWS * 10.0, 0.0, -4.0], rtol=1e-6)
    same = with_episodes(record, world, jnp.full(4, 7.0), jnp.zeros(4, bool))
    np.testing.assert_array_equal(same.mean, record.mean)
