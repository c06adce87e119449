"""Samples instead of a dual network: the worst case among K outcomes, its bias, and what training does with it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SMALL, SUBPROCESS, make_spec

from drigm.agents.recurrent import make_agents
from drigm.algorithms import learner, robust_target
from drigm.algorithms.factorizations import FACTORIZATIONS
from drigm.algorithms.method import make_method
from drigm.algorithms.samples import sampled_target, unroll_ahead, worst_of
from drigm.algorithms.uncertainty import SETS, UncertaintySet
from drigm.algorithms.value_bounds import Nature
from drigm.algorithms.windows import Batch, unroll_window
from drigm.core.errors import UserError
from drigm.core.naming import method_name
from drigm.core.types import NextSteps, StoredStep
from drigm.envs import episodes, make_env
from drigm.envs.api import reset_all
from drigm.training import tick
from drigm.training.estimate import ahead_bytes, replay_bytes
from drigm.training.programs import make_train
from drigm.training.runs import train_run
from drigm.training.settings import resolve, settle
from drigm.verification.exact import random_problem, worst_case
from drigm.verification.learned_vs_exact import LEARN, learned_agreement

FAIL = -6.0
SAMPLED = [name for name, found in SETS.items() if found.has_dual]


def cvar(v_t, dual_tm1, rho, fail_value):
    del fail_value
    return dual_tm1.eta - jnp.maximum(dual_tm1.eta - v_t, 0.0) / (1.0 - rho)


def worst(name, y, rho):
    y = jnp.asarray(y, jnp.float32)
    return np.asarray(worst_of(SETS[name], y, jnp.float32(rho), jnp.full(y.shape[:-1], FAIL)))


@pytest.mark.parametrize("name", SAMPLED)
def test_it_is_the_exact_worst_case_of_the_samples(name):
    rng = np.random.default_rng(0)
    for count, rho in itertools.product((2, 7), (0.0, 0.03, 1.0)):
        y = rng.normal(size=(20, count))
        y[::4] = np.round(y[::4])  # ties
        chances = np.full(count, 1.0 / count)
        fail = FAIL if name == "tv" else None
        exact = [worst_case(name, row, chances, rho, fail_value=fail).value for row in y]
        np.testing.assert_allclose(worst(name, y, rho), exact, atol=2e-4)


def test_a_set_with_eta_alone_needs_nothing_more():
    """CVaR from outside, as docs/plug-ins.md has it: the mean of the lowest share 1 - rho."""
    outside = UncertaintySet(name="cvar", bootstrap=cvar, has_dual=True, max_rho=0.95)
    y = jnp.array([4.0, 1.0, 3.0, 2.0])
    for rho, expected in ((0.0, 2.5), (0.25, 2.0), (0.5, 1.5), (0.6, (1.0 + 0.6 * 2.0) / 1.6)):
        np.testing.assert_allclose(worst_of(outside, y, jnp.float32(rho), jnp.float32(0.0)), expected, rtol=1e-6)


@pytest.mark.parametrize("name", SAMPLED)
def test_it_is_optimistic_and_less_so_with_more_samples(name):
    """In expectation; a single sample leaves divergences nothing to choose, and TV the fail state alone."""
    rng, rho = np.random.default_rng(1), 0.3
    values, p = rng.normal(size=6), rng.dirichlet(np.ones(6))
    exact = float(worst_case(name, values, p, rho, fail_value=FAIL if name == "tv" else None).value)
    means = [float(worst(name, rng.choice(values, (4_000, k), p=p), rho).mean()) for k in (1, 4, 16, 64)]
    assert all(later < earlier for earlier, later in itertools.pairwise(means))
    single = float(values @ p) if name != "tv" else (1.0 - rho) * float(values @ p) + rho * FAIL
    assert means[0] == pytest.approx(single, abs=0.06)
    assert exact - 0.01 < means[-1] < exact + 0.3 * (means[0] - exact)


def window_of(spec, transitions, batch, count):
    """Random rows in which every next step drawn is the one that happened."""
    rng, rows = np.random.default_rng(2), transitions + 1
    obs = jnp.asarray(rng.normal(size=(rows, batch, spec.num_agents, spec.obs_size)), jnp.float32)
    action = jnp.asarray(rng.integers(0, spec.num_actions, (rows, batch, spec.num_agents)), jnp.int32)
    first = jnp.zeros((rows, batch), bool).at[0].set(True)
    nothing = jnp.zeros((rows, batch))
    state = jnp.zeros((rows, batch, spec.state_size))
    again = jnp.repeat(jnp.roll(obs, -1, axis=0)[:, :, None], count, axis=2)
    ended = jnp.zeros((rows, batch, count), bool)
    ahead = NextSteps(
        again, jnp.zeros((rows, batch, count, spec.state_size)), None, jnp.zeros(ended.shape), ended, None
    )
    return StoredStep(obs, state, None, action, nothing, first & False, first & False, first, None, ahead)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"share_parameters": False}, marks=pytest.mark.slow),
        {"share_parameters": True},
        pytest.param({"ordered": True, "changes": True}, marks=pytest.mark.slow),
    ],
)
def test_a_sampled_history_is_the_history_with_that_step(how):
    spec = make_spec(ordered=how.get("ordered", False))
    agents = make_agents(jax.random.key(0), spec, 8, **{"share_parameters": False, "ordered": False, "bowls": 1, **how})
    window, count = window_of(spec, 4, 3, 2), 2
    unrolled = jax.jit(lambda window: (unroll_window(agents, window, 1)[1:], unroll_ahead(agents, window, 1, count)))
    happened, drawn = map(agents.by_agent, unrolled(window))
    assert drawn.shape == (3, 6, *happened.shape[2:])
    np.testing.assert_allclose(drawn, jnp.repeat(happened, count, axis=1), atol=1e-5)


def test_every_sample_has_its_own_reward_and_end():
    """TV 0.25 of four samples takes the best of them, whichever of reward, end and next value makes it so."""
    spec = make_spec()
    method = make_method(SMALL.replace(uncertainty="tv", rho=0.25, samples=4, gamma=0.5), spec)
    reward, ended = jnp.array([[1.0, 9.0, 2.0, 0.0]]), jnp.array([[False, True, False, False]])
    value, m = jnp.array([[2.0, 50.0, 4.0, 6.0]]), -8.0
    none = jnp.zeros((1, 4))
    ahead = Batch(none, none, none, none, None, None, reward, ended, ended)
    nature = Nature(*(jnp.float32(x) for x in (0.25, m, -100.0, 100.0, 0.0)))
    target = sampled_target(method, value, ahead, nature)
    failed = 3.0 + 0.5 * m  # y = 2, 9, 4, 3
    np.testing.assert_allclose(target, [[(2.0 + 4.0 + 3.0) / 4.0 + 0.25 * failed]], rtol=1e-6)
    plain = make_method(SMALL.replace(samples=4, gamma=0.5), spec)
    np.testing.assert_allclose(sampled_target(plain, value, ahead, nature), [[(2.0 + 9.0 + 4.0 + 3.0) / 4.0]])


@pytest.mark.slow
def test_next_steps_are_drawn_anew_from_the_same_state():
    env = make_env("supply:serial2")
    carry = episodes.begin((), *reset_all(env, jax.random.key(0), 3))
    action, key = jnp.full((3, 2), 50, jnp.int32), jax.random.key(1)
    draw = jax.jit(lambda carry: episodes.steps_ahead(env, carry, key, action, 32))
    ahead = draw(carry)
    assert all(len(np.unique(rewards)) > 5 for rewards in np.asarray(ahead.reward))  # demand is in the reward
    hand, on_order = np.asarray(ahead.obs)[..., 0, 0], np.asarray(ahead.obs)[..., 0, 2]
    owed = np.asarray(ahead.obs)[..., 0, 1]
    position = hand - owed + on_order  # the level ordered up to, whatever the demand
    np.testing.assert_allclose(position, np.repeat(position[:, :1], 32, axis=1), rtol=1e-5)
    happened, _ = jax.jit(lambda carry: episodes.advance(env, carry, key, action, ()))(carry)
    assert not np.any(np.all(np.isclose(happened.timestep.obs[:, None], ahead.obs), axis=(2, 3)).all(axis=1))
    over = carry._replace(timestep=carry.timestep._replace(truncated=jnp.array([False, True, False])))
    after_end = draw(over)
    assert all(not np.asarray(x)[1].any() for x in jax.tree.leaves(after_end))
    assert np.asarray(after_end.obs)[0].any()


def shapes_of(config):
    """The shapes of a run's state, with its chunk traced: nothing is compiled."""
    programs = make_train(config, make_env(config.env), runs=1)
    state = programs.shapes(jnp.zeros(1, jnp.int32), jnp.zeros(1))
    jax.eval_shape(programs.chunk, state, jnp.int32(0), jnp.int32(1))
    return state


def test_without_samples_none_of_it_is_there(monkeypatch):
    """Not traced at all, so nothing of it can move a bit."""

    def never(*given, **named):
        raise AssertionError("samples are off")

    config = SMALL.replace(uncertainty="tv", rho=0.1, double_q=True, shards=1)
    parts = (tick, "steps_ahead"), (learner, "transitions_ahead"), (robust_target, "unroll_ahead")
    for module, name in (*parts, (robust_target, "sampled_target")):
        monkeypatch.setattr(module, name, never)
    state = shapes_of(config)
    assert state.ring.ahead is None
    assert state.learner.dual.network is not None
    with pytest.raises(AssertionError, match="off"):
        shapes_of(config.replace(samples=2))


def test_the_memory_that_is_announced_is_that_of_the_ring():
    config = SMALL.replace(samples=3, shards=1)
    ring = shapes_of(config).ring
    spec = make_env(config.env).spec

    def held(tree):
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))

    assert replay_bytes([config], spec) == held(ring)
    assert ahead_bytes([config], spec) == held(ring.ahead) > 0.6 * held(ring)


@pytest.mark.parametrize("factorization", [pytest.param(name, marks=pytest.mark.slow) for name in FACTORIZATIONS])
def test_every_factorization_trains_with_samples(tmp_path, factorization):
    config = SMALL.replace(factorization=factorization, uncertainty="kl", rho=0.1, samples=2, agent_rho=0.1, shards=1)
    run = train_run(config, tmp_path / "run", quiet=True)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(run.weights().agents))
    assert run.weights().dual is None
    assert "2 samples" in method_name(run.config)


@pytest.mark.slow
@pytest.mark.parametrize("uncertainty", SAMPLED)
def test_what_is_learnt_is_nearly_the_exact_solution(uncertainty):
    problem = random_problem(np.random.default_rng(1), states=8, actions=(3,), fail_value=-10.0)
    config = LEARN.replace(samples=16, steps=24_000)
    found = learned_agreement(problem, "vdn", uncertainty, 0.3, config=config)
    assert found.error < 0.15, str(found)


def test_what_takes_no_samples_is_one_sentence(monkeypatch):
    base = {"env": "probe:coordinate", "factorization": "vdn", "samples": 4}
    with pytest.raises(UserError, match=r"samples: 4 .* a process cannot be stepped again"):
        resolve(settle({**base, "env": SUBPROCESS.env}))
    with pytest.raises(UserError, match=r"samples: 4 .* baseline individual_robust"):
        resolve(settle({**base, "baseline": "individual_robust", "uncertainty": "tv", "rho": 0.1}))
    with pytest.raises(UserError, match=r"samples: 4 .* baseline groupdr"):
        resolve(settle({**base, "baseline": "groupdr"}))
    monkeypatch.setitem(SETS, "kl", SETS["kl"]._replace(worst_of=None))
    with pytest.raises(UserError, match=r"samples: 4 .*worst_of"):
        resolve(settle({**base, "uncertainty": "kl", "rho": 0.1}))
