"""Runs on disk: the same seed again, killed and resumed, side by side, split over devices, and damaged."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SMALL, assert_close, assert_one_sentence, flags

from drigm.core.errors import UserError
from drigm.core.metrics import COLUMNS
from drigm.envs import make_env
from drigm.evaluation.evaluate import evaluate
from drigm.storage.checkpoint import drop, load_arrays, load_tree, previous, save_tree
from drigm.storage.run_directory import RunDirectory
from drigm.training import checkpointing
from drigm.training.programs import make_train
from drigm.training.runs import load_run, resume_run, train_run

CONFIG = SMALL.replace(env="probe:recall", uncertainty="tv", rho=0.3, seeds=2, first_seed=3)

# A training process that is killed while it writes its third checkpoint: half of the file is there, as a .part.
KILLED = """
import importlib, os, sys, time
from pathlib import Path
from drigm.cli.main import main

checkpointing = importlib.import_module("drigm.training.checkpointing")
checkpointing.CHECKPOINT_SECONDS, checkpointing.SAVING_SHARE = 0.0, float("inf")
replace, checkpoints = os.replace, []

def replace_but_not_the_third(source, target):
    if Path(target).name == "checkpoint.safetensors":
        checkpoints.append(target)
        if len(checkpoints) == 3:
            os.truncate(source, os.path.getsize(source) // 2)
            print("writing", flush=True)
            time.sleep(600)
    replace(source, target)

os.replace = replace_but_not_the_third
main(sys.argv[1:])
"""

ONE_DEVICE = """
import sys
import jax
from drigm.cli.main import main

jax.config.update("jax_num_cpu_devices", 1)
assert jax.local_device_count() == 1  # and from here on no more can be had
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def whole(folder):
    """An uninterrupted run."""
    return train_run(CONFIG, folder / "whole", quiet=True)


@pytest.fixture(scope="module")
def killed(folder):
    """The directory of the same run, killed in the middle of its third checkpoint."""
    path = folder / "killed"
    command = [sys.executable, "-c", KILLED, "train", *flags(CONFIG), "--out", str(path), "--quiet"]
    with open(folder / "killed.err", "w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        said = process.stdout.readline()  # until it is writing, or has died
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert said == "writing\n", (folder / "killed.err").read_text()
    assert process.returncode == -signal.SIGKILL
    return RunDirectory(path)


@pytest.fixture
def copy(killed, tmp_path):
    """A copy of the killed run's directory, for what changes it."""
    return RunDirectory(shutil.copytree(killed.path, tmp_path / "copy"))


def metrics_of(directory, seed):
    """The CSV's rows without the one column that depends on the clock."""
    with open(directory.metrics_file(seed), newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    return [{name: value for name, value in row.items() if name != "steps_per_s"} for row in rows]


def assert_same_run(run, other):
    for seed in run.seeds:
        weights, others = (r.directory.weights_file(seed).read_bytes() for r in (run, other))
        assert weights == others
        assert metrics_of(run.directory, seed) == metrics_of(other.directory, seed)


def test_a_run_leaves_what_it_promises(whole):
    files = {str(file.relative_to(whole.path)) for file in whole.path.rglob("*") if file.is_file()}
    of_seeds = {file for k in (3, 4) for file in (f"metrics/seed_{k}.csv", f"weights/seed_{k}.safetensors")}
    assert files == {"config.json", "system.json", "scales.json", "checksums.json", *of_seeds}
    assert json.loads((whole.path / "config.json").read_text()) == vars(CONFIG)
    assert {"versions", "python", "platform", "devices", "commit", "started"} == set(
        json.loads((whole.path / "system.json").read_text())
    )
    rows = metrics_of(whole.directory, 3)
    assert [int(row["step"]) for row in rows] == list(range(4, 241, 4))
    assert any(float(row["loss"]) > 0.0 for row in rows)
    assert sum(float(row["episodes"]) for row in rows) == 4 * (60 // 5)  # an episode of 4 steps and its reset: 5 ticks
    assert metrics_of(whole.directory, 3) != metrics_of(whole.directory, 4)


def test_the_same_seed_gives_the_same_run(whole, folder):
    assert_same_run(whole, train_run(CONFIG, folder / "again", quiet=True))


def test_a_kill_while_writing_leaves_the_old_checkpoint(killed):
    assert load_arrays(killed.checkpoint_file)[1]["tick"] == "2"
    assert load_arrays(previous(killed.checkpoint_file))[1]["tick"] == "2"  # the same file, about to be replaced
    with pytest.raises(UserError):
        load_arrays(killed.checkpoint_file.with_name("checkpoint.safetensors.part"))[1]
    assert [len(metrics_of(killed, seed)) for seed in (3, 4)] == [3, 3]  # one row too many


def test_killed_and_resumed_is_bitwise_the_uninterrupted_run(whole, copy):
    run = resume_run(copy.path, quiet=True)
    assert_same_run(whole, run)
    assert not copy.checkpoint_file.exists()
    times = [copy.weights_file(seed).stat().st_mtime_ns for seed in run.seeds]
    again = resume_run(copy.path, quiet=True)  # a finished run is returned as it is
    assert again.config == CONFIG
    assert times == [copy.weights_file(seed).stat().st_mtime_ns for seed in run.seeds]


@pytest.mark.slow
def test_killed_later_in_the_run_and_resumed(whole, copy, monkeypatch):
    """From a checkpoint after learning has begun, taken in this process; and killed once more before the next."""
    monkeypatch.setattr(checkpointing, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(checkpointing, "SAVING_SHARE", math.inf)
    saved, save = [], checkpointing.save

    def save_and_stop(session, standing):
        save(session, standing)
        saved.append(standing.tick)
        if saved[-1] in (40, 41):
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpointing, "save", save_and_stop)
    for tick in (40, 41):
        with pytest.raises(KeyboardInterrupt):
            resume_run(copy.path, quiet=True)
        assert load_arrays(copy.checkpoint_file)[1]["tick"] == str(tick)
        assert load_arrays(previous(copy.checkpoint_file))[1]["tick"] == str(tick - 1)
    assert_same_run(whole, resume_run(copy.path, quiet=True))
    assert saved == list(range(3, 60))


@pytest.mark.slow
def test_killed_before_the_first_checkpoint(whole, copy):
    drop(copy.checkpoint_file)
    assert_same_run(whole, resume_run(copy.path, quiet=True))


def test_a_half_written_row_of_metrics_is_left_out(copy):
    with open(copy.metrics_file(3), "a") as file:
        file.write("16,nan,0.2")
    assert [row["step"] for row in copy.read_metrics(3)] == [4, 8, 12]


EXPLORING = CONFIG.replace(epsilon_start=1.0, epsilon_end=1.0, seeds=1, fail_value=-1.0)
# Actions are all random, so that the data is the same whatever the weights' last bits are. Those may differ: a batched
# matmul, a vmap and another number of devices each sum in an order of their own.
ROUNDING = {"rtol": 1e-3, "atol": 1e-4}


@pytest.mark.slow
@pytest.mark.parametrize("in_turn", [True, False])
def test_seeds_and_radii_side_by_side_are_the_runs_one_by_one(in_turn):
    """Three runs fill two devices unevenly; in turn, as on CPUs, or vmapped, as on a GPU."""
    env = make_env(EXPLORING.env)

    def learnt(programs, seeds, rho):
        state = programs.place(programs.init(jnp.array(seeds, jnp.int32), jnp.array(rho, jnp.float32)))
        state = programs.settle(programs.chunk(state, jnp.int32(0), jnp.int32(EXPLORING.ticks))[0])
        assert state.learner.updates.shape[1] == len(seeds)
        assert np.all(np.asarray(state.learner.updates) > 50)
        return state.learner._replace(opt_state=None, dual=state.learner.dual._replace(opt_state=None)), state.ring

    runs = [(3, 0.0), (3, 0.4), (5, 0.4)]
    side_by_side = learnt(make_train(EXPLORING, env, runs=3, in_turn=in_turn), *zip(*runs, strict=True))
    one_by_one = make_train(EXPLORING, env)
    for k, (seed, rho) in enumerate(runs):
        alone = learnt(one_by_one, [seed], [rho])
        beside = jax.tree.map(lambda x, k=k: x[:, [k]], side_by_side)
        assert_close(beside, alone, **ROUNDING)
    radius, seed = (
        max(np.max(np.abs(x[:, a] - x[:, b])) for x in jax.tree.leaves(side_by_side[0].params))
        for a, b in ((0, 1), (1, 2))
    )
    assert min(radius, seed) > 0.02  # both reach the learner


@pytest.mark.slow
def test_shards_hold_the_same_weights_and_their_own_data():
    programs = make_train(EXPLORING, make_env(EXPLORING.env))
    state = programs.init(jnp.array([3], jnp.int32), jnp.array([0.4], jnp.float32))
    state, _ = programs.chunk(state, jnp.int32(0), jnp.int32(EXPLORING.ticks))
    for name in ("params", "target", "average", "dual", "opt_state"):
        for leaf in jax.tree.leaves(getattr(state.learner, name)):
            np.testing.assert_array_equal(leaf[0], leaf[1], err_msg=name)
    assert np.any(np.asarray(state.ring.last_action)[0] != np.asarray(state.ring.last_action)[1])


@pytest.mark.slow
def test_one_device_and_two_devices_agree(folder):
    config = EXPLORING.replace(shards=2)
    two = train_run(config, folder / "two-devices", quiet=True)
    path = folder / "one-device"
    command = [sys.executable, "-c", ONE_DEVICE, "train", *flags(config), "--out", str(path), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert_close(two.weights(), load_run(path).weights(), **ROUNDING)
    for row, other in zip(two.directory.read_metrics(3), RunDirectory(path).read_metrics(3), strict=True):
        assert [row[name] for name in ("step", "return", "episodes")] == pytest.approx(
            [other[name] for name in ("step", "return", "episodes")], nan_ok=True
        )
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-2, nan_ok=True)


# What is wrong with a directory, and how it is said.


def refused(function, *arguments):
    with pytest.raises(UserError) as error:
        function(*arguments)
    assert_one_sentence(str(error.value))
    return str(error.value)


def test_a_directory_that_is_no_run(tmp_path):
    for function in (load_run, resume_run):
        assert "is not a run directory" in refused(function, tmp_path)
        assert "is not a run directory" in refused(function, tmp_path / "nothing")


def test_a_taken_directory(killed, tmp_path):
    assert "--resume" in refused(train_run, CONFIG, killed.path)
    (tmp_path / "file").write_text("mine")
    refused(train_run, CONFIG, tmp_path / "file")
    refused(train_run, CONFIG, tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "mine"


def test_an_unfinished_run_cannot_be_scored(killed):
    message = refused(evaluate, load_run(killed.path), "nominal")
    assert "unfinished" in message
    assert f"--resume {killed.path}" in message


def test_a_run_without_a_seeds_weights(whole, tmp_path):
    path = shutil.copytree(whole.path, tmp_path / "run")
    (path / "weights" / "seed_4.safetensors").unlink()
    assert "no weights of seed 4" in refused(evaluate, load_run(path), "nominal")


def cut(file):
    os.truncate(file, file.stat().st_size // 2)


def scribble(file):
    file.write_bytes(bytes(range(256)) * 40)


def empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, scribble, empty])
def test_damaged_weights(whole, tmp_path, damage):
    path = shutil.copytree(whole.path, tmp_path / "run")
    damage(path / "weights" / "seed_3.safetensors")
    assert "seed_3.safetensors" in refused(evaluate, load_run(path), "nominal")


def test_weights_of_another_configuration(whole, tmp_path):
    path = shutil.copytree(whole.path, tmp_path / "run")
    (path / "checksums.json").unlink()  # or config.json would be refused as it is
    settings = vars(CONFIG)
    for change in ({"hidden": 4}, {"factorization": "vdn"}, {"uncertainty": "nominal", "rho": 0.0}):
        (path / "config.json").write_text(json.dumps(settings | change))
        assert "configuration" in refused(evaluate, load_run(path), "nominal")


@pytest.mark.parametrize("damage", [cut, scribble, empty])
def test_a_damaged_checkpoint(copy, damage):
    previous(copy.checkpoint_file).unlink()
    damage(copy.checkpoint_file)
    before = [copy.metrics_file(seed).read_bytes() for seed in (3, 4)]
    assert "checkpoint.safetensors" in refused(resume_run, copy.path)
    assert before == [copy.metrics_file(seed).read_bytes() for seed in (3, 4)]  # nothing else was touched


@pytest.mark.parametrize("tick", ["", "-1", "61", "soon", "1.5"])
def test_a_checkpoint_that_does_not_say_when(copy, tick):
    previous(copy.checkpoint_file).unlink()
    metadata = load_arrays(copy.checkpoint_file)[1]
    save_tree(copy.checkpoint_file, load_checkpoint(copy), metadata | {"tick": tick})
    assert "tick" in refused(resume_run, copy.path)


def load_checkpoint(directory):
    env = make_env(CONFIG.env)
    like = jax.eval_shape(make_train(CONFIG, env).init, jnp.zeros(2, jnp.int32), jnp.zeros(2))
    return load_tree(directory.checkpoint_file, like)


NO_CONFIGS = [
    "",
    "{",
    "[]",
    "3",
    '"env"',
    "null",
    '{"env": 5}',
    '{"hidden": "8"}',
    '{"hidden": 0}',
    '{"colour": 1}',
    "\xff",
]


@pytest.mark.parametrize("text", NO_CONFIGS)
def test_a_damaged_config(copy, text):
    copy.config_file.write_bytes(text.encode("latin-1"))
    for function in (load_run, resume_run):
        refused(function, Path(copy.path))
