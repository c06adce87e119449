"""Controllers that do not learn: their laws, their tuning, and that all kinds of environments play them alike."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_day import DAY

import drigm
from drigm.agents.numpy_agents import NumpyAgents
from drigm.agents.pi import PI, Loop, Trimmed, loop_of
from drigm.agents.policies import subteam
from drigm.agents.recurrent import make_agents
from drigm.agents.rollout import Greedy, episode
from drigm.core.errors import UserError
from drigm.core.types import NO_ACTION, StoredStep
from drigm.envs import make_env
from drigm.envs.api import Shift, any_episode
from drigm.envs.building.dataset import PROTOCOL_CITIES
from drigm.evaluation.controllers import controller, controllers_of, evaluate_controller
from drigm.evaluation.evaluate import check_fits
from drigm.evaluation.players import teams, wrapped
from drigm.evaluation.published import controller_score
from drigm.evaluation.scores import Evaluation, ShiftScore, episode_scores
from drigm.evaluation.tuning import LONGEST, simc, tune

BUILDING = "building:OfficeSmall/Tucson"
HOSTED = f"pettingzoo:{Path(__file__).parents[1] / 'one_day.py'}:one_day"
HAND_PICKED = {
    "Tucson": 0.983,
    "Tampa": 0.986,
    "Honolulu": 0.989,
    "ElPaso": 0.983,
    "PortAngeles": 0.983,
    "NewYork": 0.985,
}
LOOP = Loop(0, np.float32([22.0]), np.linspace(-1, 1, 201, dtype=np.float32))


@pytest.fixture(scope="module")
def env():
    return make_env(BUILDING)


@pytest.fixture(scope="module")
def home():
    """The building on one day in JAX; returns stand for scores."""
    return as_one_day(make_env(BUILDING, days=[DAY]))


@pytest.fixture(scope="module")
def hosted():
    return as_one_day(make_env(HOSTED, workers=1))


def as_one_day(env):
    return env._replace(episode=any_episode, num_eval_episodes=1, score=lambda x: x)


def row_of(temperature, *, first=False, avail=None):
    """What one agent sees."""
    obs, zero = np.float32([[[temperature]]]), np.zeros((1,), np.float32)
    ended, last = np.zeros((1,), bool), np.full((1, 1), NO_ACTION, np.int32)
    return StoredStep(obs[0], obs[0, 0], avail, last, zero, ended, ended, np.array([first]))


def levels_of(policy, rows):
    memory, found = policy.initial_memory(1), []
    for row in rows:
        memory, action = policy.act(memory, row)
        found.append(float(LOOP.levels[action[0, 0]]))
    return found


def random_team(spec, seed=0, **choice):
    """Agents whose weights all matter."""
    agents = make_agents(jax.random.key(seed), spec, 8, share_parameters=False, ordered=True, **choice)
    biases = 0.3 * jnp.cos(jnp.arange(48.0)).reshape(6, 8)
    return eqx.tree_at(lambda a: (a.head.weight, a.encoder_bias), agents, (20.0 * agents.head.weight, biases))


def test_pi_by_hand():
    """Errors of 1, 1 and -2: kp e + ki (e + the errors before)."""
    found = levels_of(PI(LOOP, np.float32([0.2]), np.float32([0.05])), [row_of(21.0), row_of(21.0), row_of(24.0)])
    np.testing.assert_allclose(found, [0.25, 0.3, -0.4], atol=0.006)


def test_the_sum_neither_winds_up_nor_outlives_the_episode():
    """Ten degrees too cold for 100 steps ask for everything; one degree too warm, and the level is low at once."""
    policy = PI(LOOP, np.float32([0.2]), np.float32([0.05]))
    cold = [row_of(12.0)] * 100
    assert levels_of(policy, [*cold, row_of(23.0)])[-2:] == [1.0, pytest.approx(-0.25)]
    assert levels_of(policy, [row_of(21.0)] * 3 + [row_of(21.0, first=True)])[-1] == pytest.approx(0.25)


def test_levels_that_are_not_available_are_not_ordered():
    avail = (LOOP.levels < 0.1)[None, None]
    (found,) = levels_of(PI(LOOP, np.float32([0.2]), np.float32([0.0])), [row_of(20.0, avail=avail[0])])
    assert found == pytest.approx(0.09)


def test_simc_finds_a_process_that_is_known():
    """k 5, tau 6 and 2 steps of dead time: theta 2.5, kp 6 / (5 5), tau_I 6 (below 4 (2.5 + 2.5))."""
    t = np.arange(1, LONGEST + 1)
    found = simc("a", np.where(t > 2, 5.0 * (1 - np.exp(-(t - 2) / 6.0)), 0.0))
    np.testing.assert_allclose(found[1:], [5.0, 6.0, 2.5, 1.0, 0.24, 0.04], rtol=0.01)


def test_simc_refuses_a_reading_that_falls():
    with pytest.raises(UserError, match="rises with the agent's level"):
        simc("a", -np.ones(20))


@pytest.mark.slow
def test_hand_picked_pi_in_six_cities(env):
    scores = {score.name: score.mean for score in evaluate_controller("pi", env, "climate").scores}
    assert scores == pytest.approx(HAND_PICKED, abs=0.002)


@pytest.mark.slow
def test_tuned_pi_does_not_oscillate_anywhere(env):
    """Tuned in Tucson alone; actions move by less than a twentieth of the range from step to step."""
    for world, score in zip(PROTOCOL_CITIES, evaluate_controller("pi_tuned", env, "climate").scores, strict=True):
        assert score.mean == pytest.approx(controller_score(world, "pi_tuned"), abs=5e-4)
        assert score.mean > 0.985
    _, actions = episode(env, controller("pi_tuned", env), jax.random.key(0), env.episode(env.params, 0))
    assert np.abs(np.diff(env.spec.action_values[np.asarray(actions)], axis=0)).mean() < 0.05


def test_tuning_is_of_the_training_environment(env):
    there = make_env("building:OfficeSmall/NewYork", max_power=4000.0)
    kp = {one.agent: one.kp for one in tune(env)}
    np.testing.assert_allclose(controller("pi_tuned", there, env).kp, list(kp.values()), rtol=1e-6)
    np.testing.assert_allclose(controller("pi_tuned", there).kp, 2 * np.array(list(kp.values())), rtol=1e-3)


def test_an_environment_that_regulates_nothing_has_one_controller():
    env = make_env("probe:levels")
    assert controllers_of(env) == ["do_nothing"]
    assert len(evaluate_controller("do_nothing", env, "nominal").scores) == 1
    with pytest.raises(UserError, match="do_nothing"):
        evaluate_controller("pi", env, "nominal")


@pytest.mark.slow
def test_controllers_play_alike_in_jax_and_in_another_process(home, hosted):
    assert hosted.spec.idle_action == home.spec.idle_action == 100
    np.testing.assert_array_equal(hosted.spec.action_values, home.spec.action_values)
    np.testing.assert_allclose([x[1:] for x in tune(hosted)], [x[1:] for x in tune(home)], rtol=2e-3)
    for name in ("do_nothing", "pi", "pi_tuned"):
        ours, theirs = (evaluate_controller(name, env, "nominal", trained_in=home).scores for env in (home, hosted))
        assert ours[0].mean == pytest.approx(theirs[0].mean, rel=1e-3)


@pytest.mark.parametrize("trim", [0.0, 0.03])
@pytest.mark.slow
def test_a_team_of_the_building_plays_its_pettingzoo_form(home, hosted, trim):
    """The same agents, by name, in JAX and in another process: equal scores, trimmed or not."""
    agents = jax.tree.map(lambda x: x[None], random_team(home.spec))
    check_fits(home.spec, hosted.spec)
    returns = [
        episode_scores(env, teams(agents, wrapped(env.spec, home.spec.agents, trim)), [Shift("nominal", params)])
        for env, params in ((home, home.params), (hosted, ()))
    ]
    np.testing.assert_allclose(*returns, rtol=1e-3)


@pytest.mark.parametrize(
    "choice",
    [
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"changes": True}, marks=pytest.mark.slow),
        {"velocity": True, "changes": True},
    ],
)
def test_numpy_agents_have_the_ordered_head(home, choice):
    """Over an episode of the building: features to 1e-5, and the same greedy levels."""
    agents = random_team(home.spec, **choice)
    shown, actions = episode(home, Greedy(agents), jax.random.key(0), home.params)
    obs = np.concatenate([np.asarray(home.reset(jax.random.key(0), home.params)[1].obs)[None], shown.obs])[:-1]
    host = NumpyAgents(jax.tree.map(lambda x: x[None], agents))
    mine, memory_jax, act = [], agents.initial_memory(1), jax.jit(Greedy(agents).act)
    memory = host.initial_memory(1)
    last = np.full((1, 1, 6), NO_ACTION, np.int32)
    for t, seen in enumerate(obs):
        zero, ended = np.zeros((1, 1), np.float32), np.zeros((1, 1), bool)
        row = StoredStep(seen[None, None], seen[None, None, 0], None, last, zero, ended, ended, np.full((1, 1), t == 0))
        memory, last = host.act(memory, row)
        memory_jax, expected = act(memory_jax, jax.tree.map(lambda x: jnp.asarray(x[0]), row))
        np.testing.assert_array_equal(last[0], expected)
        np.testing.assert_allclose(memory.hidden[0], memory_jax.hidden, atol=1e-5)
        if choice:
            np.testing.assert_allclose(memory.previous[0], memory_jax.previous, atol=1e-5)
        mine.append(last[0, 0])
    assert len(np.unique(mine)) > 5
    np.testing.assert_array_equal(mine, actions)


@pytest.mark.slow
def test_a_subteam_acts_as_in_the_whole(home):
    """Four of six agents, in another order: each sees its own and does what it does among six."""
    spec, there = home.spec, tuple(reversed(home.spec.agents[1:5]))
    team = Greedy(random_team(spec))
    obs = np.random.default_rng(0).normal(20.0, 3.0, (1, 6, 5)).astype(np.float32)
    whole = row_of(0.0)._replace(obs=jnp.asarray(obs), last_action=jnp.full((1, 6), 90), first=jnp.array([False]))
    at = [spec.agents.index(agent) for agent in there]
    part = whole._replace(obs=whole.obs[:, at], last_action=whole.last_action[:, at])
    few = subteam(team, spec.agents, there)
    _, expected = team.act(team.initial_memory(1), whole)
    _, found = few.act(few.initial_memory(1), part)
    np.testing.assert_array_equal(found, expected[:, at])


def test_a_trim_removes_a_constant_offset(env):
    """A team that always orders the same level is carried to the setpoint; with gain 0 it is left alone."""
    off = controller("do_nothing", env)
    trimmed = Trimmed(off, loop_of(env.spec), 0.03)
    scores = [
        float(env.score(episode(env, policy, jax.random.key(0), env.episode(env.params, 3))[0].reward.sum()))
        for policy in (off, trimmed)
    ]
    assert scores[1] > scores[0] + 0.5


def test_what_does_not_fit_is_one_sentence(env):
    with pytest.raises(UserError, match="no agent called"):
        check_fits(env.spec, make_env("building:OfficeMedium/Tucson").spec)
    with pytest.raises(UserError, match="200 actions"):
        check_fits(env.spec, make_env(BUILDING, levels=21).spec)
    with pytest.raises(UserError, match="held at a setpoint"):
        wrapped(make_env("probe:levels").spec, ("a",), 0.1)
    with pytest.raises(UserError, match="trim"):
        drigm.evaluate(None, trim=-1.0)


def test_many_worlds_are_summed_up_when_printed():
    scores = [ShiftScore(f"world {k}", k / 10.0, 0.0, [k / 10.0]) for k in range(10)]
    lines = str(Evaluation("worlds", scores, {"pi": [0.5] * 9 + [-1.0]})).splitlines()
    assert lines[-2].split() == ["mean", "0.450", "0.350"]
    assert lines[-1].split() == ["worst", "0.000", "-1.000"]
    assert str(Evaluation("climate", scores[:6])).splitlines()[-1].startswith("world 5")
