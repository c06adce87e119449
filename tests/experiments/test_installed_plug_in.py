"""The example plug-in as pip installs it, and runs that need it: here, interrupted, and where it is missing."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from plugged import TINY

from drigm.storage.run_directory import RunDirectory

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
METHOD = ["--env", "rooms:6", "--factorization", "weighted", "--uncertainty", "cvar", "--rho", "0.1"]
FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items() if type(value) in (int, float)]
# The command line, sent a signal while it computes tick 40 in chunks of one tick.
STOPPED = """
import importlib, os, signal, sys
training = importlib.import_module("drigm.training.loop")
advance = training._Training.advance
def one_tick(self):
    if self.tick == 39:
        os.kill(os.getpid(), signal.SIGTERM)
    return advance(self)
training.CHUNK_SECONDS, training._Training.advance = 0.0, one_tick
from drigm.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder into which pip has installed the example package, without a network."""
    if importlib.util.find_spec("hatchling") is None:
        said = "needs what builds the package: pip install hatchling"
        pytest.fail(said) if os.environ.get("CI") == "true" else pytest.skip(said)
    folder = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(ROOT / "examples" / "plugin", folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(source)], check=True)
    shutil.rmtree(source)
    return folder / "site"


@pytest.fixture
def drigm(site, tmp_path):
    """Runs the command line in a process of its own, with the plug-in or without."""

    def run(*words, plugged=True, start=("-m", "drigm")):
        path = os.pathsep.join([str(site)] * plugged + [str(ROOT / "src")])
        env = {**os.environ, "PYTHONPATH": path}
        command = [sys.executable, *start, *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    return run


def test_an_installed_plug_in_is_listed_trained_and_scored(drigm, tmp_path):
    listed = json.loads(drigm("list", "--json").stdout)
    assert ["env", "rooms"] in listed["plugins"]["drigm-example 0.1.0"]
    assert json.loads(drigm("list", "--json", plugged=False).stdout)["plugins"] == {}
    done = drigm("train", *METHOD, *FLAGS, "--out", "one", "--quiet")
    assert done.returncode == 0, done.stderr
    system = json.loads((tmp_path / "one" / "system.json").read_text())
    assert system["plugins"] == dict.fromkeys(("rooms", "weighted", "cvar"), "drigm-example 0.1.0")
    done = drigm("evaluate", "one", "--shifts", "winter", "--perturb", "packet_loss=0.5")
    assert "-10 C, packet_loss=0.5" in done.stdout


def test_a_run_of_a_plug_in_goes_on_bit_for_bit_and_waits_where_it_is_missing(drigm, tmp_path):
    whole = drigm("train", *METHOD, *FLAGS, "--out", "whole", "--quiet")
    assert whole.returncode == 0, whole.stderr
    done = drigm("train", *METHOD, *FLAGS, "--out", "cut", "--quiet", start=("-c", STOPPED))
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    cut = RunDirectory(tmp_path / "cut")
    kept = {file: file.read_bytes() for file in cut.path.iterdir() if file.is_file()}
    assert cut.checkpoint_file in kept

    for words in (["train", "--resume", "cut"], ["evaluate", "whole"], ["export", "whole"], ["deploy", "whole"]):
        done = drigm(*words, plugged=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "drigm: env: 'rooms' is not allowed; the run has it from the plug-in drigm-example 0.1.0, "
            "which is not installed here, or fails.\n"
        )
    assert {file: file.read_bytes() for file in cut.path.iterdir() if file.is_file()} == kept

    done = drigm("train", "--resume", "cut", "--quiet")
    assert done.returncode == 0, done.stderr
    for seed in range(TINY["first_seed"], TINY["first_seed"] + TINY["seeds"]):
        ours, theirs = (RunDirectory(tmp_path / name) for name in ("cut", "whole"))
        assert ours.weights_file(seed).read_bytes() == theirs.weights_file(seed).read_bytes()
        rows = [[{**row, "steps_per_s": 0} for row in one.read_metrics(seed)] for one in (ours, theirs)]
        assert repr(rows[0]) == repr(rows[1])
    assert not cut.checkpoint_file.exists()
