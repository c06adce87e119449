"""The page docs/plug-ins.md and its package: every block runs, in this process and as an installed plug-in."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plugged import EXAMPLE, TINY, install, registries  # noqa: F401 (a fixture)

import drigm
from drigm.cli.main import main
from drigm.core.plugins import origins
from drigm.envs import make_env
from drigm.envs.perturbations import BUILT_IN, PERTURBATIONS, Perturbation, perturbed
from drigm.storage.run_directory import RunDirectory

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plug-ins.md").read_text()
FENCES = re.findall(r"^```(.*)\n((?:.*\n)*?)^```$", PAGE, re.MULTILINE)
FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items() if type(value) in (int, float)]


@pytest.fixture
def installed(registries, tmp_path, monkeypatch):  # noqa: F811
    """The example package as an installer leaves it, for this process and those it starts."""
    site = install(tmp_path / "site", "drigm_example", "drigm_example:register")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(EXAMPLE), str(ROOT / "src")]))
    monkeypatch.chdir(tmp_path)
    return site


def test_the_page_shows_the_files_of_the_package():
    shown = {info.partition("file=")[2]: text for info, text in FENCES if "file=" in info}
    files = {file.name: file.read_text() for file in (EXAMPLE / "drigm_example").glob("*.py")}
    assert shown == files
    for name in ("cvar.py", "weighted.py", "packet_loss.py"):
        assert len(files[name].splitlines()) <= 30
    metadata = (ROOT / "examples" / "plugin" / "pyproject.toml").read_text()
    (entry,) = [text for info, text in FENCES if info == "toml"]
    assert entry in metadata


@pytest.mark.slow
def test_the_pages_commands_run(installed, capsys):
    (commands,) = [text for info, text in FENCES if info == ""]
    lines = [line.partition("#")[0].split()[1:] for line in commands.splitlines() if line.startswith("drigm ")]
    assert [words[0] for words in lines] == ["list", "check-env", "train", "evaluate"]
    for words in lines:
        if words[0] == "train":
            words = [*(word for word in words if word not in ("--steps", "20000")), *FLAGS, "--quiet"]
        assert main(words) == 0
    out, err = capsys.readouterr()
    assert "plug-in           drigm_example 1.0     perturb packet_loss" in out
    assert "rooms:24: 3 episodes of random play, nothing wrong\n" in out
    assert "-10 C, packet_loss=0.5" in out
    assert "left out" not in err
    config = RunDirectory("runs/rooms").load_config()
    assert (config.env, config.factorization, config.uncertainty, config.rho) == ("rooms:24", "weighted", "cvar", 0.1)
    system = json.loads(Path("runs/rooms/system.json").read_text())
    assert system["plugins"] == dict.fromkeys(("rooms", "weighted", "cvar"), "drigm_example 1.0")
    assert "environment" not in system  # nothing to be trusted: the user has installed it


@pytest.mark.slow
def test_the_pages_python_runs(registries, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (block,) = [text for info, text in FENCES if info == "python"]
    names: dict = {}
    block = block.replace("steps=2_000", "**TINY")
    exec(compile(block, "docs/plug-ins.md", "exec"), names | {"TINY": TINY}, names)
    assert "[]\n" in capsys.readouterr().out
    assert names["run"].config.env == "object:rooms-12"
    assert names["run"].config.uncertainty == "python:drigm_example.cvar:CVaR"
    team = names["team"]
    team.reset()
    assert set(team.act({"left": [20.0, 21.0], "right": [21.0, 20.0]})) == {"left", "right"}


@pytest.mark.slow
def test_other_processes_see_the_plug_in(installed, tmp_path):
    """The command line, a resumed run, and the worker processes of a sweep."""

    def run(*words):
        done = subprocess.run([sys.executable, "-m", "drigm", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = json.loads(run("list", "--json"))
    assert ["env", "rooms"] in listed["plugins"]["drigm_example 1.0"]
    assert "cvar" in listed["uncertainty_sets"]
    assert "packet_loss" in listed["perturbations"]
    settings = {name: value for name, value in TINY.items() if type(value) in (int, float) and name != "seeds"}
    base = "\n".join(f"{name} = {value}" for name, value in settings.items())
    Path("sweep.toml").write_text(
        f'[base]\nenv = "rooms:6"\nfactorization = "weighted"\nuncertainty = "cvar"\n'
        f'perturb = "packet_loss=0.5"\n{base}\n[grid]\nrho = [0.0, 0.1]\n'
        '[evaluate]\nshifts = "winter"\nperturb = "packet_loss=0,0.5"\n'
    )
    run("sweep", "sweep.toml")
    assert (Path("runs/sweeps/sweep")).is_dir()
    run("train", "--env", "rooms:6", "--factorization", "weighted", "--uncertainty", "cvar", "--rho", "0.1",
        "--perturb", "packet_loss=0.5", "--out", "one", "--quiet", *FLAGS)  # fmt: skip
    run("train", "--resume", "one")
    assert "cold=10" in run("evaluate", "one", "--shifts", "parameters")


def steps_of(env, key, count=6):
    def play(key):
        state, first = env.reset(key, env.params)

        def advance(carry, key):
            state, shown = env.step(key, carry, jnp.array([1, 3], jnp.int32), env.params)
            return state, shown

        return first, jax.lax.scan(advance, state, jax.random.split(key, count))[1]

    return jax.tree.map(np.asarray, jax.jit(play)(key))


def test_the_example_perturbation_loses_packets_and_nothing_at_0(registries):  # noqa: F811
    from drigm_example.packet_loss import PACKET_LOSS

    drigm.register_perturbation("packet_loss", PACKET_LOSS)
    env, key = make_env("python:drigm_example.rooms:rooms?hours=8"), jax.random.key(3)
    plain, at_0, at_1, half = (
        steps_of(e, key) for e in (env, *(perturbed(env, {"packet_loss": x}) for x in (0.0, 1.0, 0.5)))
    )
    jax.tree.map(np.testing.assert_array_equal, at_0, plain)
    np.testing.assert_array_equal(at_1[0].obs, plain[0].obs)  # the first is heard
    np.testing.assert_array_equal(at_1[1].obs, np.broadcast_to(plain[0].obs, at_1[1].obs.shape))
    lost = (half[1].obs != plain[1].obs).any(axis=-1)
    assert 0 < lost.sum() < lost.size
    np.testing.assert_array_equal(half[1].state, plain[1].state)  # what is stays true


def test_what_else_is_registered_does_not_move_a_perturbation(registries):  # noqa: F811
    from drigm_example.packet_loss import PACKET_LOSS

    key, env = jax.random.key(4), make_env("python:drigm_example.rooms:rooms?hours=8")
    drigm.register_perturbation("packet_loss", PACKET_LOSS)
    alone = steps_of(perturbed(env, {"packet_loss": 0.5, "obs_noise": 0.1}), key)
    del PERTURBATIONS["packet_loss"]
    drigm.register_perturbation("aaa", Perturbation("nothing", 1.0))
    drigm.register_perturbation("packet_loss", PACKET_LOSS)
    jax.tree.map(
        np.testing.assert_array_equal, steps_of(perturbed(env, {"packet_loss": 0.5, "obs_noise": 0.1}), key), alone
    )
    assert list(BUILT_IN)[:2] == ["obs_noise", "obs_dropout"]
    assert ("perturb", "aaa") in origins()
