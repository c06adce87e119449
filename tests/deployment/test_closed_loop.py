"""A team in the loop: processes that know nothing of each other play the evaluation's episodes, come what may."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from deployed import CONFIGS, VDN, finished_run
from small import PARALLEL_ENVS, assert_one_sentence

from drigm.core.errors import UserError
from drigm.core.types import Described
from drigm.deployment import processes
from drigm.deployment.agent_files import agent_files, write_agents
from drigm.deployment.closed_loop import run_loop
from drigm.deployment.export import export
from drigm.deployment.load import load_team
from drigm.deployment.log import read_log
from drigm.deployment.loop import Loop, seats
from drigm.deployment.processes import AgentProcess, Asked, ProcessTeam, close_all
from drigm.deployment.simulation import simulation
from drigm.deployment.summary import episode_sums
from drigm.envs.api import Shift
from drigm.envs.perturbations import perturbed
from drigm.evaluation.controllers import controller_scores
from drigm.evaluation.players import teams
from drigm.evaluation.scores import episode_scores

KINDS = ["linear", "masks and deaths", "ordered"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("loop"), {}

    def run(name):
        if name not in made:
            made[name] = finished_run(folder / name.replace(" ", "-"), CONFIGS[name].replace(seeds=2))
        return made[name]

    return run


@pytest.fixture
def team(runs, tmp_path):
    """The processes of a team, and what they were made of."""
    files = write_agents(load_team(runs("linear")), tmp_path)
    found = ProcessTeam(files.paths, files.contracts)
    yield found
    found.close()


def evaluated(run, place, episodes):
    """The scores that an evaluation gives the first episodes."""
    world = Shift("nominal", run.env.params)
    return episode_scores(run.env, teams(run.weights().agents), [world])[0, place, :episodes]


@pytest.mark.parametrize("name", KINDS)
def test_processes_score_what_an_evaluation_scores(name, runs, tmp_path):
    run = runs(name)
    found = run_loop(run, run.env, tmp_path / "log.jsonl", seed=1, episodes=6, quiet=True)
    np.testing.assert_allclose([one.score for one in found.episodes], evaluated(run, 1, 6), rtol=1e-6)
    log = read_log(found.log)
    assert log.header["seed"] == 1
    assert [one.end is not None for one in log.steps].count(True) == 6
    for before, after in zip(log.steps, log.steps[1:], strict=False):
        follows = (before.episode, before.step + 1) == (after.episode, after.step)
        assert follows if before.end is None else (after.episode, after.step) == (before.episode + 1, 0)


@pytest.mark.slow
def test_a_building_scores_what_an_evaluation_scores(tmp_path):
    """To rounding: an evaluation compiles a whole day at once."""
    run = finished_run(tmp_path / "run", CONFIGS["velocity"])
    found = run_loop(run, run.env, tmp_path / "log.jsonl", quiet=True)
    np.testing.assert_allclose(found.episodes[0].score, evaluated(run, 0, 1)[0], rtol=1e-3)
    assert read_log(found.log).steps[0].state is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "strengths"),
    [("ordered", {"obs_noise": 0.3, "action_delay": 1.0}), ("masks and deaths", {"action_delay": 1.0})],
)
def test_perturbed_worlds_are_those_of_an_evaluation(name, strengths, runs, tmp_path):
    """Where other processes are, as far as nothing is drawn: there an evaluation draws by place in its batch."""
    run = runs(name)
    found = run_loop(run, run.env, tmp_path / "log.jsonl", episodes=4, perturb=strengths, quiet=True)
    env = perturbed(run.env, strengths)
    scores = episode_scores(env, teams(run.weights().agents), [Shift("perturbed", env.params)])[0, 0, :4]
    np.testing.assert_allclose([one.score for one in found.episodes], scores, rtol=1e-6)
    assert not np.allclose(scores, evaluated(run, 0, 4))
    assert read_log(found.log).header["perturb"] == strengths


@pytest.mark.slow
def test_noise_in_another_process_is_drawn_anew_in_every_episode(runs, tmp_path):
    run = runs("masks and deaths")
    logs = [
        run_loop(run, run.env, tmp_path / f"{n}.jsonl", episodes=2, perturb={"obs_noise": strength}, quiet=True).log
        for n, strength in enumerate((0.0, 0.2, 0.2))
    ]
    plain, noisy, again = (read_log(log).steps for log in logs)
    assert noisy == again
    first = [[step.agents["1"].readings for step in steps if step.step == 0] for steps in (plain, noisy)]
    off = np.array(first[1]) - np.array(first[0])
    assert (off != 0.0).all()
    assert not np.allclose(off[0], off[1])


def test_an_export_is_the_run_that_it_was_made_of(runs, tmp_path):
    run = runs("linear")
    folder = export(run, 1, out=tmp_path / "export", steps=40, quiet=True)
    logs = [
        run_loop(source, run.env, tmp_path / f"{n}.jsonl", seed=1, episodes=3, quiet=True).log
        for n, source in enumerate((run, folder))
    ]
    assert read_log(logs[0]).steps == read_log(logs[1]).steps


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "package"),
    [
        ("supply:serial4", "jax"),
        ("smax:3m", "jaxmarl"),
        ("mpe:simple_spread_v3", "jaxmarl"),
        ("energyplus:OfficeSmall/Tucson", "pyenergyplus"),
    ],
)
def test_teams_of_every_kind_are_exported_and_run_in_the_loop(env, package, tmp_path):
    """Buildings, probes and PettingZoo have tests of their own. A whole episode is compared, some steps are played."""
    pytest.importorskip(package, reason=f"{package} is not installed")
    run = finished_run(tmp_path / "run", VDN.replace(env=env))
    folder = export(run, steps=1, quiet=True)
    logs = [
        read_log(run_loop(source, run.env, tmp_path / f"{n}.jsonl", steps=8, quiet=True).log).steps
        for n, source in enumerate((run, folder))
    ]
    assert len(logs[0]) == 8
    assert logs[0] == logs[1]
    assert not any(one.flags for step in logs[0] for one in step.agents.values())


def test_an_agent_process_is_told_of_no_other_and_has_no_jax(team):
    """It has its own two files, three streams, and what it was started with."""
    for name, one in team.processes.items():
        pid = one.process.pid
        maps = Path(f"/proc/{pid}/maps")
        if not maps.exists():
            pytest.skip("this system has no /proc")
        assert "jaxlib" not in maps.read_text()
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        assert [word for word in words if "agent" in Path(word).name] == [str(team.files[name])]
        assert sorted(file.name for file in team.files[name].parent.iterdir()) == ["agent.json", "agent.npz"]
        kinds = [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir() if file.exists()]
        assert sum(kind.startswith("socket:") for kind in kinds) == 0
        assert sum(kind.startswith("pipe:") for kind in kinds) == 2


def shown(team):
    return {name: Asked([1.0, 0.0]) for name in team.files}


def test_a_process_that_is_killed_is_noticed_and_replaced(team, capsys):
    before = team.step(shown(team))
    left = team.processes["left"]
    os.kill(left.process.pid, signal.SIGKILL)
    left.process.wait()
    found = team.step(shown(team))
    assert found["left"].action == team.contracts["left"]["actions"]["idle"]
    assert [(flag.kind, flag.steps) for flag in found["left"].flags] == [("process", 1), ("fallback", 1)]
    assert found["left"].fallback
    assert found["right"].flags == ()
    assert "agent left: its process did not answer" in capsys.readouterr().err
    again = team.step(shown(team))  # by a new process, as at the start of an episode
    assert again["left"] == before["left"]
    assert team.processes["left"].process.pid != left.process.pid
    assert team.restarts == {"left": 1, "right": 0}


def test_a_process_that_hangs_is_replaced(runs, tmp_path, capsys):
    files = write_agents(load_team(runs("linear")), tmp_path)
    team = ProcessTeam(files.paths, files.contracts, answer_seconds=0.3)
    try:
        hung = team.processes["right"].process
        os.kill(hung.pid, signal.SIGSTOP)
        assert team.step(shown(team))["right"].flags[0].kind == "process"
        assert hung.poll() == -signal.SIGKILL
        assert team.step(shown(team))["right"].flags == ()
    finally:
        team.close()
    assert "agent right" in capsys.readouterr().err


def test_a_process_that_hangs_reads_no_long_request(team):
    """A pipe holds 64 KiB: to write more must not wait for ever."""
    os.kill(team.processes["left"].process.pid, signal.SIGSTOP)
    assert not team.processes["left"].send({"do": "step", "readings": [0.5] * 50_000}, seconds=0.1)


def test_what_dies_again_and_again_is_left_to_its_fallback(team, monkeypatch, capsys):
    monkeypatch.setattr(processes, "RESTARTS", 1)
    for steps in (1, 2, 3, 4):
        one = team.processes["left"]
        if one is not None:
            os.kill(one.process.pid, signal.SIGKILL)
            one.process.wait()
        assert team.step(shown(team))["left"].flags[0] == ("process", None, steps, 0)
    assert team.processes["left"] is None
    assert "its fallback acts from now on" in capsys.readouterr().err


def test_the_loop_goes_on_without_an_agent(runs, tmp_path):
    """It is killed in the middle of an episode; the log says when."""
    run = runs("linear")
    files = write_agents(load_team(run), tmp_path)
    team, world = ProcessTeam(files.paths, files.contracts), simulation(run.env)
    try:
        played = []
        for step in Loop(run.env, world, team).play(2):
            played.append(step)
            if len(played) == 2:
                os.kill(team.processes["right"].process.pid, signal.SIGKILL)
                team.processes["right"].process.wait()
    finally:
        team.close()
        world.close()
    flagged = [[flag.kind for flag in step.agents["right"].flags] for step in played]
    assert flagged == [[], [], ["process", "fallback"], *[[]] * (len(played) - 3)]
    sums = episode_sums(played)
    assert [(one.fallbacks, one.flags) for one in sums] == [(1, 2), (0, 0)]
    assert all(one.score is not None for one in sums)


def test_a_stand_in_is_the_fallback_of_the_contract(runs, tmp_path):
    """PI holds its reading, a constant action is that, and a mask is kept."""
    safety = {"fallback": {"kind": "constant", "action": 3}}
    files = write_agents(load_team(runs("ordered"), safety=safety), tmp_path)
    stand_in = processes.StandIn(files.contracts["left"])
    readings = [0.0] * len(files.contracts["left"]["readings"])
    assert stand_in.act(readings, None, decides=True) == 3
    count = files.contracts["left"]["actions"]["count"]
    mask = [place == 5 for place in range(count)]
    assert stand_in.act(readings, mask, decides=True) == 5
    pi = {"kind": "pi", "reading": 0, "setpoint": 1.0, "kp": 0.5, "ki": 0.0}
    levels = files.contracts["left"]["actions"]["values"]
    contract = {**files.contracts["left"], "safety": {**files.contracts["left"]["safety"], "fallback": pi}}
    stand_in = processes.StandIn(contract)
    chosen = stand_in.act([0.5, *readings[1:]], None, decides=True)
    assert levels[chosen] == pytest.approx(0.25, abs=0.06)  # between two levels


def test_processes_end_with_the_team(team):
    pids = [one.process.pid for one in team.processes.values()]
    team.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    team.close()  # once more is nothing


def test_what_cannot_be_loaded_is_one_sentence(runs, tmp_path):
    files = write_agents(load_team(runs("linear")), tmp_path)
    (files.paths["left"].parent / "agent.npz").write_bytes(b"not this")
    with pytest.raises(UserError) as error:
        AgentProcess(files.paths["left"])
    assert_one_sentence(str(error.value))
    assert "damaged" in str(error.value)


def test_a_process_that_cannot_start_says_its_last_words(runs, tmp_path, monkeypatch):
    files = write_agents(load_team(runs("linear")), tmp_path)
    monkeypatch.setattr(processes.sys, "path", [])
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    with pytest.raises(UserError, match="its process does not start"):
        AgentProcess(files.paths["left"])


def test_shadow_mode_notes_what_the_team_would_do(runs, tmp_path):
    """The controller's score is its own, the team's that of the same episodes; agents are told what was done."""
    run = runs("linear")
    found = run_loop(run, run.env, tmp_path / "log.jsonl", episodes=4, shadow="do_nothing", quiet=True)
    assert [one.score for one in found.team] == pytest.approx(evaluated(run, 0, 4).tolist())
    log = read_log(found.log)
    idle = run.env.spec.idle_action
    assert all(one.action == idle for step in log.steps for one in step.agents.values())
    wanted = {name: [step.agents[name].would for step in log.steps] for name in run.env.spec.agents}
    for one in found.shadow:
        assert one.steps == len(log.steps)
        assert one.differing == sum(would != idle for would in wanted[one.agent])
        assert one.far is None
    team = load_team(run)
    first = log.steps[: next(i for i, step in enumerate(log.steps) if step.end) + 1]
    for name, agent in team.agents.items():
        for t, step in enumerate(first):
            assert agent.act(step.agents[name].readings, previous=idle if t else None) == step.agents[name].would


def test_shadow_mode_measures_how_far_levels_are_apart(runs, tmp_path):
    run = runs("ordered")
    found = run_loop(run, run.env, tmp_path / "log.jsonl", episodes=3, shadow="do_nothing", quiet=True)
    steps, levels = read_log(found.log).steps, run.env.spec.action_values
    for one in found.shadow:
        apart = [abs(levels[step.agents[one.agent].action] - levels[step.agents[one.agent].would]) for step in steps]
        np.testing.assert_allclose([one.far, one.farthest], [np.mean(apart), np.max(apart)], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("env", "name"), [("building:OfficeSmall/Tucson", "pi"), ("supply:serial4", "base_stock")])
def test_a_controller_in_the_loop_scores_what_its_evaluation_scores(env, name, tmp_path):
    run = finished_run(tmp_path / "run", VDN.replace(env=env))
    short = run.env._replace(num_eval_episodes=1)
    found = run_loop(run, short, tmp_path / "log.jsonl", shadow=name, quiet=True)
    scores = controller_scores(short, [Shift("nominal", short.params)], [name])[name]
    np.testing.assert_allclose(found.episodes[0].score, scores[0], rtol=1e-3)


def test_part_of_a_team_acts_where_the_others_are_not(runs, tmp_path):
    run = runs("linear")
    alone = run.env.spec._replace(
        agents=("right",), obs_offset=run.env.spec.obs_offset[1:], obs_scale=run.env.spec.obs_scale[1:]
    )
    with agent_files(run) as files:
        (seat,) = seats(alone, files.contracts)
    assert seat.name == "right"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"episodes": 0}, "episodes: 0"),
        ({"steps": 0}, "steps: 0"),
        ({"rate": 0.0}, "rate: 0.0"),
        ({"rate": float("nan")}, "rate: nan"),
        ({"shadow": "pi"}, "env: "),
        ({"perturb": {"wind": 1.0}}, "perturb: 'wind'"),
        ({"perturb": {"obs_dropout": 2.0}}, "perturb obs_dropout: 2.0"),
        ({"shadow": "one_step_optimum"}, "controller: 'one_step_optimum'"),
        ({"seed": 9}, "seed: 9"),
    ],
)
def test_what_cannot_be_run_is_said(options, said, runs, tmp_path):
    run = runs("linear")
    with pytest.raises(UserError) as error:
        run_loop(run, run.env, tmp_path / "log.jsonl", quiet=True, **options)
    assert_one_sentence(str(error.value))
    assert said in str(error.value)
    assert not (tmp_path / "log.jsonl").exists()


def test_a_team_that_does_not_fit_is_refused(runs, tmp_path):
    run, other = runs("linear"), runs("ordered")
    with pytest.raises(UserError, match=r"env: .* readings and .* actions"):
        run_loop(run, other.env, tmp_path / "log.jsonl", quiet=True)
    stranger = run.env._replace(spec=run.env.spec._replace(agents=("left", "middle")))
    with pytest.raises(UserError, match="no agent called middle"):
        run_loop(run, stranger, tmp_path / "log.jsonl", quiet=True)


def test_readings_or_levels_of_another_meaning_are_said(runs, capsys):
    """Counts alone do not tell an environment whose readings stand in another order."""
    run = runs("ordered")
    contracts = {name: agent.contract for name, agent in load_team(run).agents.items()}
    spec = run.env.spec
    seats(spec, contracts)
    assert capsys.readouterr().err == ""
    names = tuple(f"reading {i}" for i in reversed(range(spec.obs_size)))
    other = spec._replace(
        described=Described(readings=(names,) * spec.num_agents), action_values=spec.action_values[::-1]
    )
    named = {
        name: {**one, "readings": [{**reading, "name": f"it {i}"} for i, reading in enumerate(one["readings"])]}
        for name, one in contracts.items()
    }
    seats(other, named)
    said = capsys.readouterr().err
    assert said.count("what its readings are") == said.count("which levels its actions are") == spec.num_agents


def test_a_log_is_not_written_over(runs, tmp_path):
    run, path = runs("linear"), tmp_path / "log.jsonl"
    path.write_text("mine")
    with pytest.raises(UserError, match="it is there already"):
        run_loop(run, run.env, path, quiet=True)
    assert path.read_text() == "mine"


def test_an_environment_that_fails_leaves_what_was_played(runs, tmp_path):
    run = runs("masks and deaths")
    source = run.env.subprocess._replace(name=f"{PARALLEL_ENVS}:meeting?fault=raises&when=3")
    env = run.env._replace(subprocess=source)
    with pytest.raises(UserError):
        run_loop(run, env, tmp_path / "log.jsonl", quiet=True)
    assert len(read_log(tmp_path / "log.jsonl").steps) >= 1


def test_rates_are_kept(runs, tmp_path):
    import time

    run = runs("linear")
    began = time.monotonic()
    run_loop(run, run.env, tmp_path / "log.jsonl", steps=6, episodes=2, rate=10.0, quiet=True)
    assert time.monotonic() - began >= 0.5


def test_closing_does_not_wait_for_what_hangs(runs, tmp_path):
    import time

    files = write_agents(load_team(runs("linear")), tmp_path)
    started = [AgentProcess(path) for path in files.paths.values()]
    for one in started:
        os.kill(one.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    close_all(started)
    assert time.monotonic() - began < 3.0
    assert all(not one.alive for one in started)
