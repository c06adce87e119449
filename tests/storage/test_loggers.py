"""What TensorBoard and Weights & Biases read back is what the CSV holds, also across a kill and a resume."""

import importlib
import json
import math
import struct

import pytest
from small import SMALL, assert_one_sentence

from drigm.core.errors import UserError
from drigm.core.metrics import COLUMNS
from drigm.storage import loggers
from drigm.storage.loggers import LOGGERS, Log, Logger, Slot, open_logs, parse_log
from drigm.storage.run_directory import RunDirectory
from drigm.training import checkpointing
from drigm.training.runs import resume_run, train_run

CONFIG = SMALL.replace(env="probe:recall", seeds=2, first_seed=3, shards=1)
BOTH = ("tensorboard", "wandb")


@pytest.fixture(autouse=True)
def nobody_at_home(monkeypatch, tmp_path):
    """W&B finds neither the developer's settings nor a login, and keeps its caches in the test's folder."""
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


def tensorboard_of(directory, seed):
    """Metric -> {step: value}, as TensorBoard itself reads the events; it drops those that a restart made invalid."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory.path / "tensorboard" / f"seed_{seed}"))
    events.Reload()
    scalars = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    for tag, found in scalars.items():
        assert len({event.step for event in found}) == len(found), f"{tag} has doubled steps"
    return {tag: {event.step: event.value for event in found} for tag, found in scalars.items()}


def wandb_records(file):
    """The records of a .wandb file: LevelDB's log format, blocks of 32 KiB with records cut at their ends."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if (left := 32_768 - at % 32_768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(whole)
            whole = b""


def wandb_of(directory, seed):
    """The run's ids and its history [(step, metrics)], over all offline legs in the order in which they are synced."""
    ids, history = set(), []
    known = json.loads((directory.path / "wandb" / f"seed_{seed}.json").read_text())
    for file in sorted(directory.path.glob(f"wandb/offline-run-*/run-{known['id']}.wandb")):
        for record in wandb_records(file):
            if record.HasField("run"):
                ids.add(record.run.run_id)
            if record.HasField("history"):
                items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
                history.append((record.history.step.num, items))
    return ids, history


def assert_logged(directory, seed):
    """Both logs hold exactly the CSV's rows."""
    rows = directory.read_metrics(seed)
    for name in COLUMNS[1:]:
        values = {int(row["step"]): row[name] for row in rows if math.isfinite(row[name])}
        assert tensorboard_of(directory, seed).get(name, {}) == pytest.approx(values, rel=1e-5)
    ids, history = wandb_of(directory, seed)
    assert len(ids) == 1
    assert [step for step, _ in history] == [int(row["step"]) for row in rows]
    for (_, logged), row in zip(history, rows, strict=True):
        # Not the rate: the steps after a checkpoint are computed again at another one, and W&B keeps the first.
        values = {name: x for name, x in row.items() if name not in ("step", "steps_per_s") and math.isfinite(x)}
        assert {name: logged[name] for name in values} == pytest.approx(values, rel=1e-5)
        assert set(COLUMNS) & set(logged) == {*values, "steps_per_s"}


def interrupt_at(monkeypatch, count):
    """Training writes a checkpoint after every chunk until the `count`-th, and is interrupted three chunks later."""
    training, chunks = importlib.import_module("drigm.training.loop")._Training, []
    refuse = training.note_divergence

    def stop(*arguments):
        refuse(*arguments)
        chunks.append(1)
        checkpointing.CHECKPOINT_SECONDS = 0.0 if len(chunks) < count else 1e9
        if len(chunks) == count + 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpointing, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(checkpointing, "SAVING_SHARE", math.inf)
    monkeypatch.setattr(training, "note_divergence", stop)
    return refuse


@pytest.mark.slow
def test_both_logs_hold_the_csv_across_a_resume(monkeypatch, tmp_path):
    training = importlib.import_module("drigm.training.loop")._Training
    refuse = interrupt_at(monkeypatch, 20)
    with pytest.raises(KeyboardInterrupt):
        train_run(CONFIG, tmp_path / "run", quiet=True, log=BOTH)
    directory = RunDirectory(tmp_path / "run")
    assert len(directory.read_metrics(3)) == 23
    assert_logged(directory, 4)
    monkeypatch.setattr(training, "note_divergence", refuse)
    run = resume_run(directory.path, quiet=True, log="wandb, tensorboard")
    assert len(directory.read_metrics(3)) == 60
    for seed in run.seeds:
        assert_logged(directory, seed)
    ids = {frozenset(wandb_of(directory, seed)[0]) for seed in run.seeds}
    assert len(ids) == 2
    assert len(list(directory.path.glob("tensorboard/seed_3/*"))) == 2
    assert "tensorboard" not in (directory.path / "config.json").read_text()


@pytest.mark.slow
def test_loggers_that_come_late_get_the_rows_so_far(monkeypatch, tmp_path):
    refuse = interrupt_at(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        train_run(CONFIG, tmp_path / "run", quiet=True)
    monkeypatch.setattr(importlib.import_module("drigm.training.loop")._Training, "note_divergence", refuse)
    run = resume_run(tmp_path / "run", quiet=True, log=BOTH)
    assert_logged(run.directory, 3)


def failing(at):
    """A logger that fails when it is opened, written to or closed."""

    def fail(*_):
        raise OSError(28, "No space\nleft")

    def nothing(*_):
        return None

    def opened(slot):
        return fail() if at == "open" else Log(fail if at == "write" else nothing, fail if at == "close" else nothing)

    return Logger("", "", opened)


@pytest.mark.parametrize("at", ["open", "write", "close"])
def test_a_logger_that_fails_is_dropped_with_one_line(at, monkeypatch, tmp_path):
    monkeypatch.setitem(LOGGERS, "failing", failing(at))
    directory, said = RunDirectory(tmp_path / "run"), []
    directory.create(CONFIG)
    row = dict.fromkeys(COLUMNS, 1.0)
    with open_logs(("failing", "tensorboard"), [Slot(directory, CONFIG, 3, 0)], said.append) as write:
        write([{**row, "step": 4}])
        write([{**row, "step": 8}])
    assert said == ["failing: OSError: [Errno 28] No space left; this run goes on without it"]
    assert list(tensorboard_of(directory, 3)["loss"]) == [4, 8]
    assert len(directory.read_metrics(3)) == 2


def test_the_csv_may_not_fail(tmp_path):
    directory = RunDirectory(tmp_path / "run")  # was never made
    with (
        pytest.raises(UserError, match="cannot be written"),
        open_logs((), [Slot(directory, CONFIG, 3, 0)], print) as write,
    ):
        write([dict.fromkeys(COLUMNS, 1.0)])


def test_names(monkeypatch):
    assert parse_log("") == parse_log(()) == parse_log("csv") == ()
    assert parse_log("wandb, csv,tensorboard,wandb") == ("wandb", "tensorboard")
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    for given, told in (("mlflow", "csv, tensorboard, wandb"), ("tensorboard", "pip install 'drigm[tensorboard]'")):
        with pytest.raises(UserError, match="log: ") as refused:
            parse_log(given)
        assert_one_sentence(str(refused.value))
        assert told in str(refused.value)


def test_nothing_is_written_for_a_bad_name(tmp_path):
    with pytest.raises(UserError, match="log: 'mlflow'"):
        train_run(CONFIG, tmp_path / "run", quiet=True, log="mlflow")
    assert not (tmp_path / "run").exists()


def test_online_without_a_login_is_refused_and_asks_nothing(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(UserError, match="wandb login") as refused:
        parse_log("wandb")
    assert_one_sentence(str(refused.value))
