"""Environments in worker processes: what the team sees of a ParallelEnv, and what happens when it misbehaves."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import parallel_envs
import pytest
from gymnasium.spaces import Box, Dict
from pettingzoo import AECEnv
from small import PARALLEL_ENVS as FILE
from small import SUBPROCESS, SUBPROCESS_SETTINGS

import drigm
from drigm.agents import subprocess_episodes
from drigm.agents.recurrent import make_agents
from drigm.cli.main import main
from drigm.core.errors import UserError
from drigm.envs.api import Shift
from drigm.envs.subprocess.environment import name_of, spec_of, subprocess_env
from drigm.envs.subprocess.vector import SubprocessSource, SubprocessVector
from drigm.envs.subprocess.worker.errors import EnvError
from drigm.envs.subprocess.worker.parallel_env import ParallelAdapter
from drigm.evaluation.players import teams
from drigm.evaluation.subprocess_play import subprocess_outcomes
from drigm.training.subprocess_loop import make_subprocess_train

MEETING = f"pettingzoo:{FILE}:meeting"
SMALL = SUBPROCESS_SETTINGS | {"env_workers": 2, "quiet": True}
HEAD = {"share_parameters": True, "ordered": False}


def fault(name: str, **options: object) -> str:
    query = "&".join(f"{key}={value}" for key, value in {"fault": name, **options}.items())
    return f"{MEETING}?{query}"


def training_meets_the_fault_first(monkeypatch):
    """Not the random play that measures scales before it."""
    monkeypatch.setattr(importlib.import_module("drigm.training.runs"), "calibrated", lambda env, gamma, **_: env)


def source(text: str, workers: int = 2) -> SubprocessSource:
    kind, _, name = text.partition(":")
    return SubprocessSource(kind, name, workers=workers)


def test_adapter_pads_masks_and_buries():
    env = ParallelAdapter(parallel_envs.Meeting(), "meeting")
    assert (env.facts.agents, env.facts.obs_size, env.facts.num_actions) == (["1", "b"], 2, 3)
    assert (env.facts.state_size, env.facts.reward_range) == (2, [0.0, 2.0])
    first = env.reset(3)
    assert first.obs[1, 1] == 0.0  # "b" has one reading; the other is padding
    np.testing.assert_array_equal(first.avail_actions, [[True, True, False], [True, True, False]])
    right = np.full(2, int(env.env.cue > 0))
    steps = [env.step(right) for _ in range(5)]
    assert [s.reward for s in steps] == [2.0, 2.0, 2.0, 1.0, 1.0]  # the sum over the agents that acted
    np.testing.assert_array_equal([s.alive for s in steps], [[True, True]] * 2 + [[True, False]] * 3)
    np.testing.assert_array_equal(steps[3].avail_actions[1], [True, False, False])
    np.testing.assert_array_equal(steps[3].obs[1], [0.0, 0.0])
    assert [(s.terminated, s.truncated) for s in steps] == [(False, False)] * 4 + [(False, True)]
    # "b" has gone: no order of it reaches the environment. Agent 1 was cut off, not dead: its last value counts.
    assert [set(orders) for orders in env.env.orders] == [{1, "b"}] * 3 + [{1}] * 2
    assert steps[-1].obs[0, 1] == 1.0


def test_a_mask_in_the_info_holds():
    env = ParallelAdapter(parallel_envs.Meeting(fault="info_mask"), "meeting")
    np.testing.assert_array_equal(env.reset(0).avail_actions[0], [True, True, False])
    np.testing.assert_array_equal(env.step(np.zeros(2, int)).avail_actions[0], [False, True, False])


def test_a_last_mask_that_allows_nothing_frees_all_actions():
    """The last value of a cut episode is bootstrapped over the agent's own actions, not over none."""
    env = ParallelAdapter(parallel_envs.Meeting(fault="last_mask"), "meeting")
    env.reset(0)
    last = [env.step(np.zeros(2, int)) for _ in range(5)][-1]
    assert last.truncated
    np.testing.assert_array_equal(last.avail_actions[0], [True, True, False])
    assert last.alive[0]


def test_what_is_not_finite_is_found():
    env = ParallelAdapter(parallel_envs.Meeting(), "meeting")
    env.reset(0)
    env.env.state = lambda: np.array([0.0, np.inf])
    with pytest.raises(EnvError, match=r"step 1: state\(\) holds a value that is not finite"):
        env.step(np.zeros(2, int))
    env.env.cue = np.nan
    with pytest.raises(EnvError, match="agent 1, at step 2: its observation holds a value that is not finite"):
        env.step(np.zeros(2, int))


def test_bounds_that_leave_out_zero():
    class Warm(parallel_envs.Meeting):
        def __init__(self):
            super().__init__()
            self.spaces[1] = Box(273.0, 313.0, (2,), np.float32)
            self.spaces["b"] = Box(280.0, 300.0, (1,), np.float32)
            self.wide = Dict({"observation": self.spaces["b"], "action_mask": Box(0, 1, (3,), np.int8)})

    spec = spec_of("pettingzoo", ParallelAdapter(Warm(), "warm").facts)
    np.testing.assert_allclose(spec.obs_offset, [[293.0, 293.0], [290.0, 0.0]])
    np.testing.assert_allclose(spec.obs_scale, [[20.0, 20.0], [10.0, 1.0]])
    np.testing.assert_array_equal(spec.declared.obs, spec.readings)
    np.testing.assert_array_equal(spec.readings, [[True, True], [True, False]])


@pytest.mark.slow
def test_a_script_without_a_guard_does_not_multiply(tmp_path):
    """Workers import the script that holds the environment; its own training must not start again in them."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(FILE.parent)!r})\n"
        "import drigm\n"
        "from parallel_envs import Meeting\n"
        "class Mine(Meeting):\n"
        "    pass\n"
        "drigm.train(Mine, 'vdn', steps=2000, quiet=True)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode != 0
    assert "__name__ == '__main__'" in done.stderr


def test_agents_that_take_turns_are_refused():
    class Turns(AECEnv):
        possible_agents = ("a", "b")

    (sentence,) = drigm.check_env(Turns())
    assert "aec_to_parallel" in sentence


def test_both_ends_at_the_time_limit_are_a_truncation():
    env = ParallelAdapter(parallel_envs.Rough(), "rough")
    env.reset(0)
    last = [env.step(np.zeros(2, int)) for _ in range(5)][-1]
    assert (last.terminated, last.truncated) == (False, True)


def test_without_a_state_the_observations_stand_in():
    env = ParallelAdapter(parallel_envs.Meeting(state=False), "meeting")
    shown = env.reset(1)
    np.testing.assert_array_equal(shown.state, [*shown.obs[0], shown.obs[1, 0]])
    assert "no state()" in env.facts.notes[0]


def test_vector_equals_one_environment_and_keeps_its_slots():
    """Slots in two processes show what the same environments show here, in order, and reset a tick after their end."""
    vector = SubprocessVector(source(MEETING), [5, 6, 7])
    try:
        shown = vector.reset([5, 6, 7])
        here = [ParallelAdapter(parallel_envs.Meeting(), "meeting") for _ in range(3)]
        expected = [env.reset(seed) for env, seed in zip(here, (5, 6, 7), strict=True)]
        np.testing.assert_array_equal(shown.obs, np.stack([s.obs for s in expected]))
        actions = np.array([[0, 1], [1, 1], [1, 0]], np.int32)
        for t in range(1, 7):
            vector.send(actions)
            shown = vector.receive()
            if t <= 5:
                expected = [env.step(a) for env, a in zip(here, actions, strict=True)]
                np.testing.assert_array_equal(shown.obs, np.stack([s.obs for s in expected]))
                np.testing.assert_array_equal(shown.reward, [s.reward for s in expected])
                np.testing.assert_array_equal(shown.alive, np.stack([s.alive for s in expected]))
            assert shown.truncated.all() == (t == 5)
        np.testing.assert_array_equal(shown.reward, 0.0)  # the sixth tick was a reset
        np.testing.assert_array_equal(shown.obs[:, 0, 1], 0.0)
    finally:
        vector.close()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("raises", "at step 2: step raised RuntimeError: the boiler is on fire"),
        ("nan", "agent 1, at step 2: its reward is nan"),
        ("missing", "agent 1, at step 2: it is missing in the observations"),
        ("shape", "agent 1, at step 2: its observation has shape (3,), its space (2,)"),
        ("unknown", "agent 'stranger', at step 2: it is not one of possible_agents"),
        ("mask", "agent 'b', at step 2: its action mask allows nothing"),
        ("spaces", "at reset: its spaces or possible_agents are not what they were"),
        ("range", "agent 1, at step 2: its reward 5 is outside the reward_range 0 to 1"),
        ("none", "agent 1, at step 2: its reward is None"),
        ("columns", "at step 2: terminations are bool; a dict by agent is needed"),
        ("no_last", "agent 1, at step 5: it is missing in the observations (the last one"),
        ("binary", "agent 1, its action space is MultiBinary(3)"),
        ("endless", "has not ended after 50 steps"),
        ("unseeded", "reset(seed) does not repeat itself"),
    ],
)
def test_check_env_explains(name, sentence):
    found = drigm.check_env(parallel_envs.Meeting(fault=name), limit=50)
    assert any(sentence in line for line in found), found


def test_check_env_finds_nothing_wrong_with_a_right_one(capsys):
    assert drigm.check_env(parallel_envs.Meeting()) == []
    assert drigm.check_env(parallel_envs.meeting) == []  # by its name, in another process
    assert main(["check-env", MEETING]) == 0
    assert "nothing wrong" in capsys.readouterr().out
    assert main(["check-env", fault("nan")]) == 1
    assert "agent 1, at step 2" in capsys.readouterr().out
    assert main(["check-env", "building:OfficeSmall/Nowhere"]) == 2


def test_check_env_survives_a_process_that_dies():
    found = drigm.check_env(fault("dies"))
    assert len(found) == 1
    assert "died with exit code 7" in found[0]


def test_lambdas_are_refused():
    with pytest.raises(UserError, match="must be able to import it"):
        name_of(lambda: parallel_envs.Meeting())
    assert name_of(parallel_envs.meeting) == MEETING
    assert name_of(drigm.make_env) == "pettingzoo:drigm.envs:make_env"


def test_an_interpreter_that_is_none():
    with pytest.raises(UserError, match="env_python"):
        subprocess_env("pettingzoo", f"{FILE}:meeting", python="/nowhere/python")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("raises", "the boiler is on fire"), ("nan", "its reward is nan"), ("missing", "missing in the observations")],
)
def test_a_bad_environment_stops_training_in_one_sentence(tmp_path, monkeypatch, name, sentence):
    """What was learnt before is kept: the run goes on once the environment is mended."""
    training_meets_the_fault_first(monkeypatch)
    length = 60  # the fault comes in the middle of an episode, after some learning
    with pytest.raises(UserError, match=sentence) as error:
        drigm.train(fault(name, when=50, length=length), out=tmp_path / "run", **SMALL)
    assert "at step 50" in str(error.value)
    assert "--resume" in str(error.value)
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_a_worker_that_dies_is_noticed(tmp_path):
    with pytest.raises(UserError, match="died with exit code 7"):
        drigm.train(fault("dies", when=50, length=60), out=tmp_path / "run", **SMALL)


def test_a_killed_worker_is_noticed_and_the_others_stop():
    vector = SubprocessVector(source(MEETING), [0, 1])
    vector.reset()
    processes = [worker.process for worker in vector.workers]
    os.kill(processes[1].pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r"worker 1 \(environments 1 to 1\) died with exit code -9"):
        vector.reset()
    assert all(process.poll() is not None for process in processes)


def test_a_silent_worker_is_noticed():
    """The limit is that of a step: those of other environments in the same process do not count."""
    vector = SubprocessVector(source(fault("hangs"), workers=1)._replace(timeout=1.0), [0, 1])
    vector.reset()
    worker = vector.workers[0]
    vector.send(np.zeros((2, 2), np.int32))
    vector.receive()
    vector.send(np.zeros((2, 2), np.int32))
    with pytest.raises(UserError, match=r"\(environment 0\): it takes more than 1 s for a step at tick 2; env_timeout"):
        vector.receive()
    assert worker.process.poll() is not None


def test_a_worker_ends_though_its_guard_was_killed():
    vector = SubprocessVector(source(fault("hangs"), workers=1), [0])
    vector.reset()
    for _ in range(2):
        vector.send(np.zeros((1, 2), np.int32))
    worker = vector.workers[0]
    worker.guard.kill()
    start = time.monotonic()
    vector.close()
    assert time.monotonic() - start < 5.0
    assert worker.process.poll() == -signal.SIGKILL


def mine(marker: str) -> list[str]:
    """The processes, but for zombies, whose command line holds ``marker``."""
    listing = subprocess.run(["ps", "-eo", "stat=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listing.splitlines() if marker in line and not line.startswith("Z")]


def alive(pid: int) -> list[str]:
    """What `ps` says of a process, but for a zombie that waits to be collected."""
    listing = subprocess.run(["ps", "-o", "stat=,args=", "-p", str(pid)], capture_output=True, text=True).stdout
    return [line for line in listing.splitlines() if not line.startswith("Z")]


@pytest.mark.parametrize("apart", [False, True])
def test_a_killed_drigm_leaves_no_process_behind(tmp_path, apart):
    """Though its environment hangs, and has started a process, in a session of its own where it is ``apart``."""
    seconds = f"98{os.getpid()}"  # recognises the process
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np\n"
        "from drigm.envs.subprocess.vector import SubprocessSource\n"
        "if __name__ == '__main__':\n"
        f"    name = '{FILE.parent / 'odd_envs.py'}:Game?seconds={seconds}&apart={apart}'\n"
        "    vector = SubprocessSource('pettingzoo', name, workers=1).open([0])\n"
        "    vector.reset()\n"
        "    vector.send(np.zeros((1, 2), np.int32))\n"
        "    vector.receive()\n"
        "    vector.send(np.zeros((1, 2), np.int32))\n"
        "    print(vector.workers[0].process.pid, flush=True)\n"
        "    vector.receive()\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        assert len(mine(f"sleep {seconds}")) == 1
        process.kill()
    deadline = time.monotonic() + 10.0
    while (left := mine(f"sleep {seconds}") + alive(worker)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def test_closing_takes_two_seconds_whatever_the_number_of_workers():
    seconds = f"97{os.getpid()}"
    vector = source(f"pettingzoo:{FILE.parent / 'odd_envs.py'}:Game?seconds={seconds}", workers=4).open(list(range(4)))
    vector.reset()
    vector.send(np.zeros((4, 2), np.int32))
    vector.receive()
    vector.send(np.zeros((4, 2), np.int32))
    time.sleep(0.5)  # all of them hang now
    assert len(mine(f"sleep {seconds}")) == 4
    start = time.monotonic()
    vector.close()
    assert time.monotonic() - start < 5.0  # 2 on a machine with time to spare; one after the other it would be 6
    assert not mine(f"sleep {seconds}")


def test_greedy_episodes_are_played_until_they_end(monkeypatch):
    """Four steps are declared and five are played; an episode without an end is named."""
    env = subprocess_env("pettingzoo", f"{FILE.parent / 'odd_envs.py'}:Late", workers=1)._replace(num_eval_episodes=2)
    assert env.spec.episode_limit == 4
    agents = jax.tree.map(lambda x: x[None], make_agents(jax.random.key(0), env.spec, 8, **HEAD))
    played = subprocess_outcomes(env, teams(agents), [Shift("nominal", ())]).episode_return
    assert (played >= 0.0).all()
    monkeypatch.setattr(subprocess_episodes, "SHORTEST", 2)
    monkeypatch.setattr(subprocess_episodes, "PATIENCE", 1)
    with pytest.raises(UserError, match="greedy episode 0 has not ended after 4 steps, where evaluation gives up"):
        subprocess_outcomes(env, teams(agents), [Shift("nominal", ())])


@pytest.mark.slow
def test_training_evaluation_and_resume(tmp_path, capsys, monkeypatch):
    """The whole way: train, be killed by a fault, resume with the environment mended, score under perturbations."""
    run = drigm.train(MEETING, out=tmp_path / "a", seeds=2, **SMALL)
    assert run.directory.read_metrics(1)[-1]["step"] == 400
    again = drigm.train(MEETING, out=tmp_path / "b", seeds=2, **SMALL)
    for mine, other in zip(jax.tree.leaves(run.weights()), jax.tree.leaves(again.weights()), strict=True):
        np.testing.assert_array_equal(mine, other)  # the same seeds, the same result: whatever the processes' timing
    scores = drigm.evaluate(run, perturb={"obs_noise": [0.0, 0.5], "action_noise": [0.0, 1.0]}).scores
    assert [s.name for s in scores] == [f"obs_noise={a}, action_noise={b}" for a in ("0", "0.5") for b in "01"]
    assert all(0.0 <= s.mean <= 8.0 for s in scores)
    alignment = drigm.verify_run(run)  # a sum is aligned, at every joint history that four episodes have
    assert (alignment.agreement, len(alignment.per_seed)) == (1.0, 2)
    assert 0 < alignment.points <= 2 * 64

    training_meets_the_fault_first(monkeypatch)
    file = tmp_path / "mine.py"
    file.write_text(
        f"import sys\nsys.path.insert(0, {str(FILE.parent)!r})\nfrom parallel_envs import Meeting\n"
        "def make():\n    return Meeting(fault='raises', when=50, length=60)\n"
    )
    with pytest.raises(UserError, match="boiler"):
        drigm.train(f"pettingzoo:{file}:make", out=tmp_path / "c", **SMALL)
    file.write_text(file.read_text().replace("raises", ""))  # mended
    assert main(["train", "--resume", str(tmp_path / "c"), "--quiet"]) == 2  # not the file that was trained in
    assert "--env" in capsys.readouterr().err
    assert main(["train", "--resume", str(tmp_path / "c"), "--quiet", "--env", f"pettingzoo:{file}:make"]) == 0
    assert str(tmp_path / "c") in capsys.readouterr().out
    assert drigm.load_run(tmp_path / "c", trust=True).directory.read_metrics(0)[-1]["step"] == 400
    assert not (tmp_path / "c" / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_when_a_run_is_settled_changes_nothing():
    """The learning thread runs beside the workers; neither chunks nor checkpoints may move what it learns."""
    env = subprocess_env("pettingzoo", f"{FILE}:meeting", workers=2)
    programs = make_subprocess_train(SUBPROCESS, env)
    ended = []
    for parts in ((100,), (37, 4, 1, 58)):
        state, tick, updates, episodes = programs.init(jnp.zeros(1, jnp.int32), jnp.zeros(1)), 0, 0.0, 0.0
        for ticks in parts:
            state, sums = programs.chunk(state, jnp.int32(tick), jnp.int32(ticks))
            tick, updates, episodes = tick + ticks, updates + sums.updates, episodes + sums.episodes.episodes
            settled = programs.settle(state)
        ended.append((settled.learner, settled.ring, updates, episodes))
        programs.close()
    for mine, other in zip(*map(jax.tree.leaves, ended), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert ended[0][2] == 2 * len(range(9, 100, 3))  # learning starts after ten rows
    assert ended[0][3] > 50


def test_episodes_do_not_depend_on_how_many_are_played_at_once():
    env = subprocess_env("pettingzoo", f"{FILE}:meeting", workers=2)._replace(num_eval_episodes=7)
    assert env.subprocess is not None
    agents = jax.tree.map(lambda x: x[None], make_agents(jax.random.key(0), env.spec, 8, **HEAD))
    worlds = [Shift("nominal", ())]
    few, many = (
        subprocess_outcomes(
            env._replace(subprocess=env.subprocess._replace(most=most)), teams(agents), worlds
        ).episode_return
        for most in (3, 64)
    )
    assert few.shape == (1, 1, 7)
    np.testing.assert_array_equal(few, many)


def test_a_set_that_fails_needs_a_fail_value_where_rewards_have_no_bound(tmp_path):
    env = "pettingzoo:mpe2.simple_spread_v3:parallel_env"
    pytest.importorskip("mpe2")
    with pytest.raises(UserError, match="fail_value"):
        drigm.train(env, uncertainty=drigm.TotalVariation(0.2), out=tmp_path / "run", **SMALL)


def test_another_interpreter_runs_the_environment():
    """The worker needs nothing of drigm: it runs in an interpreter that cannot import it."""
    vector = SubprocessSource("pettingzoo", f"{FILE}:meeting", sys.executable, 1).open([0])
    try:
        assert vector.facts.agents == ["1", "b"]
    finally:
        vector.close()
