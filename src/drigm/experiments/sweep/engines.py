"""Where the programs of a sweep run. An engine is a record of three; the local one starts a process per program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, NamedTuple

from drigm.experiments.sweep.plan import Plan
from drigm.runtime import interrupts
from drigm.runtime.devices import usable_cores
from drigm.runtime.files import file_errors

COMMAND = (sys.executable, "-m", "drigm.experiments.sweep")
SMALLER = "give --workers 1, or fewer points to a program with together = 1 in the file"
SAVE_SECONDS = 30.0  # what children get to save and end; those that save nothing need less than 5
STOP_SECONDS = 5.0  # what they get after being asked again
STOPPED = tuple(128 + signum for signum in interrupts.SIGNALS)  # exit codes of a child that was asked to end


class Ended(NamedTuple):
    """A program whose process has ended.

    Attributes:
        program: its index in the plan.
        error: a sentence; "" if all went well.
        died: the process was killed from outside, so the program may be run again.
    """

    program: int
    error: str = ""
    died: bool = False


class Engine(NamedTuple):
    """A place to run programs.

    Attributes:
        slots: how many programs may be started before one has ended.
        start: start a program.
        ended: wait up to so many seconds, and return the programs that have ended.
    """

    slots: int
    start: Callable[[int], None]
    ended: Callable[[float], list[Ended]]


class Options(NamedTuple):
    """How an engine runs: programs at a time and CPU cores of each (0: what fits), loggers, a cluster's address."""

    workers: int = 0
    cores: int = 0
    log: str = ""
    address: str = ""

    def on_this_machine(self, programs: int) -> tuple[int, int]:
        """Return workers and cores of each for ``programs`` programs."""
        usable = usable_cores()
        workers = self.workers or max(1, min(programs, usable // (self.cores or 1)))
        return workers, self.cores or max(1, usable // workers)


class _Child(NamedTuple):
    program: int
    process: subprocess.Popen[str]
    said: IO[str]


@contextmanager
def local_engine(plan: Plan, options: Options) -> Iterator[Engine]:
    """Processes on this machine, each on its share of the cores; they end with the block, or with this process."""
    workers, cores = options.on_this_machine(len(plan.programs))
    children: list[_Child] = []

    def start(program: int) -> None:
        with file_errors(plan.log_file(program)):
            said = open(plan.log_file(program), "w+", errors="replace")  # noqa: SIM115 (closed when the child has ended)
        # Children that share an accelerator must not each reserve most of its memory.
        unless_set = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        process = subprocess.Popen(
            [*COMMAND, str(plan.folder), str(program), options.log, str(cores)],
            env={**unless_set, **os.environ},
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            text=True,
            process_group=0,  # Ctrl-C on a terminal is for this process, which asks them once
        )
        children.append(_Child(program, process, said))

    def ended(seconds: float) -> list[Ended]:
        until = time.monotonic() + seconds
        while not (over := [child for child in children if child.process.poll() is not None]):
            if time.monotonic() >= until:
                break
            time.sleep(min(0.1, seconds))
        for child in over:
            children.remove(child)
        return [_ending(child) for child in over]

    try:
        with interrupts.as_interrupts():
            yield Engine(workers, start, ended)
    finally:
        stop([child.process for child in children])
        for child in children:
            _close(child)


def _ending(child: _Child) -> Ended:
    """What became of a child that has ended."""
    child.said.seek(0)
    lines = [line.strip() for line in child.said.read().splitlines() if line.strip()]
    _close(child)
    code = child.process.returncode
    if code < 0 or code in STOPPED:
        signum = abs(code) % 128
        memory = f", as Linux does where memory runs out: {SMALLER}" if signum == signal.SIGKILL else ""
        return Ended(child.program, f"the process was killed by signal {signum}{memory}", died=True)
    message = lines[-1] if lines else f"the process ended with exit code {code}"
    return Ended(child.program, message if code else "")


def _close(child: _Child) -> None:
    child.said.close()
    if child.process.stdin is not None:
        child.process.stdin.close()


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
