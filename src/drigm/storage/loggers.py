"""Where a run's metrics go, chunk by chunk: CSV files always, TensorBoard and Weights & Biases where asked for.

Which loggers a run has is no part of its result, and so not in its config. The CSV is the truth that runs resume from,
so its failure is an error; another logger that fails is dropped with one line: a display is not worth a training run.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from drigm.core.config import TrainConfig
from drigm.core.errors import UserError, check, choose
from drigm.core.json_files import read_object
from drigm.runtime.files import write_text
from drigm.storage.run_directory import RunDirectory

Row = dict[str, float]
Note = Callable[[str], None]
Write = Callable[[Sequence[Row | None]], None]


class Slot(NamedTuple):
    """One seed of one run, about to be trained.

    Attributes:
        directory: of the run.
        config: the run's settings.
        seed: whose rows will come.
        done: environment steps that the training goes on from; 0 for a new run. Rows beyond them come again.
    """

    directory: RunDirectory
    config: TrainConfig
    seed: int
    done: int


class Log(NamedTuple):
    """An open log of one slot: ``write(row)`` takes one row of metrics, ``close(finished)`` ends it."""

    write: Callable[[Row], None]
    close: Callable[[bool], object]


class Logger(NamedTuple):
    """A kind of log.

    Attributes:
        about: what it writes, in a few words; `drigm list` shows it.
        package: the module that it needs; "" if it needs none.
        open: starts or continues the log of a slot. The CSV is opened first and holds the rows until ``done``.
    """

    about: str
    package: str
    open: Callable[[Slot], Log]


def parse_log(log: str | Sequence[str]) -> tuple[str, ...]:
    """Return the loggers named in ``log`` ("tensorboard,wandb" or a sequence), without the CSV, which is always there.

    Raises:
        UserError: there is no such logger, or its package is missing; the message has the command that installs it.
    """
    names = log.split(",") if isinstance(log, str) else log
    names = [name.strip() for name in names if name.strip()]
    for name in names:
        package = LOGGERS[choose("log", name, tuple(LOGGERS))].package
        found = not package or importlib.util.find_spec(package) is not None
        check(found, "log", name, f"its package is missing: pip install 'drigm[{name}]'")
    if "wandb" in names:
        _check_login()
    return tuple(name for name in dict.fromkeys(names) if name != "csv")


@contextmanager
def open_logs(
    names: Sequence[str], slots: Sequence[Slot], note: Note
) -> Iterator[Callable[[Sequence[Row | None]], None]]:
    """Yield ``write(rows)``, which takes one row per slot, or None; whatever ends the block closes all logs.

    Args:
        names: of the loggers besides the CSV, as `parse_log` returns them.
        slots: whose rows will be written.
        note: told in one line when a logger is dropped because it failed.
    """
    csv = [LOGGERS["csv"].open(slot) for slot in slots]
    logs: dict[str, list[Log]] = {}

    def attempt(name: str, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:
            logs.pop(name, None)
            note(f"{name}: {type(error).__name__}: {' '.join(str(error).split())}; this run goes on without it")

    def write(rows: Sequence[Row | None]) -> None:
        def write_each(opened: Sequence[Log]) -> None:
            for log, row in zip(opened, rows, strict=True):
                if row is not None:
                    log.write(row)

        write_each(csv)
        for name, opened in list(logs.items()):
            attempt(name, lambda opened=opened: write_each(opened))

    for name in names:
        attempt(name, lambda name=name: logs.__setitem__(name, [LOGGERS[name].open(slot) for slot in slots]))
    finished = False
    try:
        yield write
        finished = True
    finally:
        for name, opened in list(logs.items()):
            attempt(name, lambda opened=opened: [log.close(finished) for log in opened])


def _open_csv(slot: Slot) -> Log:
    """``metrics/seed_K.csv``; rows that were written after the checkpoint are forgotten when it is restored."""
    return Log(lambda row: slot.directory.append_metrics(slot.seed, row), lambda finished: None)


def _open_tensorboard(slot: Slot) -> Log:
    """``tensorboard/seed_K/``; a new file of events says from which step on the earlier ones do not count.

    It writes through tensorboardX's file writer: its `SummaryWriter` hands events to a thread that dies in silence on a
    full disk, and then blocks the training.
    """
    from tensorboardX.event_file_writer import EventsWriter

    proto: Any = importlib.import_module("tensorboardX.proto.event_pb2")
    folder = slot.directory.path / "tensorboard" / f"seed_{slot.seed}"
    known = folder.exists() and any(folder.iterdir())
    folder.mkdir(parents=True, exist_ok=True)
    # The suffix orders and tells apart files that were begun in the same second.
    events = EventsWriter(str(folder / "events"), f".{slot.done:012}.{os.getpid()}")

    def write(row: Row) -> None:
        values = [{"tag": name, "simple_value": x} for name, x in _scalars(row).items()]
        events.write_event(proto.Event(wall_time=time.time(), step=int(row["step"]), summary={"value": values}))
        events.flush()

    if known:  # TensorBoard drops what it has from this step on
        start = proto.SessionLog(status=proto.SessionLog.START)
        events.write_event(proto.Event(wall_time=time.time(), step=slot.done + 1, session_log=start))
    else:  # a run that began without TensorBoard
        for row in slot.directory.read_metrics(slot.seed):
            write(row)
    return Log(write, lambda finished: events.close())


def _open_wandb(slot: Slot) -> Log:
    """One run of Weights & Biases per seed, its files in ``wandb/``; offline unless WANDB_MODE says otherwise.

    A resumed run goes on under the same id. The steps after its checkpoint come again with the values that they had,
    and W&B takes a step only once: what it has already is not sent again, which ``wandb/seed_K.json`` keeps track of.
    """
    import wandb

    file = slot.directory.path / "wandb" / f"seed_{slot.seed}.json"
    known = _wandb_state(file)
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "drigm"),
        id=known["id"],
        name=f"{slot.directory.path.name}-seed_{slot.seed}",
        group=slot.directory.path.name,
        config={**dataclasses.asdict(slot.config), "seed": slot.seed},
        dir=str(slot.directory.path),
        mode=wandb_mode(),  # pyright: ignore[reportArgumentType]
        resume="allow" if wandb_mode() == "online" else None,  # offline runs of one id are joined by `wandb sync`
        reinit="create_new",
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_code=True, disable_git=True),
    )

    def write(row: Row) -> None:
        step = int(row["step"])
        if step <= known["step"]:
            return
        run.log(_scalars(row), step=step)
        known["step"] = step
        write_text(file, json.dumps(known))

    for row in slot.directory.read_metrics(slot.seed):  # a run that began without W&B
        write(row)
    return Log(write, lambda finished: run.finish(exit_code=0 if finished else 1))


def wandb_mode() -> str:
    """Return the user's WANDB_MODE; by default nothing leaves the machine."""
    return os.environ.get("WANDB_MODE") or "offline"


def _wandb_state(file: Path) -> dict[str, Any]:
    """Return id and last logged step of the W&B run that ``file`` remembers, or those of a new run."""
    try:
        known = read_object(file)
        return {"id": str(known["id"]), "step": int(known["step"])}
    except (ValueError, KeyError, TypeError):
        file.parent.mkdir(parents=True, exist_ok=True)  # W&B falls back to /tmp where there is no such folder
        return {"id": uuid.uuid4().hex[:12], "step": -1}


def _check_login() -> None:
    """Raise `UserError` where W&B would ask for a login in the middle of a training."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # before its import: it reports its own crashes home
    if wandb_mode() != "online":
        return
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise UserError("log: wandb with WANDB_MODE=online needs a login; run wandb login or set WANDB_API_KEY first.")


def _scalars(row: Row) -> Row:
    """The metrics that have a value: a chunk without a finished episode has no return."""
    return {name: float(x) for name, x in row.items() if name != "step" and math.isfinite(x)}


LOGGERS = {
    "csv": Logger("metrics/seed_K.csv in the run directory; always there", "", _open_csv),
    "tensorboard": Logger(
        "event files in tensorboard/; see them with tensorboard --logdir runs", "tensorboardX", _open_tensorboard
    ),
    "wandb": Logger("Weights & Biases, offline unless WANDB_MODE=online", "wandb", _open_wandb),
}
