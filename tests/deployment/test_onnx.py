"""Agents in ONNX: the graph is sound, ONNX Runtime decides as the trainer does, and a guard stands before it too."""

import hashlib
import importlib.util
import json
import shutil
import sys

import numpy as np
import pytest
from deployed import CONFIGS, finished_run
from small import assert_one_sentence
from test_export import SCHEMA, contracts, marked
from test_guard_fuzz import ten_thousand_random_readings
from test_load import resealed

import drigm
from drigm.cli.main import main
from drigm.core.errors import UserError
from drigm.deployment import export as exporting
from drigm.deployment.agent import Agent
from drigm.deployment.export import export
from drigm.deployment.log import read_log
from drigm.deployment.step import OnnxNetwork

onnx = pytest.importorskip("onnx", reason='onnx is not installed (pip install "drigm[onnx]")')
onnxruntime = pytest.importorskip("onnxruntime", reason='onnxruntime is not installed (pip install "drigm[onnx]")')


@pytest.mark.parametrize("name", marked(CONFIGS))
def test_every_kind_of_network_passes(name, tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    run = finished_run(tmp_path / "run", CONFIGS[name])
    folder = export(run, format="onnx", steps=100, quiet=True)
    schema = json.loads(SCHEMA.read_text())
    for contract in contracts(folder):
        jsonschema.validate(contract, schema)
        for runtime in ("numpy", "onnx"):
            assert contract["parity"][runtime]["steps"] > 0
            assert contract["parity"][runtime]["differing"] == 0
            assert contract["parity"][runtime]["largest_q_difference"] < 1e-3
        model = onnx.load(folder / contract["network"]["file"])
        onnx.checker.check_model(model, full_check=True)
        assert model.ir_version == 8
        assert [one.version for one in model.opset_import] == [17]
        assert [one.name for one in model.graph.input] == contract["network"]["inputs"]
        known = {one["name"] for one in contract["memory"]}
        assert known <= set(contract["network"]["inputs"])
        assert {f"{one}_next" for one in known - {"last_action"}} < set(contract["network"]["outputs"])


def test_a_graph_that_decides_otherwise_is_not_exported(tmp_path, monkeypatch):
    """NumPy and the trainer agree; the graph alone is wrong."""
    run = finished_run(tmp_path / "run", CONFIGS["linear"])
    made = exporting.make_model
    wrong = lambda net, agent: made(net._replace(head_bias=net.head_bias + np.float32([[0.0, 3.0]])), agent)  # noqa: E731
    monkeypatch.setattr(exporting, "make_model", wrong)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="decisions in onnx"):
        export(run, format="onnx", steps=100, quiet=True)
    assert sorted(tmp_path.rglob("*")) == before


def bad_and_good(rng, size):
    """Readings of a step: mostly good ones, some missing, some no numbers."""
    row = rng.uniform(-1, 1, size).tolist()
    for place in np.flatnonzero(rng.random(size) < 0.15):
        row[place] = (None, float("nan"), "x")[rng.integers(3)]
    return row


def test_an_agent_in_onnx_is_guarded_as_one_in_numpy(tmp_path):
    """From the package, and from the one file that a device has."""
    run = finished_run(tmp_path / "run", CONFIGS["linear, changes"])
    folder = export(run, format="onnx", steps=20, quiet=True, with_runtime=True)
    spec = importlib.util.spec_from_file_location("runtime_beside_onnx", folder / "drigm_runtime.py")
    alone = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alone)
    teams = [drigm.load_team(run), drigm.load_team(folder), alone.load_team(folder)]
    rng, fell = np.random.default_rng(3), 0
    for step in range(120):
        if step % 20 == 0:
            for team in teams:
                team.reset()
        seen = {name: bad_and_good(rng, 2) for name in teams[0].agents}
        first, *others = (team.step(seen) for team in teams)
        fell += sum(decision.fallback for decision in first.values())
        for team, found in zip(teams[1:], others, strict=True):
            assert found == first
            for name, agent in team.agents.items():
                np.testing.assert_allclose(agent.q_values(), teams[0].agents[name].q_values(), rtol=1e-5, atol=1e-4)
    assert 0 < fell < 240


def test_a_graph_that_fails_is_a_network_without_numbers(tmp_path):
    run = finished_run(tmp_path / "run", CONFIGS["linear"])
    agent = drigm.load_agent(export(run, format="onnx", steps=20, quiet=True), "left")
    agent.act([0.0, 0.0])
    agent.network.session = None
    decision = agent.step([0.0, 0.0])
    assert [flag.kind for flag in decision.flags] == ["network", "fallback"]
    assert decision.action == agent.contract["actions"]["idle"]


def test_graphs_that_are_not_the_contracts_are_refused(tmp_path):
    run = finished_run(tmp_path / "run", CONFIGS["linear"])
    folder = export(run, format="onnx", steps=20, quiet=True)
    for change, said in (
        (lambda c: c["readings"].pop(), "its arrays are not those"),
        (lambda c: c["actions"].update(count=3), "its arrays are not those"),
        (lambda c: c["network"].update(sha256=hashlib.sha256(b"nothing").hexdigest()), "cannot be read"),
    ):
        copy = shutil.copytree(folder, tmp_path / "copy")
        if said == "cannot be read":
            (copy / "left.onnx").write_bytes(b"nothing")
        resealed(copy, "left.json", change)
        with pytest.raises(UserError, match=said) as error:
            drigm.load_team(copy)
        assert_one_sentence(str(error.value))
        shutil.rmtree(copy)


@pytest.mark.slow
@pytest.mark.parametrize("ordered", [False, True])
def test_ten_thousand_random_readings_raise_nothing_in_onnx(ordered):
    def in_onnx(agent):
        graph = OnnxNetwork(exporting.make_model(agent.network.arrays, "agent").SerializeToString())
        return Agent(graph, agent.contract)

    ten_thousand_random_readings(ordered, in_onnx)


@pytest.mark.slow
def test_an_export_in_onnx_is_run_in_the_loop(tmp_path, capsys, monkeypatch):
    """Each agent in a process of its own, the same steps as in NumPy; without ONNX Runtime one sentence says so."""
    run = finished_run(tmp_path / "run", CONFIGS["linear"])
    for format in ("npz", "onnx"):
        folder = export(run, format=format, out=tmp_path / format, steps=40, quiet=True)
        command = ["deploy", folder, "--env", "probe:recall", "--episodes", "3", "--log", tmp_path / f"{format}.jsonl"]
        assert main(list(map(str, command))) == 0
    numpy, onnx = (read_log(tmp_path / f"{format}.jsonl").steps for format in ("npz", "onnx"))
    assert numpy == onnx
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["deploy", str(folder), "--env", "probe:recall", "--log", str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err
    assert_one_sentence(said.removeprefix("drigm: ").strip())
    assert "left.onnx: needs ONNX Runtime, which is missing; pip install onnxruntime" in said
    assert not (tmp_path / "none").exists()


def test_without_the_packages_one_sentence_says_so(tmp_path, monkeypatch, capsys):
    run = finished_run(tmp_path / "run", CONFIGS["linear"])
    for package in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(__import__("sys").modules, package, None)
            assert main(["export", str(run.path), "--format", "onnx", "--quiet"]) == 2
        assert capsys.readouterr().err == f'drigm: {package}: the package is missing; pip install "drigm[onnx]".\n'
