"""Agents in ONNX where neither drigm nor its Python is: in Node, and in an ONNX Runtime as old as the page claims.

`make test-long` gets both: tools/install_onnxruntime_node.sh, tools/make_old_onnxruntime_venv.sh (or
DRIGM_OLD_ORT_PYTHON, an interpreter that has an old one).
"""

import json
import os
import re
import shutil
import subprocess
from itertools import chain
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deployed import CONFIGS, VDN, finished_run
from test_export import contracts

import drigm
from drigm.deployment.export import export
from drigm.deployment.networks import own_actions, own_readings
from drigm.deployment.parity import slice_of
from drigm.deployment.recording import recorded

pytestmark = pytest.mark.slow
onnxruntime = pytest.importorskip("onnxruntime", reason='onnxruntime is not installed (pip install "drigm[onnx]")')

ROOT = Path(__file__).parents[2]
MODULES = ROOT / ".node" / "node_modules"
OLD = os.environ.get("DRIGM_OLD_ORT_PYTHON", str(ROOT / ".venv-onnxruntime" / "bin" / "python"))
NAMES = ["linear, changes", "ordered", "velocity", "masks and deaths"]
# Both are told {"stem": ..., "episodes": [[[readings, available], ...], ...]}; answers: [[[action, values], ...], ...].
NODE = """
const ort = require('onnxruntime-node'), fs = require('fs');
async function main() {
  const {stem, episodes} = JSON.parse(fs.readFileSync(0, 'utf8'));
  const contract = JSON.parse(fs.readFileSync(stem + '.json', 'utf8'));
  const session = await ort.InferenceSession.create(contract.network.file);
  const found = [];
  for (const episode of episodes) {
    const memory = {}, decided = [];
    for (const one of contract.memory) {
      const size = one.shape.reduce((a, b) => a * b, 1), whole = one.type === 'int64';
      const data = whole ? new BigInt64Array(size).fill(BigInt(one.reset)) : new Float32Array(size).fill(one.reset);
      memory[one.name] = new ort.Tensor(one.type, data, [1, ...one.shape]);
    }
    for (const [row, available] of episode) {
      const out = await session.run({
        observation: new ort.Tensor('float32', Float32Array.from(row), [1, row.length]),
        available: new ort.Tensor('bool', Uint8Array.from(available), [1, available.length]),
        ...memory,
      });
      for (const name of Object.keys(memory)) memory[name] = out[name === 'last_action' ? 'action' : name + '_next'];
      decided.push([Number(out.action.data[0]) + contract.actions.first, Array.from(out.q_values.data)]);
    }
    found.push(decided);
  }
  console.log(JSON.stringify(found));
}
main();
"""
PYTHON = """
import json, sys
import numpy as np
import onnxruntime
told = json.load(sys.stdin)
contract = json.load(open(told["stem"] + ".json"))
session = onnxruntime.InferenceSession(contract["network"]["file"], providers=["CPUExecutionProvider"])
names, found = [one.name for one in session.get_outputs()], []
for episode in told["episodes"]:
    memory = {one["name"]: np.full([1] + one["shape"], one["reset"], one["type"]) for one in contract["memory"]}
    decided = []
    for row, available in episode:
        feeds = {"observation": np.array([row], np.float32), "available": np.array([available], bool)}
        feeds.update(memory)
        out = dict(zip(names, session.run(None, feeds)))
        memory = {name: out["action" if name == "last_action" else name + "_next"] for name in memory}
        decided.append([int(out["action"][0]) + contract["actions"]["first"], out["q_values"][0].tolist()])
    found.append(decided)
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def node():
    """Runs a script in Node; where Node and npm are, a machine that tests every commit must have the package."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    path = os.pathsep.join(filter(None, [str(MODULES), os.environ.get("NODE_PATH")]))
    if subprocess.run(["node", "-e", "require('onnxruntime-node')"], env={**os.environ, "NODE_PATH": path}).returncode:
        said = "node finds no onnxruntime-node: run tools/install_onnxruntime_node.sh"
        pytest.fail(said) if os.environ.get("CI") == "true" else pytest.skip(said)

    def run(script, folder, told=""):
        command = ["node", str(script)] if isinstance(script, Path) else ["node", "-e", script]
        env = {**os.environ, "NODE_PATH": path}
        done = subprocess.run(command, cwd=folder, input=told, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def old():
    """Runs a script in a Python with an ONNX Runtime that is older than the installed one."""
    if not Path(OLD).exists():
        pytest.skip("no old ONNX Runtime: run tools/make_old_onnxruntime_venv.sh, or set DRIGM_OLD_ORT_PYTHON")
    asked = subprocess.run([OLD, "-c", "import onnxruntime as o; print(o.__version__)"], capture_output=True, text=True)
    assert numbers(asked.stdout) < numbers(onnxruntime.__version__), asked

    def run(script, folder, told=""):
        bare = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [OLD, "-c", script]
        done = subprocess.run(command, cwd=folder, input=told, capture_output=True, text=True, check=False, env=bare)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def numbers(version):
    return [int(part) for part in re.findall(r"\d+", version)[:2]]


@pytest.fixture(scope="module", params=NAMES)
def exported(request, tmp_path_factory):
    """An export, and of each agent what it saw in whole episodes of the trainer's team and what NumPy decides."""
    folder = tmp_path_factory.mktemp("runtimes")
    run = finished_run(folder / "run", CONFIGS[request.param])
    rounds = list(recorded(run.env, jax.tree.map(lambda x: jnp.asarray(x)[0], run.weights().agents), 100))
    return export(run, format="onnx", steps=20, quiet=True), {
        name: played(agent, [slice_of(part, n, own_readings(run.env.spec, n), own_actions(run.env.spec, n))
                             for part in rounds])
        for n, (name, agent) in list(enumerate(drigm.load_team(run).agents.items()))[:2]
    }  # fmt: skip


def played(agent, rounds):
    """Episodes, a step being (readings, available, action, values)."""
    episodes = []
    for part in rounds:
        for b in range(part.obs.shape[1]):
            agent.reset()
            steps = []
            for t in np.flatnonzero(part.there[:, b]):
                available = [True] * agent.count if part.avail is None else part.avail[t, b].tolist()
                action = agent.act(part.obs[t, b], available)
                steps.append((part.obs[t, b].tolist(), available, action, agent.q_values()))
            episodes.append(steps)
    return episodes


def decides_as_numpy(run, script, exported):
    folder, seen = exported
    steps = 0
    for contract in contracts(folder):
        if contract["agent"] not in seen:
            continue
        episodes = seen[contract["agent"]]
        told = {"stem": contract["network"]["file"].removesuffix(".onnx")}
        told["episodes"] = [[step[:2] for step in episode] for episode in episodes]
        found = json.loads(run(script, folder, json.dumps(told)))
        for (_, _, action, values), (theirs, q) in zip(chain(*episodes), chain(*found), strict=True):
            assert theirs == action
            np.testing.assert_allclose(q, values, rtol=1e-5, atol=1e-4)
            steps += 1
    assert steps >= 100


def test_node_decides_as_numpy_does(node, exported):
    decides_as_numpy(node, NODE, exported)


def test_an_old_onnx_runtime_decides_as_numpy_does(old, exported):
    decides_as_numpy(old, PYTHON, exported)


def test_the_pages_script_for_node_runs(node, tmp_path):
    page = (ROOT / "docs" / "deploying.md").read_text()
    (script,) = re.findall(r"^```javascript\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert script == (ROOT / "examples" / "act.js").read_text()
    run = finished_run(tmp_path / "run", VDN.replace(env="pettingzoo:examples/tank.py:Tank", env_workers=1))
    export(run, format="onnx", out=tmp_path / "exported" / "onnx", steps=60, quiet=True)
    team = drigm.load_team(run)
    rows = ([0.4, 0.9], [0.45, 0.7])
    assert list(map(int, node(ROOT / "examples" / "act.js", tmp_path).split())) == [
        team.agents["inlet"].act(row) for row in rows
    ]
