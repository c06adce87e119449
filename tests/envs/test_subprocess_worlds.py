"""Environments in other processes in several worlds: options that can be varied, and episodes that keep theirs."""

import numpy as np
import pytest

from drigm.core.errors import UserError
from drigm.envs import make_env
from drigm.envs.persistent import check_ranges, parse_ranges
from drigm.envs.shifts import default_suite, shift_suite, suite_names, worlds
from drigm.envs.subprocess.worker.declarations import parameters_of, suites_of
from drigm.envs.subprocess.worker.factory import factory, with_options
from drigm.envs.subprocess.worker.parallel_env import ParallelAdapter
from drigm.envs.subprocess.worker.worlds import InWorlds
from drigm.evaluation.players import teams
from drigm.evaluation.scores import episode_scores
from drigm.evaluation.subprocess_play import source_of
from drigm.training.runs import train_run
from drigm.training.settings import resolve, settle

TANK = "pettingzoo:examples/tank.py:Tank"


@pytest.fixture(scope="module")
def tank():
    return make_env(TANK)


def test_options_that_are_floats_can_be_varied(tank):
    assert set(tank.parameters) == {"leak"}
    varied = tank.vary({"leak": 0.02})
    assert varied.subprocess.name == "examples/tank.py:Tank?leak=0.02"
    assert varied.vary({"leak": 0.03}).subprocess.name == "examples/tank.py:Tank?leak=0.03"
    played, tried = worlds(tank, perturb={"leak": [0.0, 0.02], "obs_noise": [0.1]})
    assert [source_of(played, world).name.partition("?")[2] for world in tried] == ["leak=0.0", "leak=0.02"]


def test_a_name_keeps_its_other_options():
    assert with_options("a:B?days=%5B0%2C1%5D&x=1", [("x", 2.0)]) == "a:B?days=%5B0%2C1%5D&x=2.0"
    assert factory("examples/tank.py:Tank?leak=0.1").floats() == {"leak": 0.1}


class Says:
    def __init__(self, parameters, suites=None):
        self.parameters, self.suites = parameters, suites


def test_suites_that_an_environment_declares(tank):
    """Worlds told in strengths, of its options and of perturbations; crossed with --perturb like any suite."""
    told = {"weather": {"dry": {"leak": 0}, "storm": {"leak": 0.1, "obs_noise": 0.2}}}
    assert suites_of(Says(None, told)).value == told
    assert suites_of(Says(None)).value == {}
    for wrong in ([1], {"weather": 3}, {"weather": {}}, {"weather": {"dry": {"leak": "much"}}}):
        said = suites_of(Says(None, wrong))
        assert said.value == {}
        assert "its suites are" in said.odd
    declared = tank._replace(suites=told)
    assert default_suite(declared) == "weather"
    assert "weather" in suite_names(declared)
    played, tried = worlds(declared, "weather")
    assert [world.name for world in tried] == ["dry", "storm"]
    assert [source_of(played, world).name.partition("?")[2] for world in tried] == ["leak=0.0", "leak=0.1"]
    assert [float(world.params.strengths["obs_noise"]) for world in tried] == pytest.approx([0.0, 0.2])
    names = [world.name for world in worlds(declared, "weather", {"action_delay": [0, 1]}).shifts]
    assert names == ["dry, action_delay=0", "dry, action_delay=1", "storm, action_delay=0", "storm, action_delay=1"]
    with pytest.raises(UserError, match="gust"):
        worlds(tank._replace(suites={"weather": {"storm": {"gust": 1.0}}}), "weather")


def test_what_an_environment_declares_counts():
    declared = {"drain": {"about": "share lost", "values": [0.1, 0.4], "lowest": 0}, "size": {"values": []}}
    assert parameters_of(Says(declared), {"other": 1.0}).value == [
        ["drain", "share lost", [0.1, 0.4], 0.0],
        ["size", "", [], None],
    ]
    assert parameters_of(Says(None), {"other": 2.0}).value == [["other", "an option, now 2", [1.6, 2.5], None]]
    for wrong in ([1], {"drain": 3}, {"drain": {"values": ["x"]}}, {"drain": {"values": [float("nan")]}}):
        said = parameters_of(Says(wrong), {})
        assert said.value == []
        assert "not about, values and lowest" in said.odd


def adapt(name, seed):
    make = factory(name)
    return ParallelAdapter(make(), name, make.floats())


def test_an_episode_stays_in_the_world_that_its_seed_draws():
    names = [[["leak", 0.0]], [["leak", 0.05]]]
    env = InWorlds(adapt, "examples/tank.py:Tank", 0, [(names[0], [-1.0]), (names[1], [1.0])])
    plain = {place: adapt(with_options("examples/tank.py:Tank", names[int(place > 0)]), 0) for place in (-1.0, 1.0)}
    seen = set()
    for seed in range(8):
        step = env.reset(seed)
        place = float(step.state[-1])
        seen.add(place)
        expected = plain[place].reset(seed)
        for action in np.random.default_rng(seed).integers(0, env.facts.num_actions, (5, 2)).astype(np.int32):
            step, expected = env.step(action), plain[place].step(action)
            np.testing.assert_array_equal(step.obs, expected.obs)
            np.testing.assert_array_equal(step.state, [*expected.state, np.float32(place)])
            assert step.reward == expected.reward
    assert seen == {-1.0, 1.0}


@pytest.mark.slow
def test_worlds_are_trained_and_scored(tmp_path):
    settings = {"env": TANK, "factorization": "qmix", "steps": 640, "worlds": "leak=0:0.05", "world_count": 4}
    config, env = resolve(settle({**settings, "seeds": 1, "learning_starts": 64}))
    assert env.spec.state_size == make_env(TANK).spec.state_size + 1
    run = train_run(config, tmp_path / "run")
    few = run.env._replace(num_eval_episodes=4)
    players = teams(run.weights().agents)
    ranged, tried = worlds(few, ranges="leak=0:0.05", count=3)
    found = episode_scores(ranged, players, tried).mean(axis=(1, 2))
    assert len(set(found.tolist())) == 3
    ranged, tried = worlds(few, perturb={"leak": [0.0, 0.05]})
    again = episode_scores(ranged, players, tried).mean(axis=(1, 2))
    assert again[0] != again[1]
    (plain,) = episode_scores(few, players, shift_suite(few, "nominal")).mean(axis=(1, 2))
    assert plain == again[0]


def test_what_worlds_of_other_processes_cannot_be_is_one_sentence(tank):
    with pytest.raises(UserError, match=r"worlds: 'obs_noise' is not allowed; choose one of leak"):
        check_ranges(tank, parse_ranges("obs_noise=0:0.1"))
    with pytest.raises(UserError, match="alpha"):
        resolve(settle({"env": TANK, "factorization": "vdn", "worlds": "leak=0:0.05", "alpha": 0.3}))
