"""Problems whose values are known by hand, learnt in seconds; and every pair of the registries takes steps."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SMALL, assert_equal, leaves, make_spec, train_all

from drigm import rollout
from drigm.envs import make_env
from drigm.factorizations import FACTORIZATIONS
from drigm.learner import SHARD_AXIS, make_learner, make_robustness, standardise_state
from drigm.networks import NO_ACTION, AgentInputs
from drigm.replay import Row
from drigm.targets import value_offset
from drigm.uncertainty import SETS

LEARN = SMALL.replace(
    steps=24_000,
    gamma=0.8,
    hidden=16,
    num_envs=16,
    epsilon_end=0.3,
    replay_size=8_000,
    window=6,
    batch=32,
    learning_starts=320,
    learning_rate=5e-3,
    average_decay=0.99,
    target_period=20,
    shards=1,
)


def greedy_play(env, learner, state, robustness):
    """One greedy episode in 16 environments: Q_tot of the greedy joint action [L, B], and the return [B]."""
    agents, mixer = state.average
    carry = rollout.start(env, agents, jax.random.key(100), 16)
    values, total = [], jnp.zeros(16)
    for step in range(env.spec.episode_limit):
        row = rollout.row_of(env, carry)
        inputs = AgentInputs(row.obs[None], row.last_action[None], row.first[None])
        memory, features = agents.unroll(carry.memory, inputs)
        action = agents.greedy(features, None)
        q = agents.q_of(features, action)[0]
        action = action[0]
        values.append(learner.factorization.joint_value(mixer, q, standardise_state(env.spec, row.state)))
        carry, _ = rollout.advance(env, carry, jax.random.key(200 + step), action, memory)
        total += carry.timestep.reward
    offset = value_offset(robustness.rho, learner.config.gamma, robustness.fail_value)
    return jnp.stack(values) + offset, total


class Play(NamedTuple):
    values: np.ndarray  # [K, L, B]
    returns: np.ndarray  # [K, B]


def learn_and_play(config, rho=(0.0,)):
    """Train one run for every radius, all as one program, then play greedily."""
    env = make_env(config.env)
    state, sums = train_all(config, env, seeds=[config.first_seed] * len(rho), rho=rho)
    assert np.all(np.isfinite(sums.metrics.loss))
    learner = make_learner(config, env.spec)
    learnt, robustness = jax.tree.map(lambda x: x[0], (state.learner, state.robustness))
    play = jax.jit(jax.vmap(lambda s, r: greedy_play(env, learner, s, r)))
    return Play(*map(np.asarray, play(learnt, robustness)))


def discounted(discount, steps):
    """The value of reward 1 in each of the steps left, at each of the steps of an episode."""
    return [sum(discount**k for k in range(steps - t)) for t in range(steps)]


class Problem(NamedTuple):
    changes: dict
    rho: tuple
    values: list  # for every radius, at every step
    returns: float
    tolerance: float = 0.08


PROBLEMS = {
    "discount": Problem({"factorization": "vdn"}, (0.0,), [[0.8, 1.0]], 1.0),
    # Truncation bootstraps: as if the episode went on for ever, with discount 0.8, and 0.8 * 0.75 for the robust team.
    "endless": Problem({"uncertainty": "contamination"}, (0.0, 0.25), [[5.0] * 5, [2.5] * 5], 5.0, 0.2),
    # Termination does not.
    "ends": Problem(
        {"factorization": "vdn", "uncertainty": "tv"}, (0.0, 0.25), [discounted(0.8, 5), discounted(0.6, 5)], 5.0, 0.15
    ),
    "recall": Problem({"burn_in": 0}, (0.0,), [[0.8**3, 0.8**2, 0.8, 1.0]], 1.0, 0.12),
    "coordinate": Problem({"share_parameters": True, "double_q": True}, (0.0,), [[1.0]], 1.0),
    # The greedy level is at most half a step of 0.1 away from the cue, for each agent.
    "levels": Problem({"factorization": "vdn"}, (0.0,), [[-0.05]], -0.05, 0.15),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_known_values_are_learnt(name):
    problem = PROBLEMS[name]
    play = learn_and_play(LEARN.replace(env=f"probe:{name}", **problem.changes), problem.rho)
    expected = np.broadcast_to(np.array(problem.values)[..., None], play.values.shape)
    np.testing.assert_allclose(play.values, expected, atol=problem.tolerance)
    np.testing.assert_allclose(play.returns, problem.returns, atol=problem.tolerance)


# One-step problems of chance: uniform data, all of it kept, and a slow end, so that what is left is sampling error.
CHANCE = LEARN.replace(
    factorization="vdn",
    epsilon_end=1.0,
    steps=32_000,
    replay_size=32_000,
    batch=64,
    window=3,
    burn_in=0,
    learning_rate_end=1e-5,
    dual_learning_rate=5e-3,
    average_decay=0.998,
)


@pytest.mark.slow
def test_vdn_picks_0_in_the_matrix_game():
    """[[8, -12, -12], [-12, 0, 0], [-12, 0, 0]] with uniform data: the closest sum has row means -16/3, -4, -4 about
    the mean -40/9, so its best joint action is worth -4 - 4 + 40/9 = -32/9 to it, and its reward is 0, not 8."""
    play = learn_and_play(CHANCE.replace(env="probe:matrix"))
    np.testing.assert_array_equal(play.returns, 0.0)
    np.testing.assert_allclose(play.values, -32 / 9, atol=0.8)  # neither 0 nor the -44/9 of its other actions


GAMBLE = CHANCE.replace(env="probe:gamble", fail_value=-1.0)


@pytest.mark.slow
def test_total_variation_learns_to_play_safe():
    """Risky leads to 1 or -1 with 3/4 and 1/4, safe to 0.25; m = -1.

    Radius 0 is nominal: risky is worth 0.8 * 0.5. Radius 0.6 takes 0.6 of the mass from the best state to m: risky is
    worth 0.8 * (0.15 * 1 - 0.25 - 0.6), safe 0.8 * (0.4 * 0.25 - 0.6), which is 0.16 more.
    """
    play = learn_and_play(GAMBLE.replace(uncertainty="tv"), rho=(0.0, 0.6))
    risky, safe = play.returns
    assert set(np.round(risky, 2)) == {-1.0, 1.0}
    assert set(np.round(safe, 2)) == {0.25}
    np.testing.assert_allclose(play.values[0, 0], 0.8 * 0.5, atol=0.08)
    np.testing.assert_allclose(play.values[1, 0], 0.8 * (0.4 * 0.25 - 0.6), atol=0.08)
    np.testing.assert_allclose(play.values[:, 1], play.returns, atol=0.08)  # the last step's value is its reward


@pytest.mark.slow
def test_contamination_keeps_the_order_of_the_means():
    """The same gamble: both actions lose the same share, so that risky stays the better one."""
    play = learn_and_play(GAMBLE.replace(uncertainty="contamination"), rho=(0.6,))
    assert set(np.round(play.returns[0], 2)) == {-1.0, 1.0}
    np.testing.assert_allclose(play.values[0, 0], 0.8 * (0.4 * 0.5 - 0.6), atol=0.08)


def random_window(spec, config, key):
    """A window [T + 1, B] of nonsense with ends and masked actions in it."""
    keys = jax.random.split(key, 6)
    shape = (config.window + 1, config.batch)
    first = jax.random.bernoulli(keys[0], 0.2, shape).at[0].set(False)
    over = jnp.concatenate([first[1:], jnp.zeros((1, config.batch), bool)])
    even = jnp.broadcast_to(jnp.arange(config.batch) % 2 == 0, shape)
    joint = (*shape, spec.num_agents)
    action = jax.random.randint(keys[1], joint, 0, spec.num_actions, jnp.int32)
    avail = jax.random.bernoulli(keys[2], 0.7, (*joint, spec.num_actions)).at[..., 0].set(True)
    return Row(
        obs=jax.random.normal(keys[3], (*joint, spec.obs_size)),
        state=jax.random.normal(keys[4], (*shape, spec.state_size)),
        avail_actions=avail if spec.masks_actions else None,
        last_action=jnp.where(first[..., None], NO_ACTION, action),
        reward=jax.random.normal(keys[5], shape),
        terminated=over & even,
        truncated=over & ~even,
        first=first,
    )


def take_updates(config, spec, count=4):
    """The learner's state after every update on one shard, and the metrics."""
    learner = make_learner(config, spec)
    robustness = make_robustness(config, spec, jnp.float32(config.rho))
    windows = [random_window(spec, config, jax.random.key(k)) for k in range(count)]
    update = jax.jit(jax.vmap(lambda s, w: learner.update(s, w, robustness), axis_name=SHARD_AXIS, axis_size=1))
    states, metrics = [jax.tree.map(lambda x: x[None], jax.jit(learner.init)(jax.random.key(9)))], []
    for window in windows:
        state, more = update(states[-1], jax.tree.map(lambda x: x[None], window))
        states.append(state)
        metrics.append(more)
    return states, metrics


@pytest.mark.parametrize("uncertainty", SETS)
@pytest.mark.parametrize("factorization", FACTORIZATIONS)
def test_every_pair_trains(factorization, uncertainty):
    rho = 0.2 if SETS[uncertainty].max_rho else 0.0
    config = SMALL.replace(factorization=factorization, uncertainty=uncertainty, rho=rho, target_period=3)
    states, metrics = take_updates(config, make_spec())
    for more in metrics:
        assert all(np.isfinite(x) for x in more)
        assert more.loss > 0.0
        assert more.grad_norm > 0.0
    start, end = states[0], states[-1]
    assert end.updates == 4
    constants = ("obs_offset", "obs_scale")
    before, after = leaves(start.params), leaves(end.params)
    for name, array in after.items():
        assert np.all(np.isfinite(array))
        assert (name.rsplit(".")[-1] in constants) == np.array_equal(array, before[name]), name
    if SETS[uncertainty].dual_loss is None:
        assert all(more.dual_loss == 0.0 for more in metrics)
    else:
        assert np.any(end.dual.out != start.dual.out)
    assert_equal(states[2].target, start.params)  # targets stand still
    assert_equal(states[3].target, states[3].params)  # until the third update, which copies


@pytest.mark.parametrize("ordered", [False, True])
def test_every_switch_at_once(ordered):
    config = SMALL.replace(
        uncertainty="tv", rho=0.2, share_parameters=True, double_q=True, burn_in=0, dual_updates=3, bowls=2
    )
    states, metrics = take_updates(config, make_spec(ordered=ordered, masks_actions=not ordered))
    assert all(np.all(np.isfinite(x)) for x in leaves((states[-1], metrics)).values())


def test_the_average_lies_between_the_weights_it_averages():
    """It starts at the first weights and moves after them, faster while there are few updates."""
    states, _ = take_updates(SMALL.replace(average_decay=0.5), make_spec())
    for number, (before, after) in enumerate(itertools.pairwise(states), start=1):
        decay = min(0.5, number / (10 + number))
        expected = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, before.average, after.params)
        for name, array in leaves(after.average).items():
            np.testing.assert_allclose(array, leaves(expected)[name], rtol=1e-4, atol=1e-6, err_msg=name)
