"""Where chance decides a robust set pays and a discount does not; and where in the week a set can see chance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from robust_stage import base_stock, worst_mean
from scipy import optimize, stats

from drigm.envs import make_env
from drigm.envs.supply.base_stock import base_stock_return

CHANCE = stats.poisson.pmf(np.arange(40), 6.0)
CHANCE = CHANCE / CHANCE.sum()


def test_the_worst_mean_is_the_exact_one():
    """Against a numerical search over distributions of three values."""
    values, chance = np.array([-3.0, 1.0, 2.0]), np.array([0.2, 0.5, 0.3])

    def mean(logits):
        q = np.exp(logits - logits.max())
        q = q / q.sum()
        return q @ values + 1e4 * max(0.0, q @ np.log(q / chance) - 0.1)

    found = optimize.minimize(mean, np.log(chance), method="Nelder-Mead", options={"maxiter": 20000, "xatol": 1e-9})
    assert worst_mean(values, chance, 0.1) == pytest.approx(found.fun, abs=0.01)
    assert worst_mean(values, chance, 0.0) == pytest.approx(values @ chance)


def test_a_robust_stage_holds_more_and_a_discount_changes_nothing():
    nominal = int(stats.poisson(6.0).ppf(0.9))
    for gamma in (0.98, 0.9, 0.5):
        assert base_stock(CHANCE, 0.0, gamma, later=True) == base_stock(CHANCE, 0.0, gamma, later=False) == nominal
    levels = [base_stock(CHANCE, rho, 0.98, later=True) for rho in (0.05, 0.2, 0.5)]
    assert nominal < levels[0] < levels[1] < levels[2]


def test_a_set_sees_only_what_is_paid_after_chance_has_decided():
    assert base_stock(CHANCE, 0.3, 0.98, later=False) == base_stock(CHANCE, 0.0, 0.98, later=False)


@pytest.mark.slow
def test_costs_that_are_paid_later_are_the_same_costs():
    """A week later, and without the last week; the score of what base stock costs stays 1."""
    now, later = make_env("supply:serial4"), make_env("supply:serial4?paid=later")
    key, action = jax.random.key(3), jnp.full(4, 10)

    def rewards(env):
        def one(state, key):
            state, step = env.step(key, state, action, env.params)
            return state, step.reward

        return jax.lax.scan(one, env.reset(key, env.params)[0], jax.random.split(key, 52))[1]

    np.testing.assert_array_equal(rewards(later)[1:], rewards(now)[:-1])
    assert float(rewards(later)[0]) == 0.0
    levels = now.params.start
    scores = [float(env.score(base_stock_return(env, env.params, levels, key))) for env in (now, later)]
    assert scores[0] == pytest.approx(scores[1], abs=0.05)


@pytest.mark.slow
def test_robust_levels_pay_in_the_simulator_when_demand_rises():
    """The lead time of two weeks, half as much demand again: the level of KL 0.3 costs a tenth less or better."""
    two = np.convolve(stats.nbinom.pmf(np.arange(60), 6, 0.5), stats.nbinom.pmf(np.arange(60), 6, 0.5))
    env = make_env("supply:newsvendor?start=0")
    nominal = base_stock(two / two.sum(), 0.0, 0.98, later=True, top=80)
    robust = base_stock(two / two.sum(), 0.3, 0.98, later=True, top=80)
    assert (nominal, robust) == (19, 23)
    keys = jax.random.split(jax.random.key(0), 256)
    play = jax.jit(
        lambda params, level: -jnp.mean(jax.vmap(lambda k: base_stock_return(env, params, level[None], k))(keys))
    )
    more = env.vary({"demand": 1.5}).params
    assert float(play(more, jnp.float32(robust))) < 0.9 * float(play(more, jnp.float32(nominal)))
    assert float(play(env.params, jnp.float32(nominal))) < float(play(env.params, jnp.float32(robust)))
