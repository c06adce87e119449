"""drigm deploy, what it prints, and how it ends."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
from deployed import CONFIGS, finished_run
from small import PARALLEL_ENVS

from drigm.cli.main import main
from drigm.deployment.guard import Flag
from drigm.deployment.log import read_log
from drigm.deployment.loop import AgentStep, LoopStep
from drigm.deployment.view import ROWS, View


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("cli") / "run", CONFIGS["linear"].replace(seeds=2))


def told(capsys, *arguments, code=0):
    assert main([str(argument) for argument in arguments]) == code
    out, err = capsys.readouterr()
    if code:
        assert err.startswith("drigm: ")
        assert err.count("\n") == 1
    return err.strip() if code else out


def words_of(line):
    return dict(word.split("=", 1) for word in line.split())


def test_every_line_is_made_of_keys_and_values(run, tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    lines = told(capsys, "deploy", run.path, "--episodes", 2, "--seed", 1, "--log", log).splitlines()
    first, second, last = map(words_of, lines)
    assert first["episode"] == "0"
    assert second["steps"] == "4"
    assert second["flags"] == second["fallbacks"] == "0"
    assert last == {"log": str(log)}
    assert float(first["score"]) == pytest.approx(read_log(log).steps[3].end.score)


def test_an_episode_that_is_broken_off_is_said(run, tmp_path, capsys):
    lines = told(capsys, "deploy", run.path, "--steps", 2, "--log", tmp_path / "log").splitlines()
    assert words_of(lines[0])["unfinished"] == "1"
    assert "score" not in words_of(lines[0])


def test_shadow_mode_sums_up(run, tmp_path, capsys):
    lines = told(capsys, "deploy", run.path, "--shadow", "do_nothing", "--log", tmp_path / "log").splitlines()
    left, right, scores = map(words_of, lines[1:4])
    assert (left["agent"], right["agent"]) == ("left", "right")
    assert int(left["steps"]) == 4
    assert set(scores) == {"score_do_nothing", "score_team", "return_do_nothing", "return_team"}


def test_an_environment_in_another_process(tmp_path, capsys):
    run = finished_run(tmp_path / "run", CONFIGS["masks and deaths"])
    env = f"pettingzoo:{PARALLEL_ENVS}:meeting"
    lines = told(capsys, "deploy", run.path, "--env", env, "--log", tmp_path / "log").splitlines()
    assert words_of(lines[0])["steps"] == "5"


def test_an_export_needs_an_environment(run, tmp_path, capsys):
    folder = tmp_path / "team"
    told(capsys, "export", run.path, "--steps", 20, "-o", folder, "--quiet")
    assert "give the environment" in told(capsys, "deploy", folder, code=2)
    lines = told(capsys, "deploy", folder, "--env", "probe:recall", "--log", tmp_path / "log").splitlines()
    assert words_of(lines[0])["episode"] == "0"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--episodes", "0"], "episodes: 0"),
        (["--rate", "-1"], "rate: -1"),
        (["--rate", "inf"], "rate: inf"),
        (["--shadow", "ppo"], "controller: 'ppo'"),
        (["--shadow", "pi"], "env: "),
        (["--seed", "7"], "seed: 7"),
        (["--env", "probe:levels"], "env: "),
        (["--perturb", "obs_noise=0,1"], "perturb obs_noise: [0.0, 1.0]"),
        (["--serve", "--perturb", "obs_noise=1"], "perturb: "),
        (["--serve", "--steps", "3"], "steps: 3"),
        (["--serve", "--shadow", "pi"], "shadow: 'pi'"),
        (["--serve", "--port", "-1"], "port: -1"),
        (["--log", ""], None),
    ],
)
def test_bad_input_is_one_sentence(arguments, said, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if said is None:  # no name is the default one
        assert re.search(r"log=deploy-\d{8}-\d{6}\.jsonl", told(capsys, "deploy", run.path, *arguments))
        return
    assert said in told(capsys, "deploy", run.path, *arguments, code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_not_there_is_said(tmp_path, capsys):
    assert "missing" in told(capsys, "deploy", tmp_path / "missing", code=2)


def children(pid):
    """The agents' processes of a command, by what their arguments hold."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as stat, open(f"/proc/{name}/cmdline") as words:
                    if stat.read().rpartition(")")[2].split()[1] == str(pid) and "deployment.device" in words.read():
                        found.append(int(name))
            except (OSError, IndexError):
                continue
    return found


def start(arguments, folder):
    command = [sys.executable, "-m", "drigm", "deploy", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)


def gone(pids, seconds=5.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(os.path.exists(f"/proc/{pid}") for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="this system has no /proc")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_everything(signum, run, tmp_path):
    """Agents never outlive the command, not even where it is killed; the log has every step until then."""
    log = tmp_path / "log.jsonl"
    command = start([run.path, "--episodes", 1000, "--rate", 20, "--log", log], tmp_path)
    until = time.monotonic() + 60
    while (not log.exists() or log.read_text().count("\n") < 4) and time.monotonic() < until:
        time.sleep(0.05)
    agents = children(command.pid)
    assert len(agents) == 2
    command.send_signal(signum)
    _, err = command.communicate(timeout=15)
    assert command.returncode == (-signum if signum == signal.SIGKILL else 128 + signum)
    assert signum == signal.SIGKILL or "has every step until now" in err
    assert "Traceback" not in err
    assert gone(agents)
    assert len(read_log(log).steps) >= 3


@pytest.mark.slow
def test_serving_ends_with_ctrl_c(run, tmp_path):
    command = start([run.path, "--serve", "--port", 0], tmp_path)
    lines = [command.stdout.readline() for _ in range(2)]
    url = words_of(lines[0])["url"]
    with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
        assert json.load(answer)["agent"] == words_of(lines[0])["agent"] == "left"
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=15)
    assert command.returncode == 130
    assert "Traceback" not in err
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{url}/health", timeout=2)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def header(agents, controller=None):
    readings = [{"name": "zone temperature", "unit": "C"}, {"name": "reading 1", "unit": None}]
    actions = {"count": 3, "first": 0, "idle": 0, "names": None, "values": [-1.0, 0.0, 1.0], "meaning": "power"}
    named = [{"name": f"zone number {n}", "readings": readings, "actions": actions} for n in range(agents)]
    return {"env": "building:OfficeSmall/Tucson", "controller": controller, "agents": named}


def played(agents, flags=(), would=None):
    return {f"zone number {n}": AgentStep([22.5, None], 2, flags, bool(flags), would) for n in range(agents)}


class TestView:
    def shown(self, view, step):
        from rich.console import Console

        view.show(step)
        screen = io.StringIO()
        Console(file=screen, width=80).print(view.render())
        lines = screen.getvalue().splitlines()
        assert max(map(len, lines)) <= 80
        return "\n".join(lines)

    def test_who_reads_and_does_what(self):
        flags = (Flag("nan", "reading 1", 4), Flag("fallback", None, 1))
        text = self.shown(View(header(2), stream=io.StringIO()), LoopStep(3, 17, -0.25, played(2, flags)))
        for word in ("building:OfficeSmall/Tucson", "episode 3", "step 17", "reward -0.25", "zt 22.5", "1 -"):
            assert word in text
        assert "nan fallback" in text
        assert re.search(r"zone number 1 +zt 22.5 +1 - +1 ", text)

    def test_rewards_are_summed_within_an_episode(self):
        view = View(header(1), stream=io.StringIO())
        for step, total in ((0, "sum 2"), (1, "sum 4"), (0, "sum 2")):
            assert total in self.shown(view, LoopStep(0, step, 2.0, played(1)))

    def test_shadow_mode_has_a_column_more(self):
        text = self.shown(View(header(1, "pi"), stream=io.StringIO()), LoopStep(0, 0, 0.0, played(1, would=0)))
        assert "driven by pi" in text
        assert re.search(r"would", text)
        assert re.search(r"zone number 0.* 1 +-1 ", text)

    def test_many_agents_are_counted_and_who_has_left_is_said(self):
        agents = played(ROWS + 5, (Flag("stale", "reading 1", 1),))
        agents.pop("zone number 0")
        text = self.shown(View(header(ROWS + 5), stream=io.StringIO()), LoopStep(0, 0, 0.0, agents))
        assert "and 5 more agents, 5 with flags" in text
        assert re.search(r"zone number 0 +has left", text)

    @pytest.mark.parametrize(("stream", "quiet", "live"), [(Terminal, 0, 1), (Terminal, 1, 0), (io.StringIO, 0, 0)])
    def test_it_is_live_on_a_terminal_alone(self, stream, quiet, live, monkeypatch):
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "80")
        screen = stream()
        with View(header(1), quiet=bool(quiet), stream=screen) as view:
            view.show(LoopStep(0, 5, 1.0, played(1)))
        assert ("step 5" in screen.getvalue()) == bool(live)
