"""Acting with a trained team: from runs and from exported files, one by one and in batches, without the trainer."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from deployed import CONFIGS, finished_run
from small import assert_one_sentence

import drigm
from drigm import deploy
from drigm.agents import rollout
from drigm.agents.subprocess_episodes import FIRST_SEED
from drigm.core.errors import UserError
from drigm.deployment.contract import sealed
from drigm.deployment.export import export
from drigm.deployment.inspect import contracts_in, described

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = CONFIGS["linear"].replace(seeds=2, first_seed=5)
    return finished_run(tmp_path_factory.mktemp("load") / "run", config)


@pytest.fixture(scope="module")
def exported(run):
    return export(run, steps=40, quiet=True)


OBSERVATIONS = [{"left": [1.0, 0.0], "right": [1.0, 0.0]}, {"left": [0.0, 0.25], "right": [0.0, 0.25]}]


@pytest.mark.parametrize("seed", [None, 5, 6])
def test_a_team_acts_as_in_an_evaluation(run, seed):
    """Greedy episodes of the networks in JAX, against the team shown the same observations."""
    agents = jax.tree.map(lambda x: x[(seed or 5) - 5], run.weights().agents)
    team = drigm.load_team(run, seed)
    for episode in range(8):
        shown, actions = rollout.greedy_episode(run.env, agents, jax.random.key(episode), run.env.params)
        _, first = run.env.reset(jax.random.split(jax.random.split(jax.random.key(episode))[0], 1)[0], run.env.params)
        obs = np.concatenate([np.asarray(first.obs)[None], np.asarray(shown.obs)[:-1]])
        team.reset()
        for t, row in enumerate(obs):
            chosen = team.act(dict(zip(run.env.spec.agents, row, strict=True)))
            assert [chosen[agent] for agent in run.env.spec.agents] == np.asarray(actions[t]).tolist()


def test_runs_paths_and_exports_are_the_same_team(run, exported):
    teams = [drigm.load_team(source) for source in (run, run.path, str(run.path), exported)]
    teams.append(deploy.load_team(exported))
    for team in teams:
        assert list(team.agents) == ["left", "right"]
        found = [team.act(row) for row in OBSERVATIONS]
        assert all(type(action) is int for one in found for action in one.values())
        values = [agent.q_values() for agent in team.agents.values()]
        team.reset()
        assert [team.act(row) for row in OBSERVATIONS] == found  # nothing is left of an episode
        np.testing.assert_array_equal([agent.q_values() for agent in team.agents.values()], values)
        np.testing.assert_array_equal(values, [agent.q_values() for agent in teams[0].agents.values()])


def test_one_agent_is_that_of_the_team(run, exported):
    team = drigm.load_team(run)
    team.act(OBSERVATIONS[0])
    for agent in (drigm.load_agent(run, agent="right"), drigm.load_agent(exported / "right.npz")):
        agent.reset()
        agent.act(OBSERVATIONS[0]["right"])
        np.testing.assert_array_equal(agent.q_values(), team.agents["right"].q_values())


def test_batches_are_many_teams(run):
    team, alone = drigm.load_team(run), [drigm.load_team(run) for _ in range(5)]
    rng = np.random.default_rng(0)
    for _ in range(4):
        obs = {agent: rng.normal(size=(5, 2)).astype(np.float32) for agent in team.agents}
        found = team.act(obs)
        assert found["left"].shape == (5,)
        assert found["left"].dtype == np.int32
        for k, one in enumerate(alone):
            expected = one.act({agent: x[k] for agent, x in obs.items()})
            assert {agent: int(x[k]) for agent, x in found.items()} == expected


def test_a_user_s_own_pettingzoo_loop(tmp_path):
    """Ids that are no texts, observations in a dict with a mask, an agent that leaves, actions of its own count.

    The loop's score is the evaluation's, of the same episodes.
    """
    import parallel_envs

    run = finished_run(tmp_path / "run", CONFIGS["masks and deaths"])
    team, env, taken, returns = drigm.load_team(run), parallel_envs.Meeting(), {1: set(), "b": set()}, []
    for episode in range(run.env.num_eval_episodes):
        observations, _ = env.reset(seed=FIRST_SEED + episode)
        returns.append(0.0)
        team.reset()
        while env.agents:
            actions = team.act({agent: observations[agent] for agent in env.agents})
            assert list(actions) == env.agents
            for agent, action in actions.items():
                taken[agent].add(action)
            assert team.flags == {}
            observations, rewards, *_ = env.step(actions)
            returns[-1] += sum(rewards.values())
    assert taken[1] <= {0, 1}
    assert taken["b"] <= {0, 1}  # its third is masked
    assert len(taken[1] | taken["b"]) == 2
    assert 0.0 < np.mean(returns) < 8.0
    np.testing.assert_allclose(drigm.evaluate(run, "nominal", quiet=True).scores[0].per_seed, [np.mean(returns)])


def test_an_agent_that_is_not_there_has_missing_readings(run):
    team = drigm.load_team(run)
    for nothing in ({}, None, "abc"):
        assert {agent: one.fallback for agent, one in team.step(nothing).items()} == {"left": True, "right": True}
    assert not team.step({"left": [1.0, 0.0]})["left"].fallback
    assert [flag.kind for flag in team.flags["right"]] == ["missing", "fallback"]


def test_masks_are_by_name_and_what_is_no_mapping_is_flagged(run):
    """A mask that is not found must not turn into "everything is allowed"."""

    class Left:
        def __str__(self):
            return "left"

    readings = {"right": [1.0, 0.0]}
    team = drigm.load_team(run)
    for key in ("left", Left()):
        for mask in ([True, False], [False, True]):
            team.reset()
            assert team.act({key: [1.0, 0.0], **readings}, {"left": mask})[key] == mask.index(True)
    for odd in ([[True, False]] * 2, "none", 3):
        found = team.step({"left": [1.0, 0.0], **readings}, odd)
        assert [[flag.kind for flag in one.flags] for one in found.values()] == [["mask"]] * 2


def test_strangers_are_left_out(run, caplog):
    team = drigm.load_team(run)
    assert list(team.act({"left": [1.0, 0.0], "right": [1.0, 0.0], "nobody": [1.0, 0.0]})) == ["left", "right"]
    assert caplog.messages == ["the team has no agent 'nobody'; it has left, right"]


def test_acting_imports_no_trainer_and_files_no_jax(run, exported):
    acts = f"import sys, drigm\nteam = drigm.load_team({str(run.path)!r})\nteam.act({OBSERVATIONS[0]!r})\n"
    trainer = ("drigm.algorithms", "drigm.training.runs", "drigm.training.loop", "drigm.training.programs")
    acts += f"assert not [m for m in sys.modules if m.startswith({trainer!r})]"
    subprocess.run([sys.executable, "-c", acts], check=True)
    acts = "import sys\nfrom drigm import deploy\n"
    acts += f"deploy.load_team({str(exported)!r}).act({OBSERVATIONS[0]!r})\nassert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", acts], check=True)


def test_public_names_are_where_type_checkers_look():
    import ast

    tree = ast.parse(Path(drigm.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    checked = {alias.name: node.module.removeprefix("drigm").lstrip(".") for node in block.body for alias in node.names}
    doors = {name for name, module in checked.items() if module == ""}
    assert doors == {"deploy", "exact", "statistics"}
    assert {name: module for name, module in checked.items() if module} == drigm._PLACE_OF
    assert set(drigm.__all__) == set(checked)
    assert all(getattr(drigm, name) is not None for name in drigm.__all__)
    assert not hasattr(drigm, "nothing_of_the_kind")


def test_a_run_of_an_earlier_version_acts():
    team = drigm.load_team(DATA / "run_0.1")
    assert set(team.act({"left": [1.0, 0.0], "right": [1.0, 0.0]}).values()) <= {0, 1}


def refused(call, *args, **options):
    with pytest.raises(UserError) as error:
        call(*args, **options)
    assert_one_sentence(str(error.value))
    return str(error.value)


def test_what_cannot_be_loaded_is_said(run, exported, tmp_path):
    assert "seeds 5 to 6" in refused(drigm.load_team, run, 7)
    assert "holds seed 5" in refused(drigm.load_team, exported, 6)
    assert "not a run directory" in refused(drigm.load_team, tmp_path / "nowhere")
    assert "holds no exported agents" in refused(drigm.load_team, tmp_path)
    assert "left, right" in refused(drigm.load_agent, run, "middle")
    assert "left, right" in refused(drigm.load_agent, exported)
    assert "hold_steps is a whole number" in refused(drigm.load_team, run, safety={"hold_steps": -1})
    assert "not fallback, holds" in refused(drigm.load_team, run, safety={"holds": 1}).replace("hold_steps, ", "")


@pytest.mark.parametrize(
    ("safety", "said"),
    [
        ({"stale_steps": 1.5}, "stale_steps is a whole number"),
        ({"late_seconds": 0}, "late_seconds is a number above 0"),
        ({"fallback": {"kind": "hope"}}, "a mapping whose kind is idle, constant or pi"),
        ({"fallback": {"kind": "constant", "action": 2}}, "from 0 to 1"),
        ({"fallback": {"kind": "pi", "reading": 0, "setpoint": 0.0, "kp": 1.0, "ki": 0.0}}, "levels of one quantity"),
        ({"fallback": "pi"}, "nothing that a PI controller could hold"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_safety_that_makes_no_sense(run, exported, safety, said):
    assert said in refused(drigm.load_team, run, safety=safety)
    if safety != {"fallback": "pi"}:
        assert said in refused(drigm.load_team, exported, safety=safety)


def test_safety_can_be_chosen_when_loading(run, exported):
    for source in (run, exported):
        agent = drigm.load_agent(
            source, "left", safety={"hold_steps": 0, "fallback": {"kind": "constant", "action": 1}}
        )
        agent.act([0.0, 0.0])
        assert agent.step(None) == (1, agent.flags, True)


def changed(folder, name, change):
    contract = json.loads((folder / name).read_text())
    change(contract)
    (folder / name).write_text(json.dumps(contract))


def resealed(folder, name, change):
    """As somebody would who knows how checksums are made."""
    contract = json.loads((folder / name).read_text())
    change(contract)
    (folder / name).write_text(json.dumps(sealed(contract)))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda d: changed(d, "left.json", lambda c: c["readings"][0].update(offset=1.0)), "is damaged"),
        (lambda d: changed(d, "left.json", lambda c: c.update(schema="drigm-agent/9")), "reads drigm-agent/1"),
        (lambda d: (d / "left.json").write_text("{"), "is no contract"),
        (lambda d: (d / "left.json").write_text("[]"), "is no contract"),
        (lambda d: (d / "left.json").write_text('{"schema": "drigm-agent/1"}'), "is damaged"),
        (lambda d: (d / "left.npz").write_bytes((d / "right.npz").read_bytes()), "not the file"),
        (lambda d: (d / "left.npz").unlink(), "cannot be read"),
        (lambda d: resealed(d, "left.json", lambda c: c.pop("readings")), "lacks something"),
        (lambda d: resealed(d, "left.json", lambda c: c["readings"].pop()), "its arrays are not those"),
        (lambda d: (d / "old.json").write_text((d / "left.json").read_text()), "both of the agent 'left'"),
        (lambda d: resealed(d, "left.json", lambda c: c["readings"][0].update(low=10**400)), "lacks something"),
        (lambda d: resealed(d, "left.json", lambda c: c.pop("index")), "name and index"),
        (lambda d: resealed(d, "left.json", lambda c: c.pop("leaves")), "lacks something"),
        (lambda d: resealed(d, "left.json", lambda c: c["actions"].update(idle=9)), "idle action is 9"),
        (lambda d: resealed(d, "left.json", lambda c: c["actions"].update(values=[0.5])), "other levels"),
        (lambda d: resealed(d, "left.json", lambda c: c["network"].update(file="../left.npz")), "no file beside it"),
        (lambda d: resealed(d, "left.json", lambda c: c["network"].update(file=7)), "no file beside it"),
        (lambda d: resealed(d, "left.json", lambda c: c["actions"].update(count=3)), "its arrays are not those"),
    ],
)
def test_damaged_files_are_refused(exported, tmp_path, damage, said):
    import shutil

    folder = shutil.copytree(exported, tmp_path / "copy")
    damage(folder)
    assert said in refused(drigm.load_team, folder)
    with contextlib.suppress(UserError):  # what it cannot show is one sentence there too
        assert all(map(described, contracts_in(folder)))
