"""Targets against numbers worked out by hand, and the offset that the learner takes out of every value."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SMALL, make_spec

from drigm.envs import make_env
from drigm.envs.probe import RULES
from drigm.learner import Robustness, _Batch, make_learner, make_robustness
from drigm.networks import make_dual
from drigm.targets import (
    auto_fail_value,
    greedy_actions,
    masked_mean,
    max_value,
    td_target,
    valid_transitions,
    value_offset,
)
from drigm.uncertainty import SETS

GAMMA = jnp.float32(0.5)


def test_td_target_by_hand():
    r_t = jnp.array([[1.0, -2.0], [3.0, 0.0]])
    terminated_t = jnp.array([[False, False], [True, True]])
    bootstrap_t = jnp.array([[10.0, 20.0], [30.0, -40.0]])
    np.testing.assert_array_equal(td_target(r_t, terminated_t, bootstrap_t, GAMMA), [[6.0, 8.0], [3.0, 0.0]])


def test_a_terminated_episode_has_no_future_whatever_the_network_says():
    y = td_target(jnp.ones((1, 2)), jnp.ones((1, 2), bool), jnp.array([[1e30, -1e30]]), GAMMA)
    np.testing.assert_array_equal(y, [[1.0, 1.0]])


def test_no_transition_leaves_the_last_step_of_an_episode():
    terminated_tm1 = jnp.array([[False, False], [True, False], [False, False], [True, False]])
    truncated_tm1 = jnp.array([[False, False], [False, True], [False, False], [True, False]])
    expected = [[True, True], [False, False], [True, True], [False, True]]
    np.testing.assert_array_equal(valid_transitions(terminated_tm1, truncated_tm1), expected)


def test_masked_mean_by_hand():
    x = jnp.array([[1.0, 2.0], [4.0, 800.0]])
    assert masked_mean(x, jnp.array([[True, False], [True, False]])) == 2.5
    assert masked_mean(x, jnp.ones((2, 2), bool)) == 201.75
    assert masked_mean(x, jnp.zeros((2, 2), bool)) == 0.0


def test_greedy_actions_are_each_agents_own_best_available_one():
    q = jnp.array([[3.0, 1.0, 2.0], [-5.0, -4.0, -6.0], [0.0, 7.0, 7.0]])
    chosen = greedy_actions(q, jnp.ones(q.shape, bool))
    assert chosen.dtype == jnp.int32
    np.testing.assert_array_equal(chosen, [0, 1, 1])  # the first of equals
    avail = jnp.array([[False, True, True], [True, False, True], [False, False, True]])
    np.testing.assert_array_equal(greedy_actions(q, avail), [2, 0, 2])


def test_greedy_actions_are_batched():
    q = jax.random.normal(jax.random.key(0), (4, 5, 2, 3))
    chosen = greedy_actions(q, jnp.ones(q.shape, bool))
    assert chosen.shape == (4, 5, 2)
    np.testing.assert_array_equal(chosen, np.asarray(q).argmax(-1))


# The lowest value that any policy has at any state of a probe, under the nominal model and discount 0.9.
LOWEST = {
    "discount": 0.9,
    "endless": 10.0,
    "ends": 1.0,
    "recall": 0.0,
    "coordinate": 0.0,
    "matrix": -12.0,
    "levels": -3.6,
    "gamble": -1.0,
}


@pytest.mark.parametrize("name", RULES)
def test_auto_fail_value_bounds_every_value_from_below(name):
    spec, gamma = make_env(f"probe:{name}").spec, 0.9
    fail_value = auto_fail_value(spec, gamma)
    assert fail_value <= LOWEST[name]
    # Even where nature sends everything to the fail state after each step: m <= r + gamma m.
    assert fail_value <= spec.reward_range[0] * spec.reward_scale + gamma * fail_value + 1e-9
    assert fail_value <= max_value(spec, gamma)


def test_auto_fail_value_by_hand():
    spec = make_spec(reward_range=(-2.0, 4.0), reward_scale=0.5, episode_limit=10)
    assert auto_fail_value(spec, 0.75) == -4.0
    assert max_value(spec, 0.75) == 8.0
    assert auto_fail_value(spec, 1.0) == -10.0
    assert max_value(spec, 1.0) == 20.0
    assert auto_fail_value(spec._replace(reward_range=(1.0, 4.0)), 0.75) == 0.0
    assert max_value(spec._replace(reward_range=(-2.0, -1.0)), 0.75) == 0.0


def test_value_offset_by_hand():
    assert value_offset(jnp.float32(0.5), 0.5, jnp.float32(-6.0)) == -2.0  # 0.5 * 0.5 * -6 / (1 - 0.25)
    assert value_offset(jnp.float32(1.0), 0.5, jnp.float32(-6.0)) == -3.0  # all mass at the fail state: gamma m
    assert value_offset(jnp.float32(0.0), 0.5, jnp.float32(-6.0)) == 0.0
    assert value_offset(jnp.float32(0.25), 1.0, jnp.float32(-6.0)) == -6.0
    assert value_offset(jnp.float32(0.0), 1.0, jnp.float32(-6.0)) == 0.0  # no radius, no offset, and no 0 / 0


@pytest.mark.parametrize("uncertainty", SETS)
@pytest.mark.parametrize("shift", [-7.0, 3.0])
def test_robust_operators_shift_with_their_arguments(uncertainty, shift):
    """T_m(V + b) = T_(m - b)(V) + b, sample by sample."""
    v = jax.random.normal(jax.random.key(1), (50,)) * 5.0
    eta = jax.random.normal(jax.random.key(2), (50,)) * 5.0
    bootstrap = SETS[uncertainty].bootstrap
    for rho in (0.0, 0.3, 1.0):
        if rho and SETS[uncertainty].max_rho == 0.0:
            continue
        rho, m, b = jnp.float32(rho), jnp.float32(-4.0), jnp.float32(shift)
        left, right = bootstrap(v + b, eta + b, rho, m), bootstrap(v, eta, rho, m - b) + b
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)


def make_batch(spec, keys):
    """A batch [6, 5] of which a third is terminated."""
    shape = (6, 5)
    return _Batch(
        state_tm1=jax.random.normal(keys[0], (*shape, spec.state_size)),
        state_t=jax.random.normal(keys[1], (*shape, spec.state_size)),
        action_tm1=jax.random.randint(keys[2], (*shape, spec.num_agents), 0, spec.num_actions),
        reward_t=jax.random.normal(keys[3], shape),
        terminated_t=jax.random.bernoulli(keys[4], 0.33, shape),
        mask=jnp.ones(shape, bool),
    )


@pytest.mark.parametrize("uncertainty", SETS)
@pytest.mark.parametrize("fail_value", [-30.0, 0.0])
def test_the_learners_shifted_target_is_the_unshifted_one(uncertainty, fail_value):
    """What the learner stores is Q - b; adding b back gives r + gamma T_m(V'), terminated transitions included."""
    spec = make_spec(reward_range=(-40.0, 40.0))
    config = SMALL.replace(uncertainty=uncertainty, fail_value=fail_value)
    learner = make_learner(config, spec)
    keys = jax.random.split(jax.random.key(3), 8)
    batch = make_batch(spec, keys)
    assert 0 < jnp.sum(batch.terminated_t) < batch.terminated_t.size
    v_t = 3.0 * jax.random.normal(keys[5], batch.reward_t.shape)
    rho = jnp.float32(0.3 if SETS[uncertainty].max_rho else 0.0)
    robustness = make_robustness(config, spec, rho)
    b = value_offset(rho, config.gamma, robustness.fail_value)
    dual, eta = None, jnp.zeros_like(v_t)
    if SETS[uncertainty].dual_loss is not None:
        dual = make_dual(keys[6], spec, config.dual_hidden, ordered=False)
        out = 2.0 * jax.random.normal(keys[7], dual.out.shape)
        dual = eqx.tree_at(lambda d: d.out, dual, out)
        lowest = min(fail_value, auto_fail_value(spec, config.gamma))  # m = 0 is no bound here, and must not cut eta
        eta = jnp.clip(dual(batch.state_tm1, batch.action_tm1) + b, lowest, max_value(spec, config.gamma))
        assert jnp.std(eta) > 0.1
    shifted = learner._targets(dual, batch, v_t - b, robustness)
    bootstrap = SETS[uncertainty].bootstrap(v_t, eta, rho, robustness.fail_value)
    unshifted = td_target(batch.reward_t, batch.terminated_t, bootstrap, jnp.float32(config.gamma))
    np.testing.assert_allclose(shifted + b, unshifted, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose((shifted + b)[batch.terminated_t], batch.reward_t[batch.terminated_t], atol=1e-4)


def test_the_papers_fail_value_does_not_cut_a_negative_eta():
    """With m = 0, V' = -1 and eta = V' (deterministic transitions) the TV bootstrap is (1 - rho) V', not V'."""
    spec = make_spec(reward_range=(-2.0, 0.0))
    config = SMALL.replace(uncertainty="tv", fail_value=0.0)
    learner = make_learner(config, spec)
    keys = jax.random.split(jax.random.key(5), 7)
    batch = make_batch(spec, keys)._replace(terminated_t=jnp.zeros((6, 5), bool))
    dual = make_dual(keys[6], spec, config.dual_hidden, ordered=False)
    dual = eqx.tree_at(lambda d: (d.out, d.out_bias), dual, (jnp.zeros_like(dual.out), jnp.float32(-1.0)))
    v_t = jnp.full((6, 5), -1.0)
    target = learner._targets(dual, batch, v_t, make_robustness(config, spec, jnp.float32(0.3)))
    np.testing.assert_allclose(target, batch.reward_t + config.gamma * 0.7 * v_t, atol=1e-5)


def test_in_shifted_values_contamination_never_sees_the_fail_value():
    """Which is what the offset is for: however low m is, the network has nothing of its size to represent."""
    spec = make_spec()
    learner = make_learner(SMALL.replace(uncertainty="contamination"), spec)
    keys = jax.random.split(jax.random.key(4), 6)
    batch = make_batch(spec, keys)._replace(terminated_t=jnp.zeros((6, 5), bool))
    v_t = jax.random.normal(keys[5], (6, 5))
    rho = jnp.float32(0.2)
    plain = batch.reward_t + 0.9 * (1.0 - rho) * v_t
    for fail_value in (0.0, -1.0, -100.0):
        y = learner._targets(None, batch, v_t, Robustness(rho, jnp.float32(fail_value)))
        np.testing.assert_allclose(y, plain, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("uncertainty", SETS)
def test_no_gradient_flows_into_a_target(uncertainty):
    spec = make_spec()
    learner = make_learner(SMALL.replace(uncertainty=uncertainty), spec)
    keys = jax.random.split(jax.random.key(5), 6)
    batch, dual = make_batch(spec, keys), make_dual(keys[5], spec, 8, ordered=False)
    robustness = Robustness(jnp.float32(0.1), jnp.float32(-1.0))

    def total(dual, v_t):
        return jnp.sum(learner._targets(dual, batch, v_t, robustness))

    grads = jax.grad(total, argnums=(0, 1))(dual, jnp.ones((6, 5)))
    assert all(not np.any(g) for g in jax.tree.leaves(grads))
