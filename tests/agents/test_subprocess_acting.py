"""Acting in NumPy, where environments live in other processes, does what acting in JAX does."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import parallel_envs
import pytest

from drigm.agents import rollout
from drigm.agents.exploration import explore_in_numpy
from drigm.agents.numpy_agents import NumpyAgents
from drigm.agents.recurrent import Memory, make_agents
from drigm.agents.subprocess_acting import Perturber, before_reset
from drigm.core.types import NO_ACTION, StoredStep
from drigm.envs.subprocess.environment import spec_of
from drigm.envs.subprocess.worker.parallel_env import ParallelAdapter

RUNS, ENVS = 3, 5


def meeting():
    return spec_of("pettingzoo", ParallelAdapter(parallel_envs.Meeting(), "meeting").facts)


def rows_of(spec, steps: int, *, masked: bool) -> list[StoredStep]:
    """Time-steps [RUNS, ENVS] of nothing in particular, with resets among them."""
    rng, axes, n, a = np.random.default_rng(7), (RUNS, ENVS), spec.num_agents, spec.num_actions
    rows = []
    for t in range(steps):
        first = np.full(axes, True) if t == 0 else rng.random(axes) < 0.3
        last_action = np.where(first[..., None], NO_ACTION, rng.integers(0, a, (*axes, n))).astype(np.int32)
        avail = rng.random((*axes, n, a)) < 0.5
        avail[..., 1] |= ~avail.any(axis=-1)
        rows.append(
            StoredStep(
                obs=rng.normal(size=(*axes, n, spec.obs_size)).astype(np.float32),
                state=np.zeros((*axes, spec.state_size), np.float32),
                avail_actions=avail if masked else None,
                last_action=last_action,
                reward=np.zeros(axes, np.float32),
                terminated=np.zeros(axes, bool),
                truncated=np.zeros(axes, bool),
                first=first,
            )
        )
    return rows


@pytest.mark.slow
@jax.default_matmul_precision("highest")  # a GPU's own choice is TF32
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("shared", "encoder"), [(True, True), (True, False), (False, True), (False, False)])
def test_host_teams_act_as_the_networks_do(shared, encoder, masked):
    """The same memories and actions as in JAX, run by run, across resets."""
    spec = meeting()
    keys = jax.random.split(jax.random.key(1), RUNS)
    teams = [make_agents(key, spec, 8, share_parameters=shared, ordered=False, encoder=encoder) for key in keys]
    # Biases begin as zeros, and offsets are zero here: in these weights all of them matter.
    teams = [jax.tree.map(lambda x: x + 0.3 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), team) for team in teams]
    host = NumpyAgents(jax.tree.map(lambda *x: jnp.stack(x), *teams))
    memory, memories = host.initial_memory(ENVS), [team.initial_memory(ENVS) for team in teams]
    seen = set()
    for row in rows_of(spec, 12, masked=masked):
        memory, actions = host.act(memory, row)
        for k, team in enumerate(teams):
            memories[k], expected = rollout.act(team, memories[k], jax.tree.map(lambda x, k=k: x[k], row))
            np.testing.assert_array_equal(actions[k], expected)
            np.testing.assert_allclose(memory.hidden[k], memories[k].hidden, atol=1e-6)
            np.testing.assert_allclose(memory.cell[k], memories[k].cell, atol=1e-6)
        assert actions.dtype == np.int32
        seen.update(actions.ravel().tolist())
    assert seen == set(range(spec.num_actions))


def drawn(avail, epsilon: float, *, joint: bool = False, runs: int = 2, envs: int = 20_000) -> np.ndarray:
    """Explored actions [runs, envs, 2] where the greedy one is 0 of five."""
    draws = np.stack([np.random.default_rng(k).random((2, envs, 2)) for k in range(runs)], axis=1)
    greedy = np.zeros((runs, envs, 2), np.int32)
    masks = None if avail is None else np.broadcast_to(avail, (runs, envs, 2, 5))
    return explore_in_numpy(draws, greedy, masks, epsilon, 5, joint=joint)


def shares(actions: np.ndarray) -> np.ndarray:
    return np.bincount(actions.ravel(), minlength=5) / actions.size


def test_exploration_keeps_its_law():
    np.testing.assert_array_equal(drawn(None, 0.0), 0)
    np.testing.assert_allclose(shares(drawn(None, 1.0)), 0.2, atol=0.01)
    np.testing.assert_allclose(shares(drawn(None, 0.5)), [0.6, 0.1, 0.1, 0.1, 0.1], atol=0.01)
    avail = np.array([[True, False, True, False, True], [False, True, False, False, False]])
    actions = drawn(avail, 1.0)
    np.testing.assert_allclose(shares(actions[..., 0]), [1 / 3, 0, 1 / 3, 0, 1 / 3], atol=0.01)
    np.testing.assert_array_equal(actions[..., 1], 1)


def test_exploration_tosses_a_coin_for_each_agent_or_for_all():
    """Agents that explore (four times of five they show it): together with one coin, on their own with two."""
    for joint, both in ((False, 0.25), (True, 0.5)):
        moved = drawn(None, 0.5, joint=joint) != 0
        assert moved.all(axis=-1).mean() == pytest.approx(both * 0.64, abs=0.01)


def test_noise_spares_padding():
    spec = meeting()
    strengths, memory = {"obs_noise": jnp.float32(1.0)}, Memory(jnp.zeros(0), jnp.zeros(0))
    carry = before_reset(spec, strengths, memory, (1, 3))
    keys, first = jax.random.key(1)[None], np.ones((1, 3), bool)
    _, shown = Perturber(spec).show(strengths, keys, 0, carry.env_state, carry.timestep, first)
    np.testing.assert_array_equal(shown.obs[0, :, 1, 1], 0.0)
    assert (np.asarray(shown.obs[0, :, 0]) != 0.0).all()
