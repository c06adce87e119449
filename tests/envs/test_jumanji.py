"""Jumanji's games behind the environment protocol, held against Jumanji itself."""

from __future__ import annotations

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drigm.core.errors import UserError
from drigm.envs import make_env
from drigm.envs.foreign import permissive
from drigm.envs.jumanji.games import GAMES

library = pytest.importorskip("jumanji")


FORAGING, WAREHOUSE = "jumanji:LevelBasedForaging-v0", "jumanji:RobotWarehouse-v0"
STAY, FORWARD, LOAD = 0, 1, 5
SHELVES, AGENTS = 0, 1  # floors of the warehouse


@functools.cache
def foraging():
    env = make_env(FORAGING)
    return env, jax.jit(env.reset), jax.jit(env.step)


@functools.cache
def meal():
    """A state in which both agents stand beside the first food, and the second is eaten."""
    env, reset, _ = foraging()
    state, _ = reset(jax.random.key(0), env.params)
    food = state.food_items
    eaten = food.replace(eaten=jnp.array([False, True]))
    beside = food.position[:1] + jnp.array([[0, -1], [0, 1]], jnp.int32)
    return state.replace(agents=state.agents.replace(position=beside), food_items=eaten)


@pytest.mark.slow
def test_foraging_equals_jumanji():
    """Observations, masks and rewards are Jumanji's."""
    env, reset, step = foraging()
    with permissive():
        theirs = library.make("LevelBasedForaging-v0")
        state, said = jax.jit(theirs.reset)(jax.random.key(3))
        theirs_step = jax.jit(theirs.step)
        ours, shown = reset(jax.random.key(3), env.params)
        for t in range(12):
            np.testing.assert_array_equal(shown.obs, said.observation.agents_view)
            np.testing.assert_array_equal(shown.state, np.ravel(said.observation.agents_view))
            np.testing.assert_array_equal(shown.avail_actions, said.observation.action_mask)
            action = jnp.argmax(shown.avail_actions * jnp.roll(jnp.arange(1, 7), t), axis=-1).astype(jnp.int32)
            state, said = theirs_step(state, action)
            ours, shown = step(jax.random.key(t), ours, action, env.params)
            assert float(shown.reward) == pytest.approx(float(said.reward.sum()), abs=1e-6)
            assert not shown.terminated
            assert not shown.truncated


def test_the_last_food_terminates_and_the_time_limit_truncates():
    env, _, step = foraging()
    late = meal().replace(step_count=jnp.int32(env.spec.episode_limit - 1))
    for state, action, ends in (
        (meal(), STAY, (0, 0)),
        (meal(), LOAD, (1, 0)),
        (late, STAY, (0, 1)),
        (late, LOAD, (1, 0)),
    ):
        _, shown = step(jax.random.key(0), state, jnp.full(2, action), env.params)
        assert (bool(shown.terminated), bool(shown.truncated)) == ends
        assert float(shown.reward) == (0.5 if ends[0] else 0.0)  # the other half of the food was eaten before


def test_an_agent_that_fails_stays_where_it_is():
    """Idle is a declared action; alone the other one cannot load what takes both."""
    env, _, step = foraging()
    assert env.spec.described.actions[env.spec.idle_action] == "stay"
    state, shown = step(jax.random.key(0), meal(), jnp.array([env.spec.idle_action, LOAD]), env.params)
    np.testing.assert_array_equal(state.agents.position, meal().agents.position)
    assert float(shown.reward) == 0.0
    assert not shown.terminated


@pytest.mark.parametrize(
    "name", [*GAMES, "LevelBasedForaging-v0?grid_size=10&num_agents=3&num_food=3&fov=2&force_coop=false"]
)
def test_every_game_has_its_shapes(name):
    env = make_env(f"jumanji:{name}")
    spec = env.spec
    state, step = jax.eval_shape(env.reset, jax.random.key(0), env.params)
    assert step.obs.shape == spec.obs_scale.shape == (spec.num_agents, spec.obs_size)
    assert step.state.shape == spec.state_scale.shape == (spec.state_size,)
    assert step.avail_actions.shape == (spec.num_agents, spec.num_actions)
    assert not any(jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state))


def test_readings_are_scaled_by_what_they_can_be():
    """Food levels sum up to three agents'; sight reaches everywhere unless it is said."""
    scale = make_env(f"{FORAGING}?grid_size=10&num_agents=4&num_food=2&max_agent_level=3").spec.obs_scale
    assert scale[0].tolist() == [10, 10, 9, 10, 10, 9, *[10, 10, 3] * 4]
    assert make_env(f"{FORAGING}?penalty=0.5").spec.reward_range == (-1.0, 1.0)
    assert make_env(WAREHOUSE).spec.obs_scale[0, :4].tolist() == [20, 10, 1, 1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("LevelBasedForaging", "did you mean LevelBasedForaging-v0"),
        ("LevelBasedForaging-v0?grid_sie=4", "did you mean grid_size"),
        ("LevelBasedForaging-v0?grid_size=four", "grid_size: 'four' is not allowed; give a whole number from 1 to 100"),
        ("LevelBasedForaging-v0?grid_size=4", "Jumanji says: Grid size"),
        ("LevelBasedForaging-v0?force_coop=1", "choose one of true, false"),
        ("LevelBasedForaging-v0?fov=2&fov=3", "give OPTION=VALUE once"),
        ("LevelBasedForaging-v0?penalty=nan", "give a number from 0"),
        ("RobotWarehouse-v0?shelf_columns=2", "must be an odd number"),
        ("RobotWarehouse-v0?shelf_rows=1&column_height=2", "request_queue_size: 8 is not allowed; give fewer than"),
        ("RobotWarehouse-v0?fov=2", "choose one of shelf_rows"),
    ],
)
def test_what_is_not_allowed_is_said(name, said):
    with pytest.raises(UserError, match=said):
        make_env(f"jumanji:{name}")


def test_without_jumanji_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "jumanji", None)
    with pytest.raises(UserError, match=r"jumanji is missing: pip install 'drigm\[jumanji\]'"):
        make_env(FORAGING)


@pytest.mark.slow
def test_robots_that_collide_terminate_and_the_time_limit_truncates():
    """Jumanji's own warehouse calls both an end."""
    env = make_env(f"{WAREHOUSE}?num_agents=2&shelf_rows=1&column_height=2&request_queue_size=2")
    state, _ = jax.jit(env.reset)(jax.random.key(0), env.params)
    right = 1
    place = state.agents.position._replace(x=jnp.array([0, 0]), y=jnp.array([1, 2]))
    agents = state.agents._replace(position=place, direction=jnp.array([right, right]))
    grid = state.grid.at[AGENTS].set(0).at[AGENTS, 0, 1].set(1).at[AGENTS, 0, 2].set(2)
    state = state.replace(agents=agents, grid=grid)
    step = jax.jit(env.step)
    late = state.replace(step_count=jnp.int32(env.spec.episode_limit - 1))
    for begin, first, ends in (
        (state, STAY, (0, 0)),
        (state, FORWARD, (1, 0)),
        (late, STAY, (0, 1)),
        (late, FORWARD, (1, 0)),
    ):
        _, shown = step(jax.random.key(0), begin, jnp.array([first, STAY]), env.params)
        assert (bool(shown.terminated), bool(shown.truncated)) == ends


@pytest.mark.slow
def test_the_requests_of_a_warehouse_come_from_the_key_of_the_step():
    """A delivered shelf is replaced by another, drawn with the step's own key."""
    env = make_env(f"{WAREHOUSE}?num_agents=1&shelf_rows=1&column_height=2&request_queue_size=1")
    state, _ = jax.jit(env.reset)(jax.random.key(0), env.params)
    step, wanted = jax.jit(env.step), int(state.request_queue[0])
    rows, columns = env.spec.obs_scale[0, :2].astype(int)
    goal = (rows - 1, columns // 2)
    shelves = state.shelves.position
    shelves = shelves._replace(x=shelves.x.at[wanted].set(goal[0]), y=shelves.y.at[wanted].set(goal[1]))
    grid = jnp.zeros_like(state.grid).at[SHELVES, *goal].set(wanted + 1).at[AGENTS, 0, 0].set(1)
    place = state.agents.position._replace(x=jnp.array([0]), y=jnp.array([0]))
    state = state.replace(
        grid=grid, shelves=state.shelves._replace(position=shelves), agents=state.agents._replace(position=place)
    )
    after = [step(jax.random.key(k), state, jnp.array([STAY]), env.params) for k in (1, 1, 2, 3, 4)]
    assert all(float(shown.reward) == 1.0 for _, shown in after)
    queues = [int(state.request_queue[0]) for state, _ in after]
    assert queues[0] == queues[1]
    assert len(set(queues)) > 1


@pytest.mark.slow
def test_a_connector_sees_its_own_head_and_target_apart():
    env = make_env("jumanji:Connector-v3?grid_size=5&num_agents=3")
    state, shown = jax.jit(env.reset)(jax.random.key(0), env.params)
    planes = np.asarray(shown.obs).reshape(3, 5, 5, 5)
    for i in range(3):
        assert planes[i, 0][tuple(state.agents.position[i])] == planes[i, 0].sum() == 1
        assert planes[i, 1][tuple(state.agents.target[i])] == planes[i, 1].sum() == 1
    np.testing.assert_array_equal(planes[0, 2], planes[1, 0] + planes[2, 0])
    np.testing.assert_array_equal(planes[0, 3], planes[1, 1] + planes[2, 1])
    assert planes[:, 4].sum() == 0
