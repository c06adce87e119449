"""The page "your environment in ten minutes": every command on it runs, and what it promises holds."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from small import seeds_to_learn

import drigm
from drigm.cli.main import main
from drigm.envs.subprocess.environment import subprocess_env

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "your-environment.md"


def commands() -> list[list[str]]:
    """The drigm commands in the page's code blocks."""
    blocks = re.findall(r"```\n(.*?)```", PAGE.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("drigm ")]
    return [shlex.split(line)[1:] for line in lines]


def random_return(env: str) -> float:
    vector = subprocess_env("pettingzoo", env).subprocess.open(list(range(32)))
    draw, total = np.random.default_rng(0), np.zeros(32)
    try:
        vector.reset()
        for _ in range(40):
            vector.send(draw.integers(0, 3, (32, 2)).astype(np.int32))
            total += vector.receive().reward
    finally:
        vector.close()
    return float(total.mean())


@pytest.mark.slow
@pytest.mark.learns
def test_the_page(tmp_path, monkeypatch, capsys, learnt):
    """Shortened: fewer steps and one seed, in a folder of its own."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    found, seeds = commands(), seeds_to_learn(1)
    assert [line[0] for line in found] == [
        "check-env",
        "train",
        "train",
        "evaluate",
        "evaluate",
        "evaluate",
        "report",
        "evaluate",
        "evaluate",
        "train",
    ]
    for line in found:
        short = [{"60000": "16000", "3": str(len(seeds))}.get(word, word) for word in line]
        more = ["--first-seed", str(seeds[0]), "--quiet"] if line[0] == "train" else []
        assert main([*short, *more]) == 0, line
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
    run = drigm.load_run("runs/tank")
    (score,) = drigm.evaluate(run, shifts="nominal").scores
    # Seeds 100 to 103: 0.165 ± 0.002.
    learnt(
        "cost beside a random team's", np.array(score.per_seed) / random_return("examples/tank.py:Tank"), at_most=0.6
    )
    assert len(drigm.evaluate(run, perturb={"action_delay": [0, 1, 2], "obs_dropout": [0, 0.2]}).scores) == 6
