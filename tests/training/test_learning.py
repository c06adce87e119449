"""Problems whose values are known by hand, learnt in seconds; and every pair of the registries takes steps."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import LEARN, SMALL, assert_close, assert_equal, leaves, make_spec, seeds_to_learn, shift_of, train_all

from drigm.agents import rollout
from drigm.agents.recurrent import AgentInputs
from drigm.algorithms.factorizations import FACTORIZATIONS
from drigm.algorithms.learner import make_learner
from drigm.algorithms.robust_target import team_of
from drigm.algorithms.uncertainty import SETS
from drigm.algorithms.value_bounds import make_robustness
from drigm.core.types import NO_ACTION, StoredStep, standardise
from drigm.envs import make_env
from drigm.envs.episodes import advance, stored_step
from drigm.runtime.sharding import SHARD_AXIS


def greedy_play(env, learner, state, robustness):
    """One greedy episode in 16 environments: Q_tot of the greedy joint action [L, B], and the return [B]."""
    agents, mixer = state.average
    carry = rollout.start(env, agents, jax.random.key(100), 16)
    values, total = [], jnp.zeros(16)
    for step in range(env.spec.episode_limit):
        row = stored_step(env, carry)
        inputs = AgentInputs(row.obs[None], row.last_action[None], row.first[None])
        memory, features = agents.unroll(carry.memory, inputs)
        action = agents.greedy(features, None)
        state_now = standardise(row.state, env.spec.state_offset, env.spec.state_scale)
        team = jax.tree.map(lambda x: x[0], team_of(agents, features, action, state_now[None], None))
        values.append(learner.method.factorization.joint_value(mixer, team))
        action = action[0]
        carry, _ = advance(env, carry, jax.random.key(200 + step), action, memory)
        total += carry.timestep.reward
    offset = shift_of(learner.method, robustness)
    return jnp.stack(values) + offset, total


class Play(NamedTuple):
    values: np.ndarray  # [seeds, radii, L, B]
    returns: np.ndarray  # [seeds, radii, B]


def learn_and_play(config, rho=(0.0,), count=1):
    """Train ``count`` seeds with every radius, all as one program, then play greedily."""
    env, seeds = make_env(config.env), seeds_to_learn(count)
    state, sums = train_all(config, env, seeds=np.repeat(seeds, len(rho)), rho=np.tile(rho, len(seeds)))
    assert np.all(np.isfinite(sums.metrics.loss))
    learner = make_learner(config, env.spec)
    learnt, robustness = jax.tree.map(lambda x: x[0], (state.learner, state.robustness))
    play = jax.jit(jax.vmap(lambda s, r: greedy_play(env, learner, s, r)))
    return Play(*(np.reshape(np.asarray(x), (len(seeds), len(rho), *x.shape[1:])) for x in play(learnt, robustness)))


def discounted(discount, steps):
    """The value of reward 1 in each of the steps left, at each of the steps of an episode."""
    return [sum(discount**k for k in range(steps - t)) for t in range(steps)]


# Bounds on what is learnt hold for other seeds: in comments mean, deviation and worst of the ten seeds from 100
# on (`make learning-margins`). Each bound is at least three of its deviations from its mean.
class Problem(NamedTuple):
    changes: dict
    rho: tuple
    values: list  # for every radius, at every step
    returns: float
    tolerance: float = 0.08


PROBLEMS = {
    # Worst errors of a value: 0.000 in discount, 0.014 ± 0.007 (0.024) in endless, 0.030 ± 0.012 (0.039) in ends,
    # 0.031 ± 0.006 (0.041) in recall, 0.000 in coordinate, 0.049 ± 0.002 (0.050) in levels.
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
@pytest.mark.learns
@pytest.mark.parametrize("name", PROBLEMS)
def test_known_values_are_learnt(name, learnt):
    problem = PROBLEMS[name]
    play = learn_and_play(LEARN.replace(env=f"probe:{name}", **problem.changes), problem.rho)
    expected = np.array(problem.values)[..., None]
    learnt("error of the values", np.abs(play.values - expected), at_most=problem.tolerance)
    learnt("error of the returns", np.abs(play.returns - problem.returns), at_most=problem.tolerance)


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
@pytest.mark.learns
def test_vdn_picks_0_in_the_matrix_game(learnt):
    """[[8, -12, -12], [-12, 0, 0], [-12, 0, 0]] with uniform data: the closest sum has row means -16/3, -4, -4 about
    the mean -40/9, so its best joint action is worth -4 - 4 + 40/9 = -32/9 to it, and its reward is 0, not 8."""
    play = learn_and_play(CHANCE.replace(env="probe:matrix"), count=3)
    np.testing.assert_array_equal(play.returns, 0.0)
    # 0.07 ± 0.10 (0.35), where its other actions are 1.33 away, and the true value 3.56.
    learnt("error of the values", np.abs(play.values + 32 / 9), at_most=0.6)


@pytest.mark.slow
@pytest.mark.learns
@pytest.mark.parametrize("factorization", ["qtran", "qtran-alt"])
def test_qtran_finds_8_in_the_matrix_game(factorization, learnt):
    """A joint value of any form, and agents tied to it where it is best."""
    config = CHANCE.replace(env="probe:matrix", factorization=factorization, mixer_embed=32)
    play = learn_and_play(config, count=3)
    np.testing.assert_array_equal(play.returns, 8.0)
    # qtran 0.0001 ± 0.0001 (0.0004), qtran-alt 0.02 ± 0.07 (0.21), where the next best action is 8 away.
    learnt("error of the values", np.abs(play.values - 8.0), at_most=0.6)


GAMBLE = CHANCE.replace(env="probe:gamble", fail_value=-1.0)


@pytest.mark.slow
@pytest.mark.learns
def test_total_variation_learns_to_play_safe(learnt):
    """Risky leads to 1 or -1 with 3/4 and 1/4, safe to 0.25; m = -1.

    Radius 0 is nominal: risky is worth 0.8 * 0.5. Radius 0.6 takes 0.6 of the mass from the best state to m: risky is
    worth 0.8 * (0.15 * 1 - 0.25 - 0.6), safe 0.8 * (0.4 * 0.25 - 0.6), which is 0.16 more.
    """
    play = learn_and_play(GAMBLE.replace(uncertainty="tv"), rho=(0.0, 0.6))
    risky, safe = play.returns[:, 0], play.returns[:, 1]
    assert set(np.round(risky.ravel(), 2)) == {-1.0, 1.0}
    assert set(np.round(safe.ravel(), 2)) == {0.25}
    # 0.015 ± 0.007 (0.026), 0.005 ± 0.003 (0.012), 0.002 ± 0.001 (0.004).
    learnt("error of the nominal value", np.abs(play.values[:, 0, 0] - 0.8 * 0.5), at_most=0.08)
    learnt("error of the robust value", np.abs(play.values[:, 1, 0] - 0.8 * (0.4 * 0.25 - 0.6)), at_most=0.08)
    learnt("error of the last rewards", np.abs(play.values[:, :, 1] - play.returns), at_most=0.08)


@pytest.mark.slow
@pytest.mark.learns
def test_contamination_keeps_the_order_of_the_means(learnt):
    """The same gamble: both actions lose the same share, so that risky stays the better one."""
    play = learn_and_play(GAMBLE.replace(uncertainty="contamination"), rho=(0.6,))
    assert set(np.round(play.returns.ravel(), 2)) == {-1.0, 1.0}
    # 0.006 ± 0.003 (0.010)
    learnt("error of the robust value", np.abs(play.values[:, 0, 0] - 0.8 * (0.4 * 0.5 - 0.6)), at_most=0.08)


def random_window(spec, config, key, terminates=True):
    """A window [T + 1, B] of nonsense with ends and masked actions in it."""
    keys = jax.random.split(key, 6)
    shape = (config.window + 1, config.batch)
    first = jax.random.bernoulli(keys[0], 0.2, shape).at[0].set(False)
    over = jnp.concatenate([first[1:], jnp.zeros((1, config.batch), bool)])
    even = jnp.broadcast_to(jnp.arange(config.batch) % 2 == 0, shape)
    joint = (*shape, spec.num_agents)
    action = jax.random.randint(keys[1], joint, 0, spec.num_actions, jnp.int32)
    avail = jax.random.bernoulli(keys[2], 0.7, (*joint, spec.num_actions)).at[..., 0].set(True)
    return StoredStep(
        obs=jax.random.normal(keys[3], (*joint, spec.obs_size)),
        state=jax.random.normal(keys[4], (*shape, spec.state_size)),
        avail_actions=avail if spec.masks_actions else None,
        last_action=jnp.where(first[..., None], NO_ACTION, action),
        reward=jax.random.normal(keys[5], shape),
        terminated=over & even & terminates,
        truncated=over & ~(even & terminates),
        first=first,
    )


# Compiled programs by what they depend on; the radius and the fail value are arguments. Specs are those of `make_spec`.
PROGRAMS = {}
FAST_COMPILE = {"xla_backend_optimization_level": 0}


def programs(config, spec):
    """(init, update) on one shard. What runs once need not be optimised."""
    key = config.replace(rho=0.0, fail_value="auto"), spec.masks_actions, spec.action_values is None
    if key not in PROGRAMS:
        learner = make_learner(config, spec)
        start = jax.jit(learner.init, compiler_options=FAST_COMPILE)
        update = jax.vmap(learner.update, axis_name=SHARD_AXIS, axis_size=1, in_axes=(0, 0, None))
        # Run a few times only: compiling is all that costs.
        PROGRAMS[key] = start(jax.random.key(9)), jax.jit(update, compiler_options=FAST_COMPILE)
    return PROGRAMS[key]


def take_updates(config, spec, count=4, *, terminates=True):
    """The learner's state after every update on one shard, and the metrics."""
    robustness = make_robustness(config, spec, jnp.float32(config.rho))
    windows = [random_window(spec, config, jax.random.key(k), terminates) for k in range(count)]
    start, update = programs(config, spec)
    states, metrics = [jax.tree.map(lambda x: x[None], start)], []
    for window in windows:
        state, more = update(states[-1], jax.tree.map(lambda x: x[None], window), robustness)
        states.append(state)
        metrics.append(more)
    return states, metrics


def assert_trained(config, spec):
    """Four real updates move every weight and leave the declared constants alone; returns the states."""
    states, metrics = take_updates(config, spec)
    for more in metrics:
        assert all(np.isfinite(x) for x in more)
        assert more.loss > 0.0
        assert more.grad_norm > 0.0
    start, end = states[0], states[-1]
    assert end.updates == 4
    before, after = leaves(start.params), leaves(end.params)
    for name, array in after.items():
        assert np.all(np.isfinite(array))
        unchanged = np.array_equal(array, before[name])
        assert not array.size or (name.rsplit(".")[-1] in CONSTANTS) == unchanged, name
    if end.dual.network is None:
        assert all(more.dual_loss == 0.0 for more in metrics)
    else:
        before, after = leaves(start.dual), leaves(end.dual)
        assert all(not x.size or np.any(x != before[name]) or "levels" in name for name, x in after.items())
    assert_equal(states[2].target, start.params)  # targets stand still
    assert_equal(states[3].target, states[3].params)  # until the third update, which copies
    return states


CONSTANTS = ("obs_offset", "obs_scale", "levels")


@pytest.mark.slow
@pytest.mark.parametrize("uncertainty", SETS)
@pytest.mark.parametrize("factorization", FACTORIZATIONS)
def test_every_pair_trains(factorization, uncertainty):
    rho = 0.2 if SETS[uncertainty].max_rho else 0.0
    config = SMALL.replace(factorization=factorization, uncertainty=uncertainty, rho=rho, target_period=3)
    states = assert_trained(config, make_spec())
    assert (states[-1].dual.network is not None) == SETS[uncertainty].has_dual


@pytest.mark.parametrize(
    ("baseline", "uncertainty"),
    [
        ("short_horizon", "nominal"),
        *(pytest.param("individual_robust", name, marks=pytest.mark.slow) for name in SETS if name != "nominal"),
    ],
)
def test_every_baseline_of_the_target_trains(baseline, uncertainty):
    """The others change the environment or the reward: see test_baselines."""
    config = SMALL.replace(factorization="vdn", baseline=baseline, uncertainty=uncertainty, rho=0.2, target_period=3)
    states = assert_trained(config, make_spec())
    if states[-1].dual.network is not None:  # one for each agent
        assert {x.shape[1] for x in leaves(states[-1].dual.network).values()} == {2}


def test_the_squared_loss_of_positive_rewards_is_gamma_0():
    """Its dual network begins at eta 0, where the square is least already, so that nothing is left of V'."""
    config = SMALL.replace(factorization="vdn", target_period=3)
    spec = make_spec(reward_range=(0.0, 1.0))
    squared, _ = take_updates(config.replace(baseline="squared_dual", rho=0.2), spec)
    nothing, _ = take_updates(config.replace(baseline="short_horizon", rho=1.0), spec)
    assert_close(squared[-1].params, nothing[-1].params, rtol=1e-3, atol=2e-5)
    linear, _ = take_updates(config.replace(uncertainty="tv", rho=0.2), spec)
    with pytest.raises(AssertionError):
        assert_close(linear[-1].params, nothing[-1].params, rtol=1e-3, atol=2e-5)


@pytest.mark.slow
def test_the_consistency_weights_weigh():
    """Without them QTRAN's V learns nothing, and agents follow the joint value alone."""
    config = SMALL.replace(factorization="qtran", lambda_opt=0.0, lambda_nopt=0.0)
    without, _ = take_updates(config, make_spec(), count=2)
    assert_equal(without[-1].params.mixer.value, without[0].params.mixer.value)
    states, _ = take_updates(config.replace(lambda_opt=1.0), make_spec(), count=2)
    assert np.any(states[-1].params.mixer.value.out_bias != 0.0)
    assert np.any(states[-1].params.mixer.residual.out_bias != 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("factorization", "uncertainty"), [("qmix", "tv"), ("qtran-alt", "chi2")])
@pytest.mark.parametrize("ordered", [False, True])
def test_every_switch_at_once(ordered, factorization, uncertainty):
    config = SMALL.replace(
        factorization=factorization,
        uncertainty=uncertainty,
        rho=0.2,
        share_parameters=True,
        double_q=True,
        burn_in=0,
        dual_updates=3,
        bowls=2,
    )
    states, metrics = take_updates(config, make_spec(ordered=ordered, masks_actions=not ordered))
    assert all(np.all(np.isfinite(x)) for x in leaves((states[-1], metrics)).values())


@pytest.mark.parametrize("factorization", ["vdn", "qtran"])
@pytest.mark.slow
def test_contamination_is_a_plain_discount(factorization):
    """Whatever the fail value: it only shifts every value, and the network holds the rest.

    So a gain of rho-contamination is a gain of gamma (1 - rho). Where episodes terminate the two differ by the
    offset, but for m = 0.
    """
    config = SMALL.replace(factorization=factorization, target_period=3)
    discount = config.replace(baseline="short_horizon", rho=0.3)
    plain, _ = take_updates(discount, make_spec(), 6, terminates=False)
    changed = leaves(plain[-1].params.agents)["." + "encoder"] != leaves(plain[0].params.agents)["." + "encoder"]
    assert changed.mean() > 0.5
    for fail_value in ("auto", 0.0, -3.0):
        robust, _ = take_updates(
            config.replace(uncertainty="contamination", rho=0.3, fail_value=fail_value),
            make_spec(),
            6,
            terminates=False,
        )
        for part in ("params", "target", "average"):
            assert_close(getattr(robust[-1], part), getattr(plain[-1], part), rtol=1e-3, atol=2e-5)
    plain, _ = take_updates(discount, make_spec(), 6)
    robust, _ = take_updates(config.replace(uncertainty="contamination", rho=0.3, fail_value=0.0), make_spec(), 6)
    assert_close(robust[-1].params, plain[-1].params, rtol=1e-3, atol=2e-5)
    nominal, _ = take_updates(config, make_spec(), 6)
    with pytest.raises(AssertionError):
        assert_close(nominal[-1].params, plain[-1].params, rtol=1e-3, atol=2e-5)


@pytest.mark.long  # to the bit with the compiler of users
def test_a_discount_of_0_is_radius_1():
    """The baseline that learns the reward of the next step alone."""
    config = SMALL.replace(factorization="vdn", target_period=3)
    one_step, _ = take_updates(config.replace(baseline="short_horizon", rho=1.0), make_spec())
    gamma_0, _ = take_updates(config.replace(gamma=0.0), make_spec())
    assert_equal(one_step[-1].params, gamma_0[-1].params)


def test_the_average_lies_between_the_weights_it_averages():
    """It starts at the first weights and moves after them, faster while there are few updates."""
    states, _ = take_updates(SMALL.replace(average_decay=0.5), make_spec())
    for number, (before, after) in enumerate(itertools.pairwise(states), start=1):
        decay = min(0.5, number / (10 + number))
        expected = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, before.average, after.params)
        for name, array in leaves(after.average).items():
            np.testing.assert_allclose(array, leaves(expected)[name], rtol=1e-4, atol=1e-6, err_msg=name)
