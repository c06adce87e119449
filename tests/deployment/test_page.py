"""The pages docs/deploying.md and docs/in-the-loop.md: every block on them runs (that for Node: test_runtimes.py)."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from deployed import VDN, finished_run
from small import SUBPROCESS_SETTINGS

from drigm.cli.main import main
from drigm.deployment.endpoint import Endpoint
from drigm.deployment.load import load_team

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploying.md").read_text()


LOOP_PAGE = (ROOT / "docs" / "in-the-loop.md").read_text()


def blocks(kind, page=PAGE):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language == kind]


def test_every_block_of_the_page_runs(tmp_path, monkeypatch, capsys):
    """Shortened: the team has learnt nothing, and few steps are compared."""
    pytest.importorskip("onnxruntime", reason='onnxruntime is not installed (pip install "drigm[onnx]")')
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    train, commands = blocks("")
    assert train.startswith("drigm train --env pettingzoo:examples/tank.py:Tank --factorization vdn")
    config = VDN.replace(env="pettingzoo:examples/tank.py:Tank", seeds=3, env_workers=1)
    finished_run(Path("runs/tank"), config)
    for line in commands.splitlines():
        words = shlex.split(line)[1:]
        assert main([*words, *(["--steps", "60", "--quiet"] if words[0] == "export" else [])]) == 0
    shown = capsys.readouterr().out
    assert "water on offer" in shown
    assert "closed, half open, open" in shown
    names: dict = {}
    found = blocks("python")
    assert len(found) == 8
    for block in found:
        exec(compile(block, "docs/deploying.md", "exec"), names)
    assert "nan" in capsys.readouterr().out
    assert names["agent"].contract["safety"]["hold_steps"] == 5
    assert names["decision"].flags[0].reading == "level"
    for name in ("drigm_runtime", "tank"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_the_readmes_way_to_a_device(tmp_path, monkeypatch, capsys):
    """Every command from training to acting, shortened; test_runtimes.py has that in Node."""
    pytest.importorskip("onnxruntime", reason='onnxruntime is not installed (pip install "drigm[onnx]")')
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    (way,) = (text for text in blocks("", (ROOT / "README.md").read_text()) if "git clone" in text)
    small = [f"--{name.replace('_', '-')}={value}" for name, value in SUBPROCESS_SETTINGS.items()]
    shorter = {"train": [*small, "--quiet"], "export": ["--steps=60", "--quiet"]}
    lines = [line.partition("#")[0].split() for line in way.splitlines()]
    ran = [words[1] for words in lines if words[0] == "drigm"]
    assert ran == ["check-env", "train", "export", "export", "inspect", "deploy"]
    for words in lines:
        if words[0] == "drigm":
            assert main([*words[1:], *shorter.get(words[1], [])]) == 0
        elif words[:2] == ["python", "examples/act.py"]:
            bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            done = subprocess.run(
                [sys.executable, "-I", words[1]], env=bare, capture_output=True, text=True, check=True
            )
            assert set(done.stdout.split()) <= {"0", "1", "2"}
            assert len(done.stdout.split()) == 2
    assert "episode=1 " in capsys.readouterr().out
    assert "examples/act.js" in way
    acts = (ROOT / "examples" / "act.py").read_text()
    assert acts[acts.index("import sys") :] in blocks("python")


@pytest.mark.slow
def test_every_command_of_the_page_in_the_loop_runs(tmp_path, monkeypatch, capsys):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    finished_run(Path("runs/tank"), VDN.replace(env="pettingzoo:examples/tank.py:Tank", env_workers=1))
    for format, name in (("npz", "numpy"), ("onnx", "onnx")):
        command = ["export", "runs/tank", "--format", format, "-o", f"exported/{name}", "--steps", "60", "--quiet"]
        assert main(command) == 0
    (commands,) = blocks("", LOOP_PAGE)
    for line in commands.splitlines():
        assert main(shlex.split(line)[1:]) == 0
    shown = capsys.readouterr().out
    for word in ("episode=1 ", "log=logs/tank.jsonl", "logs/tank.html", "unfinished=1", "agent=inlet ", "score_team="):
        assert word in shown
    fields = [set(re.findall(r"(\w+)=", line)) for text in blocks("text", LOOP_PAGE) for line in text.splitlines()]
    printed = [set(re.findall(r"(\w+)=", line)) for line in shown.splitlines()]
    assert all(one in printed for one in fields)


@pytest.mark.slow
def test_every_request_of_the_page_in_the_loop_is_answered(tmp_path, monkeypatch):
    """The endpoints' own tests say more; here what the page sends is what the agent takes."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    run = finished_run(Path("runs/tank"), VDN.replace(env="pettingzoo:examples/tank.py:Tank", env_workers=1))
    endpoint = Endpoint(load_team(run).agents["inlet"])
    requests, _ = blocks("sh", LOOP_PAGE)
    found = []
    for line in requests.splitlines():
        words = shlex.split(line)
        body = json.loads(words[words.index("-d") + 1]) if "-d" in words else {}
        found.append(endpoint.answer(words[-1].removeprefix("http://127.0.0.1:8421"), body))
    assert [set(one) for one in found] == [
        {"status", "agent", "steps"},
        {"action", "meaning", "flags", "fallback"},
        {"agent", "steps"},
    ]
    assert found[1]["flags"] == []
