"""drigm export and drigm inspect."""

import json
import shutil
import subprocess
import sys

import pytest
from deployed import CONFIGS, finished_run

from drigm.cli.main import main
from drigm.deployment.contract import sealed


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("cli") / "run", CONFIGS["ordered"].replace(seeds=2))


def told(capsys, *arguments, code=0):
    assert main([str(argument) for argument in arguments]) == code
    out, err = capsys.readouterr()
    if code:
        assert out == ""
        assert err.startswith("drigm: ")
        assert err.count("\n") == 1
    return err.strip() if code else out


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "team"
    flags = ["--hold", 5, "--stale", 9, "--late", 2.5, "--fallback", "constant:3", "--shifts", "nominal"]
    arguments = ["export", run.path, "--seed", 1, "-o", folder, "--with-runtime", "--steps", 50, "--quiet", *flags]
    assert main([str(argument) for argument in arguments]) == 0
    return folder


def test_export_writes_an_agent_as_two_files(exported):
    names = sorted(file.name for file in exported.iterdir())
    assert names == ["drigm_runtime.py", "left.json", "left.npz", "right.json", "right.npz"]
    contract = json.loads((exported / "left.json").read_text())
    fallback = {"kind": "constant", "action": 3}
    assert contract["safety"] == {"hold_steps": 5, "stale_steps": 9, "late_seconds": 2.5, "fallback": fallback}
    assert [one["suite"] for one in contract["evaluated"]] == ["nominal"]


def test_export_prints_the_folder_which_stands_in_the_run(run, capsys):
    folder = run.path / "export" / "seed_0-npz"
    assert told(capsys, "export", run.path, "--steps", 20, "--quiet") == f"{folder}\n"
    assert "is not empty" in told(capsys, "export", run.path, "--steps", 20, "--quiet", code=2)
    assert told(capsys, "train", "--resume", run.path, "--quiet") == f"{run.path}\n"  # the run is as it was


def test_inspect_shows_what_is_in_the_contract(exported, capsys):
    text = told(capsys, "inspect", exported)
    for word in (
        "left (1 of 2)",
        "right (2 of 2)",
        "VDN, seed 1, 240 steps of probe:levels",
        "(x - 0) / 1",
        "0 to 20, idle 10",
        "levels -1 to 1",
        "hidden [8] from 0",
        "held for 5 steps, then: constant, action 3",
        "without a new value for 9 steps",
        "after 2.5 s without a step",
        "0 differ",
        "worst (nominal)",
        "95 % interval",
    ):
        assert word in text
    assert told(capsys, "inspect", exported / "left.npz") == told(capsys, "inspect", exported / "left.json")
    assert "right (2" not in told(capsys, "inspect", exported / "left.npz")


def test_inspect_as_json_is_the_contracts(exported, capsys):
    found = json.loads(told(capsys, "inspect", exported, "--json"))
    assert found == [json.loads((exported / f"{name}.json").read_text()) for name in ("left", "right")]


def test_inspect_does_not_wait_for_jax(exported):
    """Importing it, and what trains, takes seconds."""
    inspects = f"import sys\nfrom drigm.cli.main import main\nassert main(['inspect', {str(exported)!r}]) == 0\n"
    inspects += "assert not {'jax', 'scipy', 'drigm.training'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", inspects], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("change", [{"team": None}, {"readings": [{}]}, {"parity": 3}, {"network": {"file": "/etc/x"}}])
def test_inspect_refuses_what_it_cannot_show(change, exported, tmp_path, capsys):
    folder = shutil.copytree(exported, tmp_path / "copy")
    contract = json.loads((folder / "left.json").read_text())
    (folder / "left.json").write_text(json.dumps(sealed(contract | change)))
    assert "contract" in told(capsys, "inspect", folder, code=2) or "file" in change.get("network", {})


def test_what_is_refused(run, exported, tmp_path, capsys):
    export = ("export", run.path, "-o", tmp_path / "new")
    assert "give idle, pi or constant:ACTION" in told(capsys, *export, "--fallback", "hope", code=2)
    assert "from 0 to 20" in told(capsys, *export, "--fallback", "constant:21", code=2)
    assert "hold_steps" in told(capsys, *export, "--hold", -1, code=2)
    assert "seed: 7" in told(capsys, *export, "--seed", 7, code=2)
    assert not list(tmp_path.iterdir())
    assert "not a run directory" in told(capsys, "export", tmp_path, code=2)
    assert "holds no exported agents" in told(capsys, "inspect", tmp_path, code=2)
    assert "give what drigm export wrote" in told(capsys, "inspect", tmp_path / "nothing", code=2)
    assert "is no contract" in told(capsys, "inspect", run.path / "config.json", code=2)
    (exported / "left.npz").write_bytes(b"")
    assert "is damaged" in told(capsys, "inspect", exported, code=2)
