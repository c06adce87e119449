"""SMAC through its adapter: over a stand-in with its interface always, over the real class where it is installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_smac import FakeStarCraft2Env
from small import seeds_to_learn

import drigm
from drigm.cli.main import main
from drigm.envs.subprocess.environment import spec_of
from drigm.envs.subprocess.worker import smac_env
from drigm.envs.subprocess.worker.errors import EnvError
from drigm.envs.subprocess.worker.smac_env import SmacAdapter, make_smac

PROBE = Path(__file__).parents[3] / "shared" / "probes" / "smac_fake.py"
STOP, ATTACK = 1, 3


def play(adapter: SmacAdapter, action: int, steps: int) -> list:
    adapter.reset(0)
    return [adapter.step(np.full(2, action)) for _ in range(steps)]


def test_facts_become_a_spec():
    spec = spec_of("smac", SmacAdapter(FakeStarCraft2Env(), "2x").facts)
    assert (spec.name, spec.num_agents, spec.obs_size, spec.state_size, spec.num_actions) == ("smac:2x", 2, 2, 3, 4)
    assert (spec.episode_limit, spec.reward_range, spec.idle_action) == (6, (0.0, 20.0), STOP)
    assert spec.masks_actions
    assert spec.agents_die
    assert spec.has_wins


def test_a_win_terminates():
    steps = play(SmacAdapter(FakeStarCraft2Env(), "2x"), ATTACK, 2)
    assert [(s.terminated, s.truncated, s.won, s.reward) for s in steps] == [
        (False, False, False, 0.0),
        (True, False, True, 20.0),
    ]


def test_a_defeat_terminates():
    last = play(SmacAdapter(FakeStarCraft2Env(defeat=3), "2x"), STOP, 3)[-1]
    assert (last.terminated, last.truncated, last.won) == (True, False, False)


def test_the_time_limit_truncates_in_every_battle():
    """SMAC merges it into `terminated` and, as it comes, says so only in a counter."""
    adapter = SmacAdapter(FakeStarCraft2Env(), "2x")
    for _ in range(2):
        last = play(adapter, STOP, 6)[-1]
        assert (last.terminated, last.truncated, last.won) == (False, True, False)
    assert play(adapter, ATTACK, 2)[-1].terminated


def test_a_lost_connection_truncates():
    last = play(SmacAdapter(FakeStarCraft2Env(lost_connection=2), "2x"), STOP, 2)[-1]
    assert (last.terminated, last.truncated) == (False, True)


def test_the_dead_do_nothing():
    """An order to a dead agent becomes the no-op: the stand-in, like SMAC, refuses any other."""
    steps = play(SmacAdapter(FakeStarCraft2Env(), "2x"), STOP, 4)
    np.testing.assert_array_equal([s.alive for s in steps], [[True, True]] + [[True, False]] * 3)
    np.testing.assert_array_equal(steps[-1].avail_actions[1], [True, False, False, False])
    np.testing.assert_array_equal(steps[-1].obs[1], 0.0)


def test_a_missing_package_is_explained(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "smac.env", None)
    with pytest.raises(EnvError, match=r"pip install git\+https://github.com/oxwhirl/smac.git.*SC2PATH"):
        make_smac("3s_vs_5z")
    monkeypatch.setitem(sys.modules, "smacv2.env.starcraft2.wrapper", None)
    with pytest.raises(EnvError, match=r"oxwhirl/smacv2.git"):
        make_smac("10gen_terran")
    if importlib.util.find_spec("smac") is None:
        assert main(["train", "--env", "smac:3s_vs_5z"]) == 2
        assert "PyPI's smac is another project" in capsys.readouterr().err


def test_a_missing_game_is_explained(monkeypatch):
    class Broken(FakeStarCraft2Env):
        def reset(self):
            if hasattr(self, "steps"):
                raise OSError("StarCraft II is not there")
            return super().reset()

    with pytest.raises(EnvError, match=r"cannot be started \(OSError: StarCraft II is not there\).*SC2PATH"):
        SmacAdapter(Broken(), "2x").reset(0)


def test_smacv2_gets_its_published_distribution(monkeypatch):
    asked: dict = {}

    def wrapper(**options):
        asked.update(options)
        return SimpleNamespace(env=FakeStarCraft2Env())

    monkeypatch.setitem(
        sys.modules, "smacv2.env.starcraft2.wrapper", SimpleNamespace(StarCraftCapabilityEnvWrapper=wrapper)
    )
    make_smac("10gen_protoss")
    assert asked["map_name"] == "10gen_protoss"
    assert asked["capability_config"]["team_gen"]["unit_types"] == ["stalker", "zealot", "colossus"]
    assert asked["capability_config"]["n_units"] == 5


@pytest.mark.slow
@pytest.mark.learns
def test_a_team_trains_through_the_whole_way(tmp_path, monkeypatch, learnt):
    """The id ``smac:MAP`` in worker processes, with the stand-in where the package would be."""
    package = tmp_path / "smac"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "env.py").write_text(
        "from fake_smac import FakeStarCraft2Env\n"
        "def StarCraft2Env(map_name, seed):\n"
        "    return FakeStarCraft2Env(map_name, defeat=3)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[1]}")
    seeds = seeds_to_learn(1)
    run = drigm.train(
        "smac:2x", "qmix", out=tmp_path / "run", steps=6000, num_envs=8, hidden=16, window=4, burn_in=1, batch=16,
        learning_starts=200, learning_rate_end=1e-3, replay_size=6000, update_every=1, epsilon_fraction=0.5, shards=1,
        first_seed=seeds[0], seeds=len(seeds), quiet=True,
    )  # fmt: skip
    # Ten seeds from 100 on win every battle of the last row, and greedily all.
    learnt("win rate", [run.directory.read_metrics(seed)[-1]["win_rate"] for seed in seeds], at_least=0.5)
    (score,) = drigm.evaluate(run, shifts="nominal").scores
    assert score.mean == 1.0  # two attacks each: the enemy is dead before the second ally is


@pytest.mark.skipif(importlib.util.find_spec("pysc2") is None, reason="needs oxwhirl's smac and pysc2")
def test_the_real_class_over_a_fake_controller(monkeypatch):
    real = pytest.importorskip("smac.env").StarCraft2Env
    if not PROBE.exists():
        pytest.skip("the fake controller lies in ../shared")
    source = PROBE.read_text().split("env = StarCraft2Env(")[0]
    space: dict = {}
    exec(compile(source, str(PROBE), "exec"), space)  # replaces pysc2's run configuration by the fake controller
    adapter = SmacAdapter(real(map_name="3s_vs_5z", seed=1), "3s_vs_5z")
    assert (len(adapter.facts.agents), adapter.facts.num_actions) == (3, 11)
    random, shown = np.random.default_rng(0), adapter.reset(0)
    for _ in range(adapter.facts.episode_limit):
        assert shown.avail_actions.any(axis=1).all()
        np.testing.assert_array_equal(shown.alive, ~shown.avail_actions[:, 0])
        shown = adapter.step(np.array([random.choice(np.flatnonzero(mask)) for mask in shown.avail_actions]))
        if shown.over:
            break
    assert shown.over
    assert smac_env.STOP == STOP
