"""The page docs/deploying.md: every block on it runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from deployed import VDN, finished_run
from test_onnx import node_package

from drigm.cli.main import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploying.md").read_text()


def blocks(kind):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
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
    if not node_package():
        (script,) = blocks("javascript")
        done = subprocess.run(["node", "-e", script], check=True, capture_output=True, text=True)
        assert len(done.stdout.split()) == 2
    for name in ("drigm_runtime", "tank"):
        sys.modules.pop(name, None)
