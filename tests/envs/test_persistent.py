"""Persistent worlds: the language of ranges, what is drawn, and that an episode stays in its world."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drigm.core.errors import UserError
from drigm.envs import make_env
from drigm.envs.api import Held, reset_all, step_or_reset
from drigm.envs.persistent import (
    Range,
    check_ranges,
    draw,
    parse_ranges,
    persistent,
    with_context,
)
from drigm.envs.perturbations import perturbed
from drigm.envs.shifts import worlds
from drigm.training.settings import resolve, settle

TUCSON = "building:OfficeSmall/Tucson"
TEXT = "capacity=0.5:2,power=0.7:1.3,gains=-0.2:0.3@3h,action_delay=0:2"


@pytest.fixture(scope="module")
def tucson():
    return make_env(TUCSON)


def test_ranges_are_read():
    assert parse_ranges(" capacity=0.5:2, gains=-0.3:0.3@3h ") == [
        Range("capacity", 0.5, 2.0),
        Range("gains", -0.3, 0.3, 3.0),
    ]
    assert parse_ranges("") == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("capacity", "give name=low:high"),
        ("capacity=1", "give name=low:high"),
        ("capacity=1:x", "give name=low:high"),
        ("capacity=1:nan", "give name=low:high"),
        ("capacity=2:1", "low:high"),
        ("capacity=1:2,capacity=1:2", "once"),
        ("gains=0:1@0h", "more than 0 hours"),
        ("capacity=1:2@3h", "leave out @"),
        ("nothing=0:1", "choose one of"),
        ("capacity=0:1", "above 0"),
        ("action_delay=0:1.5", "whole number"),
        ("obs_noise=-1:1", "from 0"),
    ],
)
def test_what_is_no_range_is_one_sentence(tucson, text, told):
    with pytest.raises(UserError) as refused:
        check_ranges(tucson, parse_ranges(text))
    assert told in str(refused.value)


def test_worlds_fill_their_ranges_and_factors_do_so_logarithmically(tucson):
    points = draw(tucson, parse_ranges(TEXT), 64, seed=0)
    capacity = np.array([point["capacity"] for point in points])
    assert 0.5 <= capacity.min() < 0.53
    assert 1.9 < capacity.max() <= 2.0
    assert np.sum(capacity < 1.0) == 32  # half of them lie below the geometric mean
    power = np.stack([point["power"] for point in points])
    assert power.shape == (64, 6)  # one for each zone
    assert np.ptp(power, axis=1).min() > 0.0
    assert {point["action_delay"] for point in points} == {0.0, 1.0, 2.0}
    assert {point["gains"] for point in points} == {Held(-0.2, 0.3, 3.0)}


def test_an_episode_is_that_of_its_world(tucson):
    """Step by step the same numbers as in an environment that was made with the world's parameters."""
    ranges = parse_ranges(TEXT)
    env = persistent(with_context(tucson, len(ranges)), ranges, 8)
    points = draw(tucson, ranges, 8, seed=5)
    key, action = jax.random.key(3), jnp.full(6, 130, jnp.int32)
    for k in (0, 5):
        there = env.persistent.weigh(env.params, jnp.zeros(8).at[k].set(1.0))
        plain = perturbed(tucson, points[k])
        state, step = env.reset(key, there)
        plain_state, plain_step = plain.reset(key, plain.params)
        for _ in range(4):
            assert int(env.persistent.world(state)) == k
            np.testing.assert_array_equal(step.obs, plain_step.obs)
            np.testing.assert_array_equal(step.reward, plain_step.reward)
            np.testing.assert_array_equal(step.state[:-4], plain_step.state)
            np.testing.assert_array_equal(step.state[-4:], there.context[k])
            state, step = env.step(key, state, action, there)
            plain_state, plain_step = plain.step(key, plain_state, action, plain.params)
    assert float(jnp.abs(env.params.context).max()) <= 1.0
    assert env.spec.obs_size == tucson.spec.obs_size  # the agents are not told


@pytest.mark.slow
def test_a_reset_draws_the_worlds_by_their_weights(tucson):
    ranges = parse_ranges("capacity=0.5:2")
    env = persistent(with_context(tucson, 1), ranges, 4)
    weights = jnp.array([0.5, 0.0, 0.5, 0.0])
    env = env._replace(params=env.persistent.weigh(env.params, weights))
    state, _ = reset_all(env, jax.random.key(0), 400)
    counts = np.bincount(np.asarray(state.world), minlength=4)
    assert counts[1] == counts[3] == 0
    assert abs(counts[0] - 200) < 50  # five standard deviations
    over = jnp.arange(400) < 100
    after, _ = step_or_reset(env, jax.random.key(1), state, jnp.full((400, 6), 100, jnp.int32), over)
    np.testing.assert_array_equal(after.world[100:], state.world[100:])
    assert bool(jnp.any(after.world[:100] != state.world[:100]))


def test_unknown_heat_stays_for_the_episode_or_for_the_hours_that_are_said(tucson):
    action = jnp.full(6, 100, jnp.int32)
    for hours, changes in ((0.0, 0.0), (1.0, 1.0 / 12.0)):
        env = tucson.vary({"gains": Held(-0.2, 0.2, hours)})

        def step(state, key, env=env):
            state, _ = env.step(key, state, action, env.params)
            return state, state.gains

        state, _ = env.reset(jax.random.key(0), env.params)
        _, gains = jax.lax.scan(step, state, jax.random.split(jax.random.key(1), 2000))
        changed = float(jnp.mean(jnp.diff(gains, axis=0) != 0.0))
        assert abs(changed - changes) < 0.01
        assert float(jnp.abs(gains).max()) <= 0.2
        assert float(jnp.ptp(state.gains)) > 0.0  # each zone has its own


def test_a_constant_gain_heats_as_that_share_of_the_units_power(tucson):
    """A gain of 0.1 at power 0 is power 0.1 without gain."""
    heated = tucson.vary({"gains": 0.1})
    state, _ = tucson.reset(jax.random.key(0), tucson.params)
    warm, _ = heated.reset(jax.random.key(0), heated.params)
    _, by_unit = tucson.step(jax.random.key(0), state, jnp.full(6, 110, jnp.int32), tucson.params)
    _, by_gain = heated.step(jax.random.key(0), warm, jnp.full(6, 100, jnp.int32), heated.params)
    np.testing.assert_allclose(by_gain.obs, by_unit.obs, atol=1e-5)


def test_heat_that_lags_arrives_a_step_late(tucson):
    late = tucson.vary({"lag": 1.0})
    state, _ = late.reset(jax.random.key(0), late.params)
    plain, _ = tucson.reset(jax.random.key(0), tucson.params)
    full, off = jnp.full(6, 150, jnp.int32), jnp.full(6, 100, jnp.int32)
    first, shown = late.step(jax.random.key(0), state, full, late.params)
    _, unheated = tucson.step(jax.random.key(0), plain, off, tucson.params)
    np.testing.assert_allclose(shown.obs, unheated.obs, atol=1e-5)
    _, then = late.step(jax.random.key(0), first, off, late.params)
    assert bool(jnp.all(then.obs[:, 0] > shown.obs[:, 0] + 0.1))


def test_evaluation_plays_other_worlds_than_training(tucson):
    env, shifts = worlds(tucson, ranges="capacity=0.5:2", count=8)
    trained = persistent(with_context(tucson, 1), parse_ranges("capacity=0.5:2"), 8)
    assert len(shifts) == len({shift.name for shift in shifts}) == 8
    played = np.stack([shift.params.relaxation for shift in shifts])
    known = np.stack(
        [trained.params.own[i] for i in range(len(trained.params.own)) if trained.params.own[i].shape == (8, 6, 6)]
    )
    assert not np.isclose(played[:, None], known[0][None]).all(axis=(2, 3)).any()
    assert env.spec.name == tucson.spec.name


def test_several_parts_are_played_as_each_is_by_itself(tucson):
    env, shifts = worlds(tucson, ranges="nominal; capacity=0.5:2,gains=-0.1:0.1@3h; obs_noise=0:0.1", count=2)
    assert [shift.name for shift in shifts[:1]] == ["nominal"]
    assert len(shifts) == 5
    alone = worlds(tucson, ranges="capacity=0.5:2,gains=-0.1:0.1@3h", count=2)
    assert [shift.name for shift in shifts[1:3]] == [shift.name for shift in alone.shifts]
    np.testing.assert_array_equal(shifts[1].params.world.relaxation, alone.shifts[0].params.relaxation)
    shapes = {str(jax.tree.map(jnp.shape, shift.params)) for shift in shifts}
    assert shapes == {str(jax.tree.map(jnp.shape, env.params))}  # one program plays all
    with pytest.raises(UserError, match="choose one of"):
        worlds(tucson, ranges="capacity=0.5:2; climat")


def test_what_is_possible_does_not_depend_on_who_plays(tucson):
    """The one-step optimum is near 0.99 wherever power suffices, and lower where it does not."""
    env = persistent(with_context(tucson, 1), parse_ranges("power=0.02:1"), 2)
    scores = np.asarray(env.score(jax.jit(env.persistent.possible)(env.params)))
    weak = int(np.argmin(np.asarray(env.params.context)[:, 0]))
    assert scores[1 - weak] > 0.97
    assert scores[weak] < scores[1 - weak]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"alpha": 0.5}, "without worlds"),
        ({"worlds": "capacity=1:2", "baseline": "domain_randomization"}, "worlds of its own"),
        ({"worlds": "obs_noise=0:1", "perturb": "obs_noise=0.1"}, "which perturb sets"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, told):
    with pytest.raises(UserError) as refused:
        resolve(settle({"env": TUCSON, **settings}))
    assert told in str(refused.value)


@pytest.mark.slow
def test_battles_have_worlds_too():
    pytest.importorskip("jaxmarl")
    smax, ranges = make_env("smax:3m"), parse_ranges("unit_health=-0.3:0.3,obs_noise=0:0.1")
    env = persistent(with_context(smax, 2), ranges, 4)
    state, step = jax.jit(lambda key: reset_all(env, key, 8))(jax.random.key(0))
    health = np.asarray(state.state.world.state.unit_health)[:, 0]
    assert len({(int(k), float(h)) for k, h in zip(state.world, health, strict=True)}) == len(
        set(map(int, state.world))
    )
    np.testing.assert_allclose(np.sign(health - 45.0), np.sign(step.state[:, -2]))  # a marine has 45
    assert step.state.shape == (8, smax.spec.state_size + 2)
