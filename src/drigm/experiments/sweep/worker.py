"""What a process of a sweep does: train one program, score its points. The same for every engine."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from drigm.core.errors import UserError
from drigm.core.strengths import parse_grid
from drigm.evaluation.cache import cached_evaluations
from drigm.experiments.sweep.plan import Plan, load_plan
from drigm.experiments.sweep.pruning import pruning_callback
from drigm.runtime.devices import cache_compilations, own_folder
from drigm.runtime.files import hold
from drigm.training.loop import DivergedError
from drigm.training.runs import train_together
from drigm.training.session import Callback


def run_program(folder: str | Path, program: int, log: str = "") -> None:
    """Bring the points of ``program`` of the sweep in ``folder`` to their end, from wherever they stand.

    Raises:
        UserError: training diverged, or this machine does not see the folder.
    """
    plan = load_plan(Path(folder))
    cache_compilations()
    with hold(plan.lock_file(program), wait=True):  # whoever trains it may have yet to notice its parent's end
        configs = {plan.folder / name: plan.points[name] for name in plan.programs[program]}
        try:
            runs = train_together(configs, plan.folder, quiet=True, log=log, callback=_callback(plan, program))
            diverged = None
        except DivergedError as error:
            runs, diverged = error.finished, error
        runs = [run for run in runs if not plan.is_pruned(run.path.name)]
        if plan.scoring is not None and runs:
            suite, perturb = plan.scoring.shifts, parse_grid(plan.scoring.perturb)
            cached_evaluations(runs, suite, perturb, trim=plan.scoring.trim, worlds=plan.scoring.drawn, quiet=True)
        if diverged is not None:
            raise diverged


def _callback(plan: Plan, program: int) -> Callback | None:
    """Return what may end the training of ``program`` early; its points are one then (`pruning.read_pruning`)."""
    if plan.prune is None or program == plan.reference():
        return None
    names = (plan.prune.against, *plan.programs[program])
    reference, own = ((plan.directory(name), plan.points[name]) for name in names)
    return pruning_callback(plan.prune, reference, own)


def attempt(folder: str, program: int, log: str, cores: int) -> str:
    """`run_program`, with what a user must know as its value: "" if all went well. A crash is still an exception.

    This process keeps to so many ``cores`` of its own.
    """
    try:
        with own_cores(cores):
            run_program(folder, program, log)
    except UserError as error:
        return str(error)
    return ""


@contextlib.contextmanager
def own_cores(count: int) -> Iterator[None]:
    """Keep this thread, and those it starts, on ``count`` cores that no other process has taken in this way.

    Two programs on the same cores wait for each other at every step, whichever sweeps they are of. Where there are not
    enough free cores, or no locks, nothing is done; so too where somebody else has made the locks' folder, whose name
    all can guess. A core's lock goes with the process that holds it.
    """
    if not hasattr(os, "sched_setaffinity"):
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
            if len(taken) < count:
                with contextlib.suppress(UserError):  # somebody else's
                    locks.enter_context(hold(folder / str(core)))
                    taken.add(core)
        if len(taken) == count:
            os.sched_setaffinity(0, taken)
        try:
            yield
        finally:
            os.sched_setaffinity(0, granted)
