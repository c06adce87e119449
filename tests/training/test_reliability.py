"""Nothing is lost and nothing damaged is used: signals, locks, diverging seeds, full disks, files that were changed."""

import contextlib
import importlib
import importlib.util
import json
import math
import os
import shutil
import signal
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SMALL, assert_one_sentence

from drigm.cli import list as list_command
from drigm.cli import main as cli
from drigm.core.config import RUNNING, TrainConfig, essential
from drigm.core.errors import UserError
from drigm.core.scales import scales_of
from drigm.envs import make_env
from drigm.evaluation.cache import cached_evaluation, stored_evaluation
from drigm.evaluation.scores import Evaluation, shift_score
from drigm.report.sections.overview import ran_on
from drigm.runtime import interrupts
from drigm.runtime.files import FileError, append_text, hold, write_text
from drigm.storage.checkpoint import load_arrays, previous, save_tree
from drigm.storage.run_directory import RunDirectory
from drigm.training import checkpointing
from drigm.training.runs import load_run, resume_run, train_run

training = importlib.import_module("drigm.training.loop")  # as an attribute of the package, `train` is the function
CONFIG = SMALL.replace(env="probe:recall", uncertainty="tv", rho=0.3, seeds=2, first_seed=3)
LONG = CONFIG.replace(steps=1200)  # rows of three ticks


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train_run(LONG, tmp_path_factory.mktemp("whole") / "run", quiet=True)


@pytest.fixture
def finished(whole, tmp_path):
    """A copy of the finished run."""
    return RunDirectory(shutil.copytree(whole.path, tmp_path / "finished"))


@pytest.fixture(autouse=True)
def listening():
    """A shell starts what runs in the background deaf to Ctrl-C, and drigm respects that; these tests must hear it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def stopped_at(path, tick, monkeypatch, signum=signal.SIGINT):
    """The directory of a run that was sent a signal while the chunk that ends with `tick` was computed."""
    with monkeypatch.context() as patch:
        advance = training._Training.advance

        def one_tick(self):
            if self.tick == tick - 1:
                os.kill(os.getpid(), signum)
            return advance(self)

        patch.setattr(training, "CHUNK_SECONDS", 0.0)  # chunks of one tick
        patch.setattr(checkpointing, "CHECKPOINT_SECONDS", 1e9)
        patch.setattr(checkpointing, "FIRST_SECONDS", 1e9)  # on a slow machine a second passes before the tick
        patch.setattr(training._Training, "advance", one_tick)
        with pytest.raises(KeyboardInterrupt, match=f"continue with drigm train --resume {path}"):
            train_run(LONG, path, quiet=True)
    return RunDirectory(path)


def metrics_of(directory, seed):
    rows = directory.read_metrics(seed)
    return [repr({name: x for name, x in row.items() if name != "steps_per_s"}) for row in rows]


def assert_same(directory, other):
    for seed in (3, 4):
        assert directory.weights_file(seed).read_bytes() == other.weights_file(seed).read_bytes()
        assert metrics_of(directory, seed) == metrics_of(other, seed)
    assert not directory.checkpoint_file.exists()
    assert not previous(directory.checkpoint_file).exists()


def refused(function, *arguments, **named):
    with pytest.raises(UserError) as error:
        function(*arguments, **named)
    assert_one_sentence(str(error.value))
    return str(error.value)


# Signals


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "tick"), [(signal.SIGINT, 100), (signal.SIGTERM, 101)])
def test_a_signal_saves_and_the_rest_is_bitwise_the_same(whole, tmp_path, monkeypatch, signum, tick):
    """Within a row of metrics (of ticks 99, 100 and 101) as well as at its end, in chunks of other lengths."""
    directory = stopped_at(tmp_path / "run", tick, monkeypatch, signum)
    assert load_arrays(directory.checkpoint_file)[1]["tick"] == str(tick)
    assert_same(resume_run(directory.path, quiet=True).directory, whole.directory)


def test_a_second_signal_leaves_at_once(monkeypatch):
    monkeypatch.setattr(interrupts, "AGAIN_SECONDS", -1.0)
    with interrupts.deferred() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signum == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_no_interruption_is_without_words(monkeypatch, capsys):
    def interrupted(options):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(list_command, "_list", interrupted)
    assert cli.main(["list"]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == f"drigm: stopped; {interrupts.SAME_COMMAND}\n"


def test_chunks_end_with_rows_and_before_learning():
    chunking = training.Chunking(LONG)
    tick, ends = 0, []
    while tick < LONG.ticks:
        ticks = chunking.ticks(tick)
        chunking.note(ticks, 1e-3)
        tick += ticks
        ends.append(tick)
    assert set(range(3, 301, 3)) <= set(ends)
    assert LONG.first_update - 1 in ends
    chunking.size = 50
    chunking.note(50, 10.0)
    assert chunking.size == 5


# Damage


def test_a_damaged_checkpoint_falls_back_with_a_word(whole, tmp_path, monkeypatch, capsys):
    directory = stopped_at(tmp_path / "run", 100, monkeypatch)
    shutil.copy(directory.checkpoint_file, previous(directory.checkpoint_file))
    content = bytearray(directory.checkpoint_file.read_bytes())
    content[-5] ^= 4
    directory.checkpoint_file.write_bytes(content)
    assert_same(resume_run(directory.path, quiet=True).directory, whole.directory)
    assert "checksum" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["config", "tick", "not_finite", "members"])
def test_damaged_metadata_falls_back_too(tmp_path, monkeypatch, name):
    """It says nothing, not even whose the checkpoint is, before the checksum has said that it is whole."""
    directory = stopped_at(tmp_path / "run", 100, monkeypatch)
    shutil.copy(directory.checkpoint_file, previous(directory.checkpoint_file))
    file = directory.checkpoint_file
    arrays, metadata = load_arrays(file)
    if name == "tick":  # whole, but nothing that drigm wrote
        save_tree(file, arrays, metadata | {"tick": "9" * 5000})
    else:
        save_tree(file, arrays, metadata | {name: "9" * 5000})
        file.write_bytes(file.read_bytes().replace(b"9" * 5000, b"8" * 5000))
    directory.weights_file(3).parent.mkdir(exist_ok=True)
    session = training.Session([training.Member(LONG, directory)], make_env(LONG.env), None, file, "")
    found = training.restore(session._replace(env=load_run(directory.path).env), training_state(LONG))
    assert found.tick == 100


def test_rows_of_metrics_come_with_the_checkpoint(whole, tmp_path, monkeypatch, capsys):
    directory = stopped_at(tmp_path / "run", 100, monkeypatch)
    lines = directory.metrics_file(3).read_text().splitlines(keepends=True)
    directory.metrics_file(3).write_text("".join([*lines[:5], *lines[4:]]))
    directory.metrics_file(4).unlink()
    assert_same(resume_run(directory.path, quiet=True).directory, whole.directory)
    said = capsys.readouterr().err.splitlines()
    assert [f"seed_{seed}.csv: rows were missing, doubled" in line for seed, line in zip((3, 4), said, strict=True)]


def test_a_checkpoint_of_another_configuration_or_full_of_nan(tmp_path, monkeypatch):
    directory = stopped_at(tmp_path / "run", 100, monkeypatch)
    settings = json.loads(directory.config_file.read_text())
    write_text(directory.config_file, json.dumps(settings | {"gamma": 0.5}))
    assert "another configuration" in refused(resume_run, directory.path, quiet=True)
    write_text(directory.config_file, json.dumps(settings))
    arrays, metadata = load_arrays(directory.checkpoint_file)
    name = next(name for name in arrays if name.startswith("learner.params.agents"))
    arrays[name] = np.full_like(arrays[name], math.nan)
    save_tree(directory.checkpoint_file, arrays, metadata)
    assert "not finite" in refused(resume_run, directory.path, quiet=True)


def test_weights_full_of_nan_are_no_finished_run(finished, whole, capsys):
    arrays, metadata = load_arrays(finished.weights_file(4))
    name = next(iter(arrays))
    save_tree(finished.weights_file(4), arrays | {name: np.full_like(arrays[name], math.nan)}, metadata)
    assert "not finite" in refused(load_run(finished.path).weights)
    assert not finished.is_finished(LONG)
    shutil.copy(finished.weights_file(3), finished.weights_file(4))
    assert "not of seed 4" in refused(load_run(finished.path).weights)
    assert_same(resume_run(finished.path, quiet=True).directory, whole.directory)
    assert "trained again" in capsys.readouterr().err


def test_a_finished_runs_files_may_not_change(finished):
    rows = finished.metrics_file(3).read_text()
    finished.metrics_file(3).write_text(rows.replace("4", "5", 1))
    assert "seed_3.csv" in refused(finished.read_metrics, 3)
    write_text(finished.config_file, finished.config_file.read_text().replace("0.3", "0.2"))
    assert "config.json" in refused(load_run, finished.path)
    finished.checksums_file.unlink()  # the change is meant, or the run is older than checksums
    assert load_run(finished.path).config.rho == 0.2


def test_scales_may_not_be_lost(finished, tmp_path, monkeypatch):
    finished.scales_file.unlink()
    assert "scales.json" in refused(load_run, finished.path)
    directory = stopped_at(tmp_path / "run", 100, monkeypatch)
    scales = scales_of(make_env(LONG.env).spec)
    directory.save_scales(scales._replace(reward_scale=2.0 * scales.reward_scale))  # as where they are measured anew
    assert "another configuration" in refused(resume_run, directory.path, quiet=True)


def test_weights_without_a_checksum_still_load(finished):
    """Those of drigm 0.1: the library's own file, with nothing but the format."""
    from safetensors.numpy import save_file

    before = load_run(finished.path).weights()
    for seed in (3, 4):
        arrays, _ = load_arrays(finished.weights_file(seed))
        save_file(arrays, finished.weights_file(seed), {"format": "drigm-weights-1"})
    for leaf, other in zip(jax.tree.leaves(before), jax.tree.leaves(load_run(finished.path).weights()), strict=True):
        np.testing.assert_array_equal(leaf, other)


def test_scores_belong_to_weights(finished, monkeypatch):
    run = load_run(finished.path)
    evaluation = cached_evaluation(run, "nominal", quiet=True)
    assert stored_evaluation(finished, LONG, "nominal") == evaluation
    file = finished.path / "scores" / "nominal.json"
    text = file.read_text()
    file.write_text(text.replace("0.", "1.", 1))
    assert stored_evaluation(finished, LONG, "nominal") is None
    file.write_text(text)
    for first, second in ((3, 4), (4, 3)):
        arrays, _ = load_arrays(whole_file := finished.weights_file(first))
        save_tree(whole_file, {name: x + 1 for name, x in arrays.items()}, {"seed": str(first), "other": str(second)})
    assert stored_evaluation(finished, LONG, "nominal") is None


def test_json_has_no_nan():
    shown = Evaluation("nominal", [shift_score("nominal", np.array([math.nan, 1.0]))]).to_json()
    assert json.loads(shown, parse_constant=pytest.fail)[0]["mean"] is None


@pytest.mark.slow
def test_damaged_files_never_give_a_traceback_or_a_silent_number():
    """`tools/damage.py` does this to thousands of files; docs/reliability.md has its figures."""
    spec = importlib.util.spec_from_file_location("damage", Path(__file__).parents[2] / "tools" / "damage.py")
    damage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(damage)
    counts = damage.run(60, seed=3)
    assert not any(counts[name] for name in damage.WRONG)
    assert counts["refused"] > 10


# One run, one process


def test_a_taken_directory_is_refused_before_anything_is_measured(finished, tmp_path, monkeypatch, capsys):
    module = importlib.import_module("drigm.training.runs")
    with monkeypatch.context() as patch:
        patch.setattr(module, "resolve", None)
        refused(train_run, LONG, finished.path)

    def measure(env, gamma, most, quiet):
        assert (most, quiet) == (LONG.num_envs, False)
        raise UserError("measured: that is enough.")

    monkeypatch.setattr(module, "calibrated", measure)
    assert refused(train_run, LONG, tmp_path / "new") == "measured: that is enough."
    assert not (tmp_path / "new").exists()


def test_a_run_is_trained_by_one_process(finished, tmp_path):
    finished.weights_file(3).unlink()
    new = RunDirectory(tmp_path / "new")
    with finished.locked(), new.locked():
        assert "being trained by another process" in refused(resume_run, finished.path, quiet=True)
        assert "being trained by another process" in refused(train_run, LONG, new.path, quiet=True)
    assert not (finished.path / ".lock").exists()


def test_a_run_that_another_process_has_just_finished_is_not_trained_again(finished, monkeypatch):
    """It was unfinished before the lock was there to be taken."""
    weights, locked = finished.weights_file(3).read_bytes(), RunDirectory.locked
    finished.weights_file(3).unlink()

    @contextlib.contextmanager
    def after_the_other(directory):
        directory.weights_file(3).write_bytes(weights)
        shutil.copy(directory.weights_file(3), directory.checkpoint_file)  # it was killed before it removed its own
        with locked(directory):
            yield

    monkeypatch.setattr(RunDirectory, "locked", after_the_other)
    monkeypatch.setattr(importlib.import_module("drigm.training.runs"), "train_session", None)
    resume_run(finished.path, quiet=True)
    assert not finished.has_leftovers()
    shutil.copy(finished.weights_file(3), previous(finished.checkpoint_file))
    resume_run(finished.path, quiet=True)  # it was finished from the beginning
    assert not finished.has_leftovers()


@pytest.mark.slow
def test_a_run_goes_on_with_another_time_limit(whole, tmp_path, monkeypatch, capsys):
    """As does any setting that says how, not what, is computed."""
    directory = stopped_at(tmp_path / "run", 100, monkeypatch)
    assert cli.main(["train", "--resume", str(directory.path), "--steps", "5"]) == 2
    assert "leave out --steps" in capsys.readouterr().err
    assert cli.main(["train", "--resume", str(directory.path), "--env-timeout", "0"]) == 2
    assert "env_timeout: 0" in capsys.readouterr().err
    changes = ["--env-timeout", "7", "--env-workers", "1", "--quiet"]
    assert cli.main(["train", "--resume", str(directory.path), *changes]) == 0
    assert directory.load_config() == LONG.replace(env_timeout=7.0, env_workers=1)
    assert_same(directory, whole.directory)


@pytest.mark.slow
def test_a_run_that_its_time_limit_has_stopped_goes_on_with_a_longer_one(tmp_path, monkeypatch, capsys):
    """A step of 1.5 s is named with the setting that allows it; with that setting the run comes to its end."""
    runs = importlib.import_module("drigm.training.runs")  # the random play before a training is not what naps
    monkeypatch.setattr(runs, "calibrated", lambda env, gamma, **_: env)
    env = f"pettingzoo:{Path(__file__).parents[1] / 'odd_envs.py'}:Naps"
    small = "--factorization vdn --steps 400 --hidden 8 --num-envs 4 --batch 4 --window 3 --learning-starts 40 --quiet"
    small += " --replay-size 400 --shards 1 --env-workers 1 --env-timeout 0.7"
    path = tmp_path / "run"
    assert cli.main(["train", "--env", env, *small.split(), "--out", str(path)]) == 2
    told = capsys.readouterr().err
    assert "it takes more than 0.7 s for a step" in told
    assert "env_timeout" in told
    assert not RunDirectory(path).is_finished(RunDirectory(path).load_config())
    assert cli.main(["train", "--resume", str(path), "--env-timeout", "30", "--quiet"]) == 0
    directory = RunDirectory(path)
    assert directory.is_finished(directory.load_config())


def test_a_checkpoint_does_not_depend_on_settings_that_did_not_exist():
    assert essential(TrainConfig()) == {}
    assert essential(TrainConfig().replace(rho=0.1, **dict.fromkeys(RUNNING, 3))) == {"rho": 0.1}


def test_a_lock_waits_says_by_whom_it_is_held_and_goes(tmp_path):
    file, entered = tmp_path / "lock", []

    def wait():
        with hold(file, wait=True):
            entered.append(file.read_text())

    with hold(file, "lock: is held."):
        assert file.read_text() == f"{os.getpid()}\n"
        with pytest.raises(UserError, match=r"lock: is held\."), hold(file, "lock: is held."):
            pass
        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(0.2)
        assert not entered
    waiting.join(10.0)
    assert entered == [f"{os.getpid()}\n"]
    assert not file.exists()
    (tmp_path / "link").symlink_to(tmp_path / "other")
    with pytest.raises(UserError, match="link: cannot be written"), hold(tmp_path / "link"):
        pass
    assert not (tmp_path / "other").exists()


def test_a_run_killed_before_its_config_stood_begins_anew(tmp_path):
    for folder in ("metrics", "weights"):
        (tmp_path / "run" / folder).mkdir(parents=True)
    (tmp_path / "run" / "config.json.part").write_text("{")
    for name in (".lock", "system.json", "scales.json"):  # which are written before and after the config
        (tmp_path / "run" / name).touch()
    RunDirectory(tmp_path / "run").create(LONG)
    assert not (tmp_path / "run" / "scales.json").exists()
    assert f"continue it with --resume {tmp_path}/run" in refused(RunDirectory(tmp_path / "run").create, LONG)
    (tmp_path / "mine.txt").touch()
    assert "--resume" not in refused(RunDirectory(tmp_path).refuse_taken)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.slow
def test_what_a_kill_has_left_is_removed(whole, tmp_path, monkeypatch):
    directory = stopped_at(tmp_path / "run", 100, monkeypatch)
    for name in ("checkpoint.safetensors.part", "weights/seed_3.safetensors.part", "config.json.part"):
        (directory.path / name).write_text("half")
    assert_same(resume_run(directory.path, quiet=True).directory, whole.directory)
    assert not list(tmp_path.rglob("*.part"))


# Divergence


def test_a_seed_that_diverges_stops_alone(whole, tmp_path, monkeypatch):
    start = training._start

    def poisoned(session):
        state = start(session)
        bad = jax.tree.map(lambda x: x.at[:, 1].set(jnp.nan), state.learner.params)
        return state._replace(learner=state.learner._replace(params=bad))

    monkeypatch.setattr(training, "_start", poisoned)
    path = tmp_path / "run"
    message = refused(train_run, LONG, path, quiet=True)
    assert message.startswith("learning_rate: 0.001 is not allowed; the loss of seed 4 became infinite by step 24")
    assert message.endswith("the other 1 have finished.")
    directory = RunDirectory(path)
    assert directory.weights_file(3).read_bytes() == whole.directory.weights_file(3).read_bytes()
    assert not directory.weights_file(4).exists()
    assert directory.read_metrics(4)[-1]["step"] == 24
    assert len(directory.read_metrics(3)) == 100
    monkeypatch.setattr(training, "_start", lambda session: pytest.fail("tried again"))
    assert refused(resume_run, path, quiet=True) == message
    assert "seed 4" in refused(load_run(path).weights)


@pytest.mark.parametrize("step", ["1e999", "9" * 5000, '"many"', "null"])
def test_damaged_records_of_divergence(finished, step):
    finished.diverged_file.write_text(f'{{"3": {{"step": {step}, "why": "so"}}}}')
    assert str(finished.diverged_file) in refused(finished.diverged)


@pytest.mark.parametrize("facts", ['{"versions": 3}', '{"devices": 5, "python": []}', "[]", '{"devices": [[]]}', "{"])
def test_facts_of_another_kind_are_left_out(finished, whole, facts):
    finished.checksums_file.unlink()
    finished.system_file.write_text(facts)
    assert ran_on(whole._replace(directory=finished)) == ("1 × []" if "[[" in facts else "")


def test_the_environment_is_blamed_for_what_it_returned(whole):
    ring = jax.tree.map(np.asarray, training_state(LONG).ring)
    session = training.Session([training.Member(LONG, whole.directory)], whole.env, None, Path(), "")
    mine = jax.tree.map(lambda x: np.array(x[:, 0]), ring)
    assert training._blamed(session, mine).startswith("learning_rate: ")
    mine.reward[0, 2, 1] = np.inf
    assert training._blamed(session, mine).startswith("env: 'probe:recall' is not allowed; it returned inf as a reward")
    mine.reward[0, 2, 1] = 0.0
    mine.obs[0, 2, 1, 1] = np.nan
    name = whole.env.spec.agents[1]
    assert f"returned nan as an observation of agent {name!r}" in training._blamed(session, mine)


def training_state(config):
    from drigm.training.runs import programs_of
    from drigm.training.settings import resolve

    return programs_of(*resolve(config)).init(*training.axes([config]))


# Files that cannot be written


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
def test_a_full_disk_is_a_sentence_and_harms_nothing(tmp_path, monkeypatch):
    full = tmp_path / "full.csv"
    full.symlink_to("/dev/full")
    assert "No space left" in refused(append_text, full, "row\n")
    (tmp_path / "old.json").write_text("old")
    (tmp_path / "old.json.part").symlink_to("/dev/full")
    assert "No space left" in refused(write_text, tmp_path / "old.json", "new")
    (tmp_path / "old.safetensors.part").symlink_to("/dev/full")
    assert "No space left" in refused(save_tree, tmp_path / "old.safetensors", {"x": np.zeros(3)})
    assert (tmp_path / "old.json").read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["full.csv", "old.json"]


@pytest.mark.slow
def test_training_on_a_full_disk_says_how_to_continue(whole, tmp_path, monkeypatch):
    def full(path, text):
        raise FileError(f"{path}: cannot be written (No space left on device).")

    with monkeypatch.context() as patch:
        patch.setattr(importlib.import_module("drigm.storage.run_directory"), "append_text", full)
        message = refused(train_run, LONG, tmp_path / "run", quiet=True)
    assert "No space left" in message
    assert_same(resume_run(tmp_path / "run", quiet=True).directory, whole.directory)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(24, "Too many open files", "data"), "data: Too many open files."),
        (PermissionError(13, "Permission denied"), "system: Permission denied."),
        (MemoryError(), cli.TOO_LARGE),
    ],
)
def test_what_the_system_refuses_is_one_sentence(error, told, monkeypatch, capsys):
    def fail(options):
        raise error

    monkeypatch.setattr(list_command, "_list", fail)
    assert cli.main(["list"]) == 2
    assert capsys.readouterr().err == f"drigm: {told}\n"
