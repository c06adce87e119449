"""Agents in ONNX: the graph is sound, and ONNX Runtime decides as the trainer does, in Python and in Node."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from deployed import CONFIGS, finished_run
from test_export import contracts, marked

import drigm
from drigm.cli.main import main
from drigm.core.errors import UserError
from drigm.deployment import export as exporting
from drigm.deployment.export import export

onnx = pytest.importorskip("onnx", reason='onnx is not installed (pip install "drigm[onnx]")')
onnxruntime = pytest.importorskip("onnxruntime", reason='onnxruntime is not installed (pip install "drigm[onnx]")')

NODE = """
const ort = require('onnxruntime-node'), fs = require('fs');
async function main() {
  const {stem, rows} = JSON.parse(fs.readFileSync(0, 'utf8'));
  const contract = JSON.parse(fs.readFileSync(stem + '.json', 'utf8'));
  const session = await ort.InferenceSession.create(contract.network.file);
  const memory = {};
  for (const one of contract.memory) {
    const size = one.shape.reduce((a, b) => a * b, 1), whole = one.type === 'int64';
    const data = whole ? new BigInt64Array(size).fill(BigInt(one.reset)) : new Float32Array(size).fill(one.reset);
    memory[one.name] = new ort.Tensor(one.type, data, [1, ...one.shape]);
  }
  const found = [];
  for (const row of rows) {
    const available = new Uint8Array(contract.actions.count).fill(1);
    const out = await session.run({
      observation: new ort.Tensor('float32', Float32Array.from(row), [1, row.length]),
      available: new ort.Tensor('bool', available, [1, available.length]),
      ...memory,
    });
    for (const name of Object.keys(memory)) memory[name] = out[name === 'last_action' ? 'action' : name + '_next'];
    found.push([Number(out.action.data[0]) + contract.actions.first, Array.from(out.q_values.data)]);
  }
  console.log(JSON.stringify(found));
}
main();
"""


@pytest.mark.parametrize("name", marked(CONFIGS))
def test_every_kind_of_network_passes(name, tmp_path):
    run = finished_run(tmp_path / "run", CONFIGS[name])
    folder = export(run, format="onnx", steps=100, quiet=True)
    for contract in contracts(folder):
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


def test_numpy_does_not_read_onnx(tmp_path):
    run = finished_run(tmp_path / "run", CONFIGS["linear"])
    folder = export(run, format="onnx", steps=20, quiet=True)
    with pytest.raises(UserError, match="ONNX Runtime; NumPy reads what --format npz writes"):
        drigm.load_team(folder)


def test_without_the_packages_one_sentence_says_so(tmp_path, monkeypatch, capsys):
    run = finished_run(tmp_path / "run", CONFIGS["linear"])
    for package in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(__import__("sys").modules, package, None)
            assert main(["export", str(run.path), "--format", "onnx", "--quiet"]) == 2
        assert capsys.readouterr().err == f'drigm: {package}: the package is missing; pip install "drigm[onnx]".\n'


def node_package():
    """Why ONNX Runtime cannot be run in Node here; "" if it can."""
    if shutil.which("node") is None:
        return "node is not installed"
    found = subprocess.run(["node", "-e", "require('onnxruntime-node')"], capture_output=True)
    return "" if found.returncode == 0 else "node finds no onnxruntime-node (npm install onnxruntime-node; NODE_PATH)"


@pytest.mark.parametrize("name", ["linear, changes", "ordered", pytest.param("velocity", marks=pytest.mark.slow)])
def test_node_decides_as_numpy_does(name, tmp_path):
    if why := node_package():
        pytest.skip(why)
    run = finished_run(tmp_path / "run", CONFIGS[name])
    folder = export(run, format="onnx", steps=20, quiet=True)
    rng = np.random.default_rng(1)
    for contract in contracts(folder)[:2]:
        agent = drigm.load_agent(run, contract["agent"])
        offset, scale = (np.array([one[side] for one in contract["readings"]]) for side in ("offset", "scale"))
        rows = (offset + scale * rng.uniform(0, 1, (30, len(offset)))).astype(np.float32)
        told = json.dumps({"stem": contract["network"]["file"].removesuffix(".onnx"), "rows": rows.tolist()})
        done = subprocess.run(["node", "-e", NODE], cwd=folder, input=told, capture_output=True, text=True, check=True)
        for (action, values), row in zip(json.loads(done.stdout), rows, strict=True):
            assert agent.act(row) == action
            np.testing.assert_allclose(values, agent.q_values(), rtol=1e-5, atol=1e-4)
