"""Networks in PyTorch files become the arrays that they hold, whatever way the agents are kept in the file.

The real test runs where an environment beside drigm's own has PyTorch (`make peers` makes one); what finds the
agents needs none.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from drigm.core.errors import UserError
from drigm.experiments.reproduce.authors import SHAPES, TO_ARRAYS, AuthorsScore, find_networks, grouped
from drigm.experiments.reproduce.torch_to_arrays import NAMES, agents_in

ROOT = Path(__file__).parents[2]
AGENTS = 3
# Written by PyTorch: the same agents in four layouts.
WRITE = """
import json, sys, numpy as np, torch
names = json.loads(sys.argv[3])
arrays = {name: torch.tensor(value) for name, value in np.load(sys.argv[1]).items()}
agents = [{name: arrays[name.replace(".", "_")][i] for name in names} for i in range(int(sys.argv[4]))]
layouts = {
    "list": agents,
    "mapping": {f"agent_{i}": agent for i, agent in enumerate(agents)},
    "flat": {f"agents.{i}.{name}": value for i, agent in enumerate(agents) for name, value in agent.items()},
    "nested": {"q": {"agents": agents}, "mixer": {"w": torch.zeros(3)}},
}
for name, layout in layouts.items():
    torch.save(layout, f"{sys.argv[2]}/{name}.pt")
torch.save({"w": torch.zeros(2)}, f"{sys.argv[2]}/../other.pt")
"""


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal((AGENTS, *shape)).astype(np.float32) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def torch_python():
    """The interpreter of an environment that has PyTorch, if there is one."""
    for python in sorted(ROOT.glob(".venv-*/bin/python")):
        if subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode == 0:
            return str(python)
    pytest.skip("no .venv-* with PyTorch: make peers makes one")


@pytest.mark.parametrize("layout", ["list", "mapping", "flat", "nested"])
def test_the_agents_are_found_in_every_layout(arrays, layout):
    agents = [{name: arrays[name.replace(".", "_")][i] for name in NAMES} for i in range(AGENTS)]
    flat = {f"agents.{i}.{name}": value for i, agent in enumerate(agents) for name, value in agent.items()}
    layouts = {
        "list": agents,
        "mapping": dict(enumerate(agents)),
        "flat": flat,
        "nested": {"q": [agents], "mixer": {"w": np.zeros(3)}},
    }
    found = agents_in(layouts[layout])
    assert len(found) == AGENTS
    for agent, expected in zip(found, agents, strict=True):
        assert agent.keys() == expected.keys()
        for name, value in agent.items():
            np.testing.assert_array_equal(value, expected[name])


def test_real_pytorch_files_become_their_arrays(arrays, torch_python, tmp_path):
    source, folder, out = tmp_path / "source.npz", tmp_path / "networks", tmp_path / "out"
    folder.mkdir()
    np.savez(source, **arrays)
    subprocess.run([torch_python, "-c", WRITE, source, folder, json.dumps(NAMES), str(AGENTS)], check=True)
    teams = find_networks(folder, AGENTS, out, torch_python)
    assert sorted(teams) == ["flat", "list", "mapping", "nested"]
    for name, network in teams.items():
        kept = np.load(out / f"{name}.npz")
        for key, value in arrays.items():
            np.testing.assert_array_equal(network[key], value)
            np.testing.assert_array_equal(kept[key], value)
    (folder / "other.pt").write_bytes((tmp_path / "other.pt").read_bytes())
    with pytest.raises(UserError, match="no agent with"):
        find_networks(folder, AGENTS, None, torch_python)


@pytest.mark.parametrize("spoil", ["truncated", "bare array", "nan", "text"])
def test_bad_files_are_one_sentence(arrays, tmp_path, spoil):
    file = tmp_path / "x.npz"
    bias = arrays["fc1_bias"]
    spoilt = {"nan": bias + np.nan, "text": bias.astype(str)}
    np.savez(file, **arrays | {"fc1_bias": spoilt.get(spoil, bias)})
    if spoil == "truncated":
        file.write_bytes(file.read_bytes()[:1000])
    if spoil == "bare array":
        with open(file, "wb") as out:
            np.save(out, np.zeros(3))
    with pytest.raises(UserError, match=r"x\.npz"):
        find_networks(tmp_path, AGENTS)


def test_a_converter_that_talks_nonsense(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"")
    with pytest.raises(UserError, match="did not convert"):
        find_networks(tmp_path, AGENTS, None, "/bin/true")


def test_radii_are_no_seeds():
    names = ("qmix_tv_0.2_0", "qmix_tv_0.2_10", "qmix_tv_0.5_0", "vdn_tv_0.2", "vdn_tv_0.5", "x-seed-3", "x-seed4")
    found = grouped([AuthorsScore(name, {}) for name in names])
    assert {name: len(teams) for name, teams in found.items()} == {
        "qmix_tv_0.2": 2,
        "qmix_tv_0.5": 1,
        "vdn_tv_0.2": 1,
        "vdn_tv_0.5": 1,
        "x": 2,
    }


def test_an_interpreter_without_pytorch_is_told_so(arrays, tmp_path):
    (tmp_path / "x.pt").write_bytes(b"")
    with pytest.raises(UserError, match="could not be converted"):
        find_networks(tmp_path, AGENTS, None, sys.executable)
    assert TO_ARRAYS.exists()
