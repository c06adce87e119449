"""Greedy agents form the greedy team: by gradients, and by looking at every joint action."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drigm.factorizations import FACTORIZATIONS, QMIX, VDN
from drigm.targets import greedy_actions

AGENTS, ACTIONS, STATE, EMBED, DRAWS = 3, 4, 5, 8, 200


@pytest.fixture(scope="module")
def draws():
    """Many values [D, N, A] and states [D, S], far wider than any network's at its start."""
    k_q, k_state = jax.random.split(jax.random.key(0))
    return 4.0 * jax.random.normal(k_q, (DRAWS, AGENTS, ACTIONS)), 2.0 * jax.random.normal(k_state, (DRAWS, STATE))


def random_params(factorization, scale=1.0):
    """Mixer parameters [D, ...] far from their start, of every sign."""
    start = factorization.init(jax.random.key(1), AGENTS, STATE, EMBED)
    stacked = jax.tree.map(lambda x: jnp.broadcast_to(x, (DRAWS, *x.shape)), start)
    parts, tree = jax.tree.flatten(stacked)
    keys = jax.random.split(jax.random.key(2), max(1, len(parts)))
    noisy = [x + scale * jax.random.normal(k, x.shape) for x, k in zip(parts, keys[: len(parts)], strict=True)]
    return jax.tree.unflatten(tree, noisy)


@pytest.mark.parametrize("name", FACTORIZATIONS)
def test_no_agents_value_ever_lowers_the_teams(name, draws):
    factorization, (q, state) = FACTORIZATIONS[name], draws
    params = random_params(factorization)
    slopes = jax.jit(jax.vmap(jax.grad(factorization.joint_value, argnums=1)))(params, q[..., 0], state)
    assert slopes.shape == (DRAWS, AGENTS)
    assert jnp.all(slopes >= 0.0)
    assert jnp.mean((slopes > 1e-3).astype(jnp.float32)) > 0.5  # and mostly they raise it


@pytest.mark.parametrize("name", FACTORIZATIONS)
def test_the_greedy_agents_are_the_greedy_team(name, draws):
    """Among all 4^3 joint actions none is better than the tuple of local argmaxes."""
    factorization, (q, state) = FACTORIZATIONS[name], draws
    params = random_params(factorization)
    joint_actions = np.array(list(itertools.product(range(ACTIONS), repeat=AGENTS)))  # [64, N]

    def values(params, q, state):
        chosen = q[jnp.arange(AGENTS), joint_actions]  # [64, N]
        return factorization.joint_value(params, chosen, jnp.broadcast_to(state, (len(joint_actions), STATE)))

    joint = np.asarray(jax.jit(jax.vmap(values))(params, q, state))  # [D, 64]
    greedy = np.asarray(greedy_actions(q, jnp.ones(q.shape, bool)))
    index = np.ravel_multi_index(tuple(greedy.T), (ACTIONS,) * AGENTS)
    reached = joint[np.arange(DRAWS), index]
    rounding = 1e-5 * np.abs(joint).max(axis=1)
    assert np.all(reached >= joint.max(axis=1) - rounding)
    best_two = np.sort(joint, axis=1)[:, -2:]
    clear = best_two[:, 1] - best_two[:, 0] > rounding  # a mixer may ignore an agent: then several are best
    assert clear.sum() > DRAWS / 4
    np.testing.assert_array_equal(joint.argmax(axis=1)[clear], index[clear])


@pytest.mark.parametrize("name", FACTORIZATIONS)
def test_joint_value_is_batched(name, draws):
    factorization, (q, state) = FACTORIZATIONS[name], draws
    params = factorization.init(jax.random.key(3), AGENTS, STATE, EMBED)
    chosen, state = q[:6, :, 0], state[:6]
    whole = factorization.joint_value(params, chosen.reshape(2, 3, AGENTS), state.reshape(2, 3, STATE))
    assert whole.shape == (2, 3)
    single = [factorization.joint_value(params, chosen[i], state[i]) for i in range(6)]
    np.testing.assert_allclose(whole.ravel(), jnp.stack(single), rtol=1e-5, atol=1e-5)


def test_vdn_is_the_sum(draws):
    q, state = draws
    assert VDN.init(jax.random.key(0), AGENTS, STATE, EMBED) == ()
    np.testing.assert_allclose(VDN.joint_value((), q[..., 0], state), np.asarray(q)[..., 0].sum(-1), rtol=1e-5)


def test_qmix_sees_the_state(draws):
    q, state = draws
    params = QMIX.init(jax.random.key(4), AGENTS, STATE, EMBED)
    same_q = jnp.broadcast_to(q[0, :, 0], (DRAWS, AGENTS))
    values = QMIX.joint_value(params, same_q, state)
    assert jnp.std(values) > 1e-2
    slopes_at = jax.jit(jax.vmap(jax.grad(QMIX.joint_value, argnums=1), in_axes=(None, 0, 0)))
    slopes = slopes_at(params, same_q, state)
    assert jnp.all(jnp.std(slopes, axis=0) > 1e-3)  # how much an agent counts depends on it too


def test_qmix_is_more_than_a_sum(draws):
    """How much an agent counts depends on the agents' values: an AND of two agents needs that, and no sum has it."""
    q, state = draws
    slopes_at = jax.jit(jax.vmap(jax.grad(QMIX.joint_value, argnums=1)))
    here, there = (slopes_at(random_params(QMIX), q[..., i], state) for i in (0, 1))
    assert jnp.max(jnp.abs(here - there)) > 0.1


def test_qmix_starts_close_to_the_sum():
    """So that the first targets have the agents' own size."""
    params = QMIX.init(jax.random.key(5), AGENTS, STATE, 32)
    q = jnp.array([0.3, 0.1, 0.2])
    np.testing.assert_allclose(QMIX.joint_value(params, q, jnp.zeros(STATE)), jnp.sum(q), rtol=1e-5)
