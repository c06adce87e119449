"""The supply chain as a PettingZoo `ParallelEnv`: PettingZoo's own tests, and its agreement with the pure functions."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drigm.core.errors import UserError
from drigm.envs.supply import parallel_env, supply

pytest.importorskip("pettingzoo")
# PettingZoo's own tests import its games by a way of making them that PettingZoo is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:The old environment creation API:DeprecationWarning")


@pytest.mark.parametrize("name", ["serial4", "distribution7?sales=lost", "newsvendor?weeks=20"])
def test_pettingzoos_own_conformance_test(name):
    from pettingzoo.test import parallel_api_test

    parallel_api_test(parallel_env(name), num_cycles=120)


def test_pettingzoos_own_seed_test():
    from pettingzoo.test import parallel_seed_test

    parallel_seed_test(lambda: parallel_env("serial3"), num_cycles=20)


@pytest.mark.slow
def test_agrees_with_the_pure_functions():
    """The episode's key is the first number of the seed's generator, a week's key is folded in."""
    pure, env = supply("serial4"), parallel_env("serial4")
    key = jax.random.key(int(np.random.default_rng(3).integers(2**31 - 1)))
    state, expected = pure.reset(key, pure.params)
    obs, infos = env.reset(seed=3)
    assert list(infos) == env.agents == list(pure.spec.agents)
    actions = np.random.default_rng(0).integers(0, 55, (52, 4))
    for t, joint in enumerate(actions, 1):
        np.testing.assert_allclose(np.stack([obs[agent] for agent in pure.spec.agents]), expected.obs)
        np.testing.assert_allclose(env.state(), expected.state)
        state, expected = pure.step(jax.random.fold_in(key, t), state, jnp.asarray(joint), pure.params)
        # By agent id: the order of the dictionary must not matter.
        by_agent = dict(reversed(list(zip(env.agents, joint, strict=True))))
        obs, rewards, terminated, truncated, _ = env.step(by_agent)
        assert all(env.observation_space(agent).contains(seen) for agent, seen in obs.items())
        assert env.state_space.contains(env.state())
        np.testing.assert_allclose(sum(rewards.values()), float(expected.reward), rtol=1e-5)
        assert not any(terminated.values())
        assert all(truncated.values()) == (t == 52)
    assert env.agents == []
    assert env.step({}) == ({}, {}, {}, {}, {})


@pytest.mark.parametrize(("actions", "told"), [({"retailer": 3}, "factory"), (None, "0 to 54")])
def test_a_missing_or_wrong_action_is_named(actions, told):
    env = parallel_env("serial4")
    env.reset(seed=0)
    with pytest.raises(UserError, match=told):
        env.step(dict.fromkeys(env.agents, 55) if actions is None else actions)


def test_without_pettingzoo_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pettingzoo", None)
    monkeypatch.delitem(sys.modules, "drigm.envs.supply.pettingzoo", raising=False)
    monkeypatch.delitem(sys.modules, "drigm.envs.parallel_env", raising=False)
    with pytest.raises(UserError, match=r'pip install "drigm\[pettingzoo\]"'):
        parallel_env("serial4")
