"""Several ``drigm train`` processes at once, each on its share of the cores, with one display for all."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from drigm.core.naming import duration
from drigm.runtime import interrupts
from drigm.runtime.devices import usable_cores

SHOWN = ("score", "loss", "epsilon", "steps_per_s")  # the metrics that a terminal has room for
COMMAND = (sys.executable, "-m", "drigm", "train")
SAVE_SECONDS = 30.0  # what children get to save and end; those that save nothing need less than 5
STOP_SECONDS = 5.0  # what they get after being asked again


class Task(NamedTuple):
    """One training: its short name, and the arguments of ``drigm train``."""

    label: str
    arguments: Sequence[str]


class TaskError(Exception):
    """A child ended with an exit code other than 0; the text is what it said."""

    def __init__(self, label: str, code: int, said: str) -> None:
        super().__init__(f"{label}: {said or f'ended with exit code {code}'}")
        self.code = code


@dataclass
class _Child:
    """A running task and the last thing known of it."""

    label: str
    process: subprocess.Popen[str]
    began: float
    note: str = "starting"
    values: dict[str, str] = field(default_factory=dict)
    known: float = 0.0  # when the values came
    said: deque[str] = field(default_factory=lambda: deque(maxlen=20))  # everything but progress: an error message
    seconds: float | None = None  # until its end


def train_side_by_side(tasks: Sequence[Task], stream: TextIO | None = None) -> None:
    """Run all ``tasks`` at once and return when every one has finished; no child outlives the call.

    A terminal shows one line per task; any other stream gets each task's own lines, its label in front.

    Raises:
        TaskError: a task failed; the others are stopped.
    """
    out: TextIO = sys.stderr if stream is None else stream
    lines: queue.Queue[tuple[_Child, str | None]] = queue.Queue()
    children: list[_Child] = []
    live = live_display(out, lambda: _render(children))
    try:
        with interrupts.as_interrupts(), live or nullcontext():
            for i, task in enumerate(tasks):
                children.append(_start(task, i, len(tasks)))
                threading.Thread(target=_read, args=(children[-1], lines), daemon=True).start()
            running = len(children)
            while running:
                child, line = lines.get()
                if line is None:
                    running -= 1
                    _note_end(child)
                    continue
                _note_line(child, line)
                if live is None:
                    print(f"{child.label}: {line}", file=out, flush=True)
    finally:
        stop([child.process for child in children])


def _start(task: Task, index: int, of: int) -> _Child:
    """Start a child on its own share of the cores."""
    cores = max(1, usable_cores() // of)
    # Children that share an accelerator must not each reserve most of its memory.
    unless_set = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    with pinned(index * cores, cores):
        process = subprocess.Popen(
            [*COMMAND, *task.arguments],
            env={**unless_set, **os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,  # Ctrl-C on a terminal is for this process, which asks them once
        )
    return _Child(task.label, process, time.monotonic())


@contextmanager
def pinned(first: int, count: int):
    """Let a process that is started in the block run on ``count`` cores from number ``first`` on, where Linux allows.

    Otherwise each child's thread pool spreads over all cores and they take turns on each other's.
    """
    granted = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    share = set(sorted(granted)[first : first + count])
    if len(share) < count:  # fewer cores than tasks, or a system without pinning
        yield
        return
    os.sched_setaffinity(0, share)
    try:
        yield
    finally:
        os.sched_setaffinity(0, granted)


def _read(child: _Child, lines: queue.Queue[tuple[_Child, str | None]]) -> None:
    """Pass on a child's lines, and None at their end."""
    assert child.process.stderr is not None
    with child.process.stderr as pipe:
        for line in pipe:
            lines.put((child, line.rstrip("\n")))
    lines.put((child, None))


def _note_line(child: _Child, line: str) -> None:
    if line.startswith("step="):
        child.values |= dict(word.split("=", 1) for word in line.split() if "=" in word)
        child.note, child.known = "", time.monotonic()
    elif line.startswith("# "):
        child.note = "" if child.values else line[2:]
    else:
        child.said.append(line)


def _note_end(child: _Child) -> None:
    """Wait for a child that has closed its stream; raises `TaskError` if it failed."""
    code = child.process.wait()
    child.seconds = time.monotonic() - child.began
    if code:
        raise TaskError(child.label, code, "\n".join(child.said).strip())


def stop(processes: Sequence[subprocess.Popen[str]]) -> None:
    """End what still runs: an interrupt first, as Ctrl-C would, so that a run can say how it is continued."""
    ways = (lambda p: p.send_signal(signal.SIGINT), lambda p: p.terminate(), lambda p: p.kill())
    with interrupts.finishing():
        for way, seconds in zip(ways, (SAVE_SECONDS, STOP_SECONDS, STOP_SECONDS), strict=True):
            running = [process for process in processes if process.poll() is None]
            for process in running:
                way(process)
            until = time.monotonic() + seconds
            for process in running:
                try:
                    process.wait(max(0.0, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    continue


def live_display(stream: TextIO, render: Callable[[], Group]) -> Live | None:
    """Return a display that redraws itself, or None where the stream is no terminal that can."""
    if not stream.isatty():
        return None
    console = Console(file=stream)
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    return Live(console=console, get_renderable=render, refresh_per_second=4)


def _render(children: list[_Child]) -> Group:
    bars = Table.grid(padding=(0, 1), expand=False)
    for child in children:
        bars.add_row(*_cells(child))
    return Group(bars)


def _cells(child: _Child) -> list[Text | ProgressBar]:
    done, total = (int(x) for x in child.values.get("step", "0/1").split("/"))
    elapsed = child.seconds if child.seconds is not None else time.monotonic() - child.began
    if child.seconds is not None:
        state = f"{duration(elapsed)} in all"
    elif child.note:
        state = f"{duration(elapsed)}, {child.note}"
    else:
        left = float(child.values.get("eta_s", "nan")) - (time.monotonic() - child.known)
        state = "finishing" if done >= total else f"{duration(max(left, 0.0))} left"
    shown = "  ".join(f"{name} {child.values[name]}" for name in SHOWN if name in child.values)
    bar = ProgressBar(total=max(1, total), completed=done, width=20, complete_style="cyan", finished_style="green")
    dim = {"style": "dim", "no_wrap": True}
    return [
        Text(child.label, style="bold", no_wrap=True),
        bar,
        Text(f"{done / max(1, total):4.0%}"),
        Text(state, **dim),
        Text(shown, overflow="ellipsis", **dim),
    ]
