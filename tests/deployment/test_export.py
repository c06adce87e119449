"""Exported agents decide as the trainer's, on a device as in an evaluation, and what does not is not exported."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deployed import CONFIGS, finished_run
from small import assert_one_sentence

import drigm
from drigm.agents import rollout
from drigm.core.errors import UserError
from drigm.deployment import export as exporting
from drigm.deployment.export import export, file_names
from drigm.deployment.parity import Slice, compared
from drigm.deployment.runtime_file import runtime_source
from drigm.envs.api import step_or_reset
from drigm.evaluation.cache import cached_evaluation

SCHEMA = Path(drigm.__file__).parent / "deployment" / "contract.schema.json"
# A device: it has one agent's two files, the runtime and a pipe of its own, and neither drigm nor JAX.
DEVICE = """
import sys, json
sys.path.insert(0, ".")
import drigm_runtime
agent = drigm_runtime.load_agent(sys.argv[1])
for line in sys.stdin:
    observation, available = json.loads(line)
    if observation is None:
        agent.reset()
    else:
        decision = agent.step(observation, available)
        print(json.dumps([decision.action, len(decision.flags)]), flush=True)
assert not {"jax", "drigm", "equinox", "safetensors"} & set(sys.modules)
"""


def contracts(folder):
    found = [json.loads(file.read_text()) for file in folder.glob("*.json")]
    return sorted(found, key=lambda one: one["index"])


def marked(names):
    """Buildings compile for longer."""
    slow = [name for name in names if CONFIGS[name].env.startswith("building")]
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]


@pytest.mark.parametrize("name", marked(CONFIGS))
def test_every_kind_of_network_passes(name, tmp_path):
    """All heads and inputs, own weights and shared ones, masks, padding and deaths: values agree to rounding."""
    jsonschema = pytest.importorskip("jsonschema")
    run = finished_run(tmp_path / "run", CONFIGS[name])
    folder = export(run, steps=300, quiet=True)
    found = contracts(folder)
    assert [one["agent"] for one in found] == list(run.env.spec.agents)
    schema = json.loads(SCHEMA.read_text())
    for one in found:
        jsonschema.validate(one, schema)
        parity = one["parity"]["numpy"]
        assert parity["differing"] == 0
        assert parity["largest_q_difference"] < 1e-3  # of values up to some thousands
        assert parity["ties"] <= 3
        assert one["step"]["episode_steps"] == (5 if "masks" in name else run.env.spec.episode_limit)
    assert found[0]["parity"]["numpy"]["steps"] >= 300


@pytest.mark.slow
def test_ten_thousand_steps_are_compared_where_nothing_else_is_said(tmp_path):
    run = finished_run(tmp_path / "run", CONFIGS["linear, shared"])
    found = contracts(export(run, quiet=True))
    assert all(one["parity"]["numpy"]["steps"] >= 10_000 for one in found)
    assert all(one["parity"]["numpy"]["steps"] % 4 == 0 for one in found)  # whole episodes


def broken(change):
    """`team_networks`, with the second agent changed."""
    made = exporting.team_networks

    def change_one(*args):
        first, second = made(*args)
        return [first, change(second)]

    return change_one


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda net: net._replace(head_bias=net.head_bias + np.array([[0.0, 3.0]], np.float32)), "decisions in numpy"),
        (lambda net: net._replace(offset=net.offset + 2.0), "decisions in numpy"),
        (lambda net: net._replace(head=net.head * np.nan), "it finds fault with"),
    ],
)
def test_an_agent_that_decides_otherwise_is_not_exported(change, said, tmp_path, monkeypatch):
    run = finished_run(tmp_path / "run", CONFIGS["linear"])
    monkeypatch.setattr(exporting, "team_networks", broken(change))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="export: 'right' is not allowed") as error:
        export(run, steps=200, quiet=True)
    assert_one_sentence(str(error.value))
    assert said in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    run = finished_run(tmp_path / "run", CONFIGS["linear"])
    before, written = sorted(tmp_path.rglob("*")), []

    def fail(path, text):
        written.append(path)
        if len(written) == 2:
            raise UserError(f"{path}: cannot be written (no space).")

    monkeypatch.setattr(exporting, "write_text", fail)
    with pytest.raises(UserError, match="no space"):
        export(run, out=tmp_path / "out", steps=20, quiet=True)
    assert sorted(tmp_path.rglob("*")) == before


def one_step(q, action, theirs, there=True):
    """A comparison of one decision: values ``q`` of the trainer's agent that took ``action``, and what another took."""
    row = np.array([q], np.float32)
    seen = Slice(np.zeros((1, 1, 1)), np.zeros((1, 1)), None, np.array([[there]]), row[None], np.array([[action]]))
    return compared(seen, lambda obs, avail, last: (np.array([theirs]), row, np.zeros(1, bool)))


def test_only_ties_may_differ():
    assert one_step([1.0, 0.5], 0, 0) == (1, 0, 0, 0.0, 0)
    assert one_step([1.0, 0.5], 0, 1) == (1, 1, 0, 0.0, 0)
    assert one_step([1.0, 1.0 - 5e-6], 0, 1) == (1, 0, 1, 0.0, 0)
    assert one_step([1.0, 1.0 - 2e-5], 0, 1) == (1, 1, 0, 0.0, 0)
    assert one_step([1000.0, 1000.0 - 5e-3], 0, 1) == (1, 0, 1, 0.0, 0)  # relative: float32 has seven digits
    assert one_step([1.0, 0.5], 0, 1, there=False).steps == 0


@pytest.mark.slow
def test_what_the_contract_says(tmp_path):
    run = finished_run(tmp_path / "run", CONFIGS["velocity"].replace(seeds=3))
    cached_evaluation(run, "nominal", quiet=True)
    cached_evaluation(run, "nominal", trim=0.03, quiet=True)  # not of what is exported
    found = contracts(export(run, 2, steps=200, quiet=True, out=tmp_path / "out", safety={"fallback": "pi"}))
    assert len(found) == 6
    zone = found[0]
    assert [(one["name"], one["unit"]) for one in zone["readings"][:2]] == [
        ("zone temperature", "C"),
        ("outdoor temperature", "C"),
    ]
    assert zone["readings"][0]["offset"] == 22.0
    assert zone["actions"]["count"] == 200
    assert zone["actions"]["values"][zone["actions"]["idle"]] == 0.0
    assert "from cooling" in zone["actions"]["meaning"]
    assert zone["step"] == {"seconds": 300.0, "episode_steps": 288}
    assert zone["safety"]["late_seconds"] == 600.0
    assert zone["safety"]["fallback"] == {"kind": "pi", "reading": 0, "setpoint": 22.0, "kp": 0.2, "ki": 0.05}
    assert zone["trained"]["seed"] == 2
    (evaluated,) = zone["evaluated"]
    scores = cached_evaluation(run, "nominal").scores[0].per_seed
    assert evaluated["worlds"][0]["score"] == scores[2]
    assert evaluated["worst"] == {"world": "nominal", "score": scores[2]}
    np.testing.assert_allclose(evaluated["worlds"][0]["seeds"]["mean"], np.mean(scores))
    assert evaluated["worlds"][0]["seeds"]["low"] < np.mean(scores) < evaluated["worlds"][0]["seeds"]["high"]


def test_bounds_that_the_simulator_leaves_are_none(tmp_path, monkeypatch, capsys):
    """And a reading that stands still in the simulator is not stale by its value."""
    run = finished_run(tmp_path / "run", CONFIGS["linear"])  # it shows a cue once, and the time
    said = drigm.core.types.Described(
        low=np.full((2, 2), 0.0, np.float32), high=np.array([[1.0, 0.5], [1.0, 1.0]], np.float32)
    )
    run = run._replace(env=run.env._replace(spec=run.env.spec._replace(described=said)))
    found = contracts(export(run, steps=100, quiet=True, safety={"stale_steps": 4}))
    bounds = [[(one["low"], one["high"]) for one in contract["readings"]] for contract in found]
    assert bounds == [[(0.0, 1.0), (0.0, None)], [(0.0, 1.0), (0.0, 1.0)]]
    assert "left: the environment itself leaves the bounds of reading 1" in capsys.readouterr().err
    assert [one["stale"] for one in found[0]["readings"]] == [False, True]


def test_what_cannot_be_exported_is_said(tmp_path):
    run = finished_run(tmp_path / "run", CONFIGS["linear"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for options, said in (
        ({"seed": 4}, "seed: 4"),
        ({"format": "pt"}, "npz, onnx"),
        ({"out": tmp_path / "full"}, "not empty"),
        ({"out": tmp_path / "full" / "file"}, "not empty"),
        ({"out": ".."}, "name a folder"),
        ({"steps": 0}, "above 0"),
        ({"safety": {"hold_steps": -1}}, "hold_steps"),
    ):
        with pytest.raises(UserError) as error:
            export(run, quiet=True, **options)
        assert_one_sentence(str(error.value))
        assert said in str(error.value)


def test_files_have_names_that_any_file_system_takes():
    assert file_names(["CORE_ZN", "a/b", "a b", "A-B", "..", "", "é" * 3, "config"]) == [
        "CORE_ZN",
        "a-b",
        "a-b-2",
        "A-B-3",
        "agent",
        "agent-2",
        "agent-3",
        "config-2",  # a folder with config.json is a run
    ]


class Device:
    """One agent in a process of its own, in a folder of its own."""

    def __init__(self, exported: Path, stem: str, folder: Path) -> None:
        folder.mkdir()
        for name in (f"{stem}.npz", f"{stem}.json", "drigm_runtime.py"):
            (folder / name).write_bytes((exported / name).read_bytes())
        bare = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [sys.executable, "-c", DEVICE, f"{stem}.json"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=folder, env=bare, stdin=pipe, stdout=pipe, text=True)

    def tell(self, observation, available=None):
        print(json.dumps([observation, available]), file=self.process.stdin, flush=True)

    def action(self):
        action, flags = json.loads(self.process.stdout.readline())
        assert flags == 0
        return action

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(timeout=30)


@pytest.mark.parametrize(
    ("name", "episodes"),
    [
        ("linear, shared", 12),
        pytest.param("ordered", 12, marks=pytest.mark.slow),
        pytest.param("velocity", 1, marks=pytest.mark.slow),
    ],
)
def test_processes_without_a_channel_play_the_evaluation(name, episodes, tmp_path):
    """Closed loop: every joint action and every reward is that of the evaluator's own episode."""
    run = finished_run(tmp_path / "run", CONFIGS[name])
    folder = export(run, steps=60, out=tmp_path / "out", with_runtime=True, quiet=True)
    agents = jax.tree.map(lambda x: x[0], run.weights().agents)
    stems, env = file_names(list(run.env.spec.agents)), run.env
    devices = [Device(folder, stem, tmp_path / f"device-{stem}") for stem in stems]
    try:
        for episode in range(episodes):
            world = env._replace(params=env.episode(env.params, jnp.int32(episode)))
            expected, actions = rollout.greedy_episode(env, agents, jax.random.key(episode), world.params)
            step = jax.jit(lambda key, state, action, over, world=world: step_or_reset(world, key, state, action, over))
            key_reset, key_steps = jax.random.split(jax.random.key(episode))
            state, seen = rollout.reset_all(world, key_reset, 1)
            for device in devices:
                device.tell(None)
            for t, key in enumerate(jax.random.split(key_steps, env.spec.episode_limit)):
                for device, row in zip(devices, np.asarray(seen.obs)[0], strict=True):
                    device.tell(row.tolist())
                joint = [device.action() for device in devices]
                assert joint == np.asarray(actions[t]).tolist(), (episode, t)
                state, seen = step(key, state, jnp.asarray([joint], jnp.int32), jnp.zeros(1, bool))
                np.testing.assert_allclose(seen.reward[0], expected.reward[t], rtol=1e-5)
    finally:
        assert [device.end() for device in devices] == [0] * len(devices)


MEASURED = """
import sys, time, json
sys.path.insert(0, ".")
import numpy as np
import drigm_runtime
agent = drigm_runtime.load_agent(sys.argv[1])
rows = (np.array([22, 15, 18, 0.5, 0.1]) * np.random.default_rng(0).uniform(0.9, 1.1, (500, 5))).astype(np.float32)
times = []
for row in rows:
    began = time.perf_counter()
    agent.act(row)
    assert not agent.flags
    times.append(time.perf_counter() - began)
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(json.dumps([sorted(times)[250], int(line.split()[1]) / 1024]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say how much memory is used")
def test_a_device_needs_little(tmp_path):
    """Under 1 ms a step on one core, and under 40 MB in all, with the width that training has by default."""
    run = finished_run(tmp_path / "run", CONFIGS["velocity"].replace(hidden=64))
    folder = export(run, steps=50, out=tmp_path / "out", with_runtime=True, quiet=True)
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    bare |= {"OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEASURED, "CORE_ZN.npz"]
    found = [
        json.loads(subprocess.run(command, cwd=folder, env=bare, check=True, capture_output=True, text=True).stdout)
        for _ in range(3)
    ]
    seconds, megabytes = (statistics.median(column) for column in zip(*found, strict=True))
    assert seconds < 1e-3
    assert megabytes < 40.0


def test_the_runtime_is_one_file_of_the_package_s_own_modules(tmp_path):
    text = runtime_source()
    assert "drigm." not in [line.split()[1][:6] for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert not [line for line in text.splitlines() if "from drigm." in line]
    names: dict = {"__name__": "drigm_runtime"}
    exec(compile(text, "drigm_runtime.py", "exec"), names)
    assert {"load_agent", "load_team", "Agent", "Team", "Watchdog", "Flag"} <= set(names)
