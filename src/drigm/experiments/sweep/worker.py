"""What a process of a sweep does: train one program, score its points. The same for every engine."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from drigm.core.errors import UserError
from drigm.envs.perturbations import parse_grid
from drigm.evaluation.evaluate import cached_evaluations
from drigm.experiments.sweep.plan import load_plan
from drigm.runtime.devices import cache_compilations, own_folder
from drigm.training.loop import DivergedError
from drigm.training.runs import train_together

try:
    import fcntl
except ImportError:  # not a POSIX system: no lock
    fcntl = None


def run_program(folder: str | Path, program: int, log: str = "") -> None:
    """Bring the points of ``program`` of the sweep in ``folder`` to their end, from wherever they stand.

    Raises:
        UserError: training diverged, or this machine does not see the folder.
    """
    plan = load_plan(Path(folder))
    cache_compilations()
    with _held(plan.lock_file(program)):
        configs = {plan.folder / name: plan.points[name] for name in plan.programs[program]}
        try:
            runs, diverged = train_together(configs, plan.folder, quiet=True, log=log), None
        except DivergedError as error:
            runs, diverged = error.finished, error
        if plan.scoring is not None and runs:
            suite, perturb = plan.scoring.shifts, parse_grid(plan.scoring.perturb)
            cached_evaluations(runs, suite, perturb, quiet=True)
        if diverged is not None:
            raise diverged


def attempt(folder: str, program: int, log: str, cores: int = 0) -> str:
    """`run_program`, with what a user must know as its value: "" if all went well. A crash is still an exception.

    With ``cores``, this process keeps to so many cores of its own, where its parent could not see to that.
    """
    try:
        with own_cores(cores) if cores else contextlib.nullcontext():
            run_program(folder, program, log)
    except UserError as error:
        return str(error)
    return ""


@contextlib.contextmanager
def own_cores(count: int) -> Iterator[None]:
    """Keep this thread, and those it starts, on ``count`` cores that no other process has taken in this way.

    Two programs on the same cores wait for each other at every step. Where there are not enough free cores, or no
    locks, nothing is done; so too where somebody else has made the locks' folder, whose name all can guess. A core's
    lock goes with the process that holds it.
    """
    if fcntl is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    folder = Path(tempfile.gettempdir()) / f"drigm-cores-{os.getuid()}"
    if not own_folder(folder):
        yield
        return
    granted = os.sched_getaffinity(0)
    with contextlib.ExitStack() as locks:
        taken: set[int] = set()
        for core in sorted(granted):
            if len(taken) < count and locks.enter_context(_try_lock(folder / str(core))):
                taken.add(core)
        if len(taken) == count:
            os.sched_setaffinity(0, taken)
        try:
            yield
        finally:
            os.sched_setaffinity(0, granted)


@contextlib.contextmanager
def _try_lock(file: Path) -> Iterator[bool]:
    """Whether the lock of ``file`` was free; it is held until the block ends."""
    try:
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:  # a link, or no room
        yield False
        return
    with open(opened, "a") as lock:
        try:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except OSError:
            free = False
        yield free


@contextlib.contextmanager
def _held(file: Path) -> Iterator[None]:
    """Hold the lock of a program; wait while another process trains it, as one that has yet to notice its parent's end.

    The lock is the kernel's and goes with the process, however that ends. The file says who holds it.
    """
    with open(file, "a+") as lock:
        with contextlib.suppress(OSError):  # a file system without locks
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
