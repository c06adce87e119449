"""What replay keeps of the agents' memories: windows within an episode that know its beginning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import PARALLEL_ENVS, SMALL, SUBPROCESS, make_spec

from drigm.agents.recurrent import make_agents
from drigm.algorithms.windows import unroll_window
from drigm.core.types import map_tree
from drigm.envs import make_env
from drigm.envs.subprocess.environment import subprocess_env
from drigm.training.estimate import replay_bytes
from drigm.training.programs import make_train
from drigm.training.subprocess_loop import make_subprocess_train

BUILDING = {"env": "building:OfficeSmall/Tucson", "factorization": "vdn"}
MOVING = {**BUILDING, "head": "velocity", "inputs": "changes"}
NEVER = {"learning_starts": 10_000, "steps": 240}  # agents that stay as they began


def ring_of(config):
    """The ring [C, B, ...] of the first shard after 30 ticks, and the agents, which have learnt nothing."""
    env = make_env(config.env)
    train = make_train(config, env)
    state = train.init(jnp.array([0], jnp.int32), jnp.zeros(1))
    state, _ = train.chunk(state, jnp.int32(0), jnp.int32(30))
    return jax.tree.map(lambda x: x[0, 0], (state.ring, state.learner.params.agents))


@pytest.mark.parametrize("settings", [BUILDING, {**BUILDING, "share_parameters": True}, MOVING])
def test_a_window_sees_back_to_the_beginning_of_its_episode(settings):
    config = SMALL.replace(**settings, **NEVER, replay_size=30 * SMALL.num_envs, stored_state=True)
    ring, agents = ring_of(config)
    whole = unroll_window(agents, ring._replace(memory=None), 0)  # from the first step on
    for begin in (1, 7, 20):
        window = map_tree(lambda x, begin=begin: x[begin : begin + 5], ring)
        np.testing.assert_allclose(unroll_window(agents, window, 0), whole[begin : begin + 5], atol=1e-5)
        np.testing.assert_allclose(unroll_window(agents, window, 2), whole[begin + 2 : begin + 5], atol=1e-5)
        blind = unroll_window(agents, window._replace(memory=None), 0)
        assert np.abs(np.asarray(blind - whole[begin : begin + 5])).max() > 1e-3


def test_memories_of_environments_in_other_processes_are_those_of_acting():
    config = SUBPROCESS.replace(stored_state=True, learning_starts=10_000)
    train = make_subprocess_train(config, subprocess_env("pettingzoo", f"{PARALLEL_ENVS}:meeting", workers=1))
    state = train.init(jnp.array([0, 1], jnp.int32), jnp.zeros(2))
    state, _ = train.chunk(state, jnp.int32(0), jnp.int32(20))
    state = train.settle(state)
    train.close()
    ring, agents = jax.tree.map(lambda x: x[0, 1], (state.ring, state.learner.params.agents))
    ring = map_tree(lambda x: x[:20], ring)
    whole = unroll_window(agents, ring._replace(memory=None), 0)
    window = map_tree(lambda x: x[9:14], ring)
    np.testing.assert_allclose(unroll_window(agents, window, 0), whole[9:14], atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_memories_keep_their_agents(shared):
    """Leaves [G, rows, ...] of three environments, and back."""
    spec = make_spec(agents=4)
    agents = make_agents(jax.random.key(0), spec, 6, share_parameters=shared, ordered=False, changes=True)
    memory = jax.tree.map(lambda x: jnp.arange(x.size, dtype=jnp.float32).reshape(x.shape), agents.initial_memory(3))
    kept = agents.memory_by_agent(memory)
    assert kept.hidden.shape == (3, spec.num_agents, 6)
    jax.tree.map(np.testing.assert_array_equal, agents.memory_by_group(kept), memory)


@pytest.mark.parametrize("settings", [BUILDING, MOVING])
def test_their_size_is_known_beforehand(settings):
    config = SMALL.replace(**settings, stored_state=True, seeds=2)
    train = make_train(config, env := make_env(config.env))
    ring = train.shapes(jnp.arange(2, dtype=jnp.int32), jnp.zeros(2)).ring
    assert replay_bytes([config], env.spec) == sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(ring))
