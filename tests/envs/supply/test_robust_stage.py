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


TWO_WEEKS = np.convolve(stats.nbinom.pmf(np.arange(60), 6, 0.5), stats.nbinom.pmf(np.arange(60), 6, 0.5))
TWO_WEEKS = TWO_WEEKS / TWO_WEEKS.sum()
LEVELS = np.arange(16, 28)


def pays_of(demand):
    """What each of `LEVELS` pays after ``demand`` [...], as [len(LEVELS), ...]: holding costs 1, a shortage 9."""
    stock = LEVELS.reshape(-1, *np.ones(np.ndim(demand), int)) - demand
    return -np.where(stock > 0, stock, -9.0 * stock)


def test_eight_samples_are_a_milder_set_than_their_radius_says():
    """A worst case among few samples is less bad than among all that can happen: the shop's level, for KL sets."""
    exact = {rho: worst_mean(pays_of(np.arange(len(TWO_WEEKS))), TWO_WEEKS, rho) for rho in (0.03, 0.1, 0.3)}
    assert {rho: LEVELS[found.argmax()] for rho, found in exact.items()} == {0.03: 20, 0.1: 21, 0.3: 23}
    rng, found = np.random.default_rng(0), {}
    for count in (8, 64):
        demand = rng.choice(len(TWO_WEEKS), size=(2000, count), p=TWO_WEEKS)
        worst = {rho: worst_mean(pays_of(demand), np.full(count, 1 / count), rho).mean(axis=1) for rho in (0.1, 0.3)}
        found[count] = {rho: LEVELS[mean.argmax()] for rho, mean in worst.items()}
    assert found[8] == {0.1: 20, 0.3: 21}
    assert found[64] == {0.1: 21, 0.3: 23}


def test_total_variation_that_moves_weight_to_a_constant_loss_orders_as_before():
    """Weight leaves the best outcomes for the fail state, whose value no level changes, and never for high demand."""
    pays = pays_of(np.arange(len(TWO_WEEKS)))
    for rho in (0.0, 0.05, 0.1, 0.3):
        kept = []
        for outcome in pays:
            best_first = np.argsort(-outcome)
            gone = np.minimum(np.cumsum(TWO_WEEKS[best_first]), rho)
            kept.append((TWO_WEEKS[best_first] - np.diff(gone, prepend=0.0)) @ outcome[best_first])
        assert LEVELS[np.argmax(kept)] == 19


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
    env = make_env("supply:newsvendor?start=0")
    nominal = base_stock(TWO_WEEKS, 0.0, 0.98, later=True, top=80)
    robust = base_stock(TWO_WEEKS, 0.3, 0.98, later=True, top=80)
    assert (nominal, robust) == (19, 23)
    keys = jax.random.split(jax.random.key(0), 256)
    play = jax.jit(
        lambda params, level: -jnp.mean(jax.vmap(lambda k: base_stock_return(env, params, level[None], k))(keys))
    )
    more = env.vary({"demand": 1.5}).params
    assert float(play(more, jnp.float32(robust))) < 0.9 * float(play(more, jnp.float32(nominal)))
    assert float(play(env.params, jnp.float32(nominal))) < float(play(env.params, jnp.float32(robust)))
