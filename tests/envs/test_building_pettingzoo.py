"""The building as a PettingZoo `ParallelEnv`: PettingZoo's own tests, and its agreement with the pure functions."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drigm.core.errors import UserError
from drigm.envs.building import building, parallel_env

pytest.importorskip("pettingzoo")
KEY = jax.random.key(0)
# PettingZoo's own tests import its games by a way of making them that PettingZoo is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:The old environment creation API:DeprecationWarning")


@pytest.mark.parametrize("options", [{}, {"continuous": True}, {"ac_map": [0, 1, 0, 0, 1, 1]}], ids=str)
def test_pettingzoos_own_conformance_test(options):
    from pettingzoo.test import parallel_api_test

    parallel_api_test(parallel_env("OfficeSmall/Tucson", **options), num_cycles=300)


def test_pettingzoos_own_seed_test():
    from pettingzoo.test import parallel_seed_test

    parallel_seed_test(lambda: parallel_env("Warehouse/Hot_Dry/Tucson"), num_cycles=20)


def test_agrees_with_the_pure_functions():
    pure, env = building("OfficeMedium/Cold_Dry/GreatFalls", days=[5]), parallel_env("OfficeMedium/Cold_Dry/GreatFalls")
    actions = np.random.default_rng(0).integers(0, 200, (20, 18))
    env_state, first = pure.reset(KEY, pure.params)
    obs, infos = env.reset(options={"day": 5})
    assert env.agents == env.possible_agents == list(pure.spec.agents) == list(infos)
    np.testing.assert_allclose(np.stack(list(obs.values())), first.obs, atol=1e-6)
    step = jax.jit(pure.step)
    for joint in actions:
        env_state, expected = step(KEY, env_state, jnp.asarray(joint), pure.params)
        # By agent id: the order of the dictionary must not matter.
        by_agent = dict(reversed(list(zip(env.agents, joint, strict=True))))
        obs, rewards, terminated, truncated, _ = env.step(by_agent)
        np.testing.assert_allclose(np.stack([obs[agent] for agent in pure.spec.agents]), expected.obs, atol=1e-5)
        np.testing.assert_allclose(env.state(), expected.state, atol=1e-5)
        np.testing.assert_allclose(list(rewards.values()), float(expected.reward) / 18, rtol=1e-5)
        assert not any(terminated.values())
        assert not any(truncated.values())


def test_only_truncated_and_then_without_agents():
    env = parallel_env("Warehouse/Tucson")
    env.reset(seed=1)
    for step in range(1, 289):
        *_, terminated, truncated, infos = env.step(dict.fromkeys(env.agents, 100))
        assert not any(terminated.values())
        assert all(truncated.values()) == any(truncated.values()) == (step == 288)
        assert len(infos) == 3
    assert env.agents == []
    assert env.step({}) == ({}, {}, {}, {}, {})
    env.reset()
    assert env.agents == env.possible_agents


def test_a_seed_repeats_the_days_that_follow_it():
    def outdoor(seed):
        env = parallel_env("OfficeSmall/Tucson")
        env.reset(seed=seed)
        days = [env.state()[6]]
        for _ in range(5):
            env.reset()
            days.append(env.state()[6])
        return days

    assert outdoor(3) == outdoor(3)
    assert outdoor(3) != outdoor(4)
    assert len(set(outdoor(3))) > 3


# The buildings with the smallest, the most and the most extreme zones; a winter that leaves -40 C; occupants' feedback.
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("OutPatientHealthCare/Fairbanks", {}),
        ("HotelSmall/Tucson", {}),
        ("OfficeSmall/Fairbanks", {"corrected_ground": True, "target": 15.0}),
        ("SchoolPrimary/Honolulu", {"full_occ": 2.0, "time_res": 900, "episode_len": 96}),
    ],
)
@pytest.mark.parametrize("power", [-1.0, 1.0])
def test_what_is_seen_lies_in_the_spaces(name, options, power):
    env = parallel_env(name, continuous=True, **options)
    for day in (15, 195):
        obs, _ = env.reset(options={"day": day})
        action = np.array([power], np.float32)
        while env.agents:
            assert env.state_space.contains(env.state())
            assert all(env.observation_space(agent).contains(seen) for agent, seen in obs.items())
            obs, *_ = env.step(dict.fromkeys(env.agents, action))
    low, high = env.state_space.low, env.state_space.high
    assert np.isfinite(low).all()
    assert np.isfinite(high).all()
    # Tight enough to be of use: what was reached at full power lies in the outer third of the bounds of its zone.
    reached = env.state()[:-4]
    extreme = high[:-4] if power > 0 else low[:-4]
    middle = (high[:-4] + low[:-4]) / 2
    if "full_occ" not in options:
        assert (np.abs(reached - middle) > np.abs(extreme - middle) / 3).all()


def test_callers_may_write_into_what_they_get():
    env = parallel_env("Warehouse/Tucson")
    obs, _ = env.reset(seed=0)
    state = env.state()
    for agent in env.agents:
        obs[agent][:] = 0
    np.testing.assert_array_equal(env.state(), state)
    env.state()[:] = 0
    np.testing.assert_array_equal(env.state(), state)


@pytest.mark.parametrize("actions", [{}, {"CORE_ZN": 3}])
def test_a_missing_action_is_named(actions):
    env = parallel_env("OfficeSmall/Tucson")
    env.reset(seed=0)
    with pytest.raises(UserError, match="ATTIC"):
        env.step(actions)


def test_actions_and_days_outside_their_range_are_refused():
    env = parallel_env("OfficeSmall/Tucson")
    env.reset(seed=0)
    with pytest.raises(UserError, match="0 to 199"):
        env.step(dict.fromkeys(env.agents, 200))
    with pytest.raises(UserError, match="day"):
        env.reset(options={"day": -1})


def test_is_reached_as_an_attribute_too():
    import drigm.envs

    assert drigm.envs.building.parallel_env is parallel_env  # the module, not the factory of the same name


def test_without_pettingzoo_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pettingzoo", None)
    monkeypatch.delitem(sys.modules, "drigm.envs.building.pettingzoo", raising=False)
    monkeypatch.delitem(sys.modules, "drigm.envs.parallel_env", raising=False)
    with pytest.raises(UserError, match=r'pip install "drigm\[pettingzoo\]"'):
        parallel_env("OfficeSmall/Tucson")
