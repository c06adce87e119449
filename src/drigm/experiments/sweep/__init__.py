"""Sweeps: a grid over any setting, as few compiled programs as can be, on this machine or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drigm.core.errors import as_path, check, choose
from drigm.experiments.sweep.engines import Options, local_engine
from drigm.experiments.sweep.plan import make_plan
from drigm.experiments.sweep.ray_engine import ray_engine
from drigm.experiments.sweep.results import Swept, collect
from drigm.experiments.sweep.spec import read_sweep
from drigm.experiments.sweep.supervise import drive
from drigm.runtime import interrupts
from drigm.runtime.files import hold, make_folder
from drigm.storage.loggers import parse_log

ENGINES = {"local": local_engine, "ray": ray_engine}


def sweep(
    source: str | Path | Mapping[str, Any],
    *,
    engine: str = "local",
    out: str | Path | None = None,
    workers: int = 0,
    cores: int = 0,
    address: str = "",
    log: str | Sequence[str] = (),
    quiet: bool = False,
) -> Swept:
    """Train, and score, every point of a sweep; whatever stopped it, the same call goes on where it was.

    Points that differ in radius and seeds alone train as one program; the programs run in processes of their own. What
    the run directories hold is not done again, and neither engine, workers nor cores move a result.

    Args:
        source: a TOML file, or a mapping with the same keys; see `drigm.experiments.sweep.spec`.
        engine: "local", or "ray" (extra ``ray``).
        out: the folder; by default ``runs/sweeps/NAME``. On a cluster, all machines must see it under the same path.
        workers: programs at a time; by default one per core of the machine, on a cluster as many as it has room for.
        cores: CPU cores of each program; by default the machine's cores are shared out, on a cluster it is 1.
        address: of a Ray cluster that runs already ("auto" finds the one on this machine); by default one is made.
        log: loggers besides the CSV files, as in `drigm.train`.
        quiet: show no progress.

    Raises:
        UserError: the file, or an argument, is not as it should be. Points that fail are in the result's ``failures``.
        KeyboardInterrupt: with a message that says how to continue.
    """
    choose("engine", engine, tuple(ENGINES))
    check(engine == "ray" or not address, "address", address, "leave it out with engine local")
    for name, count in (("workers", workers), ("cores", cores)):
        check(count >= 0, name, count, "a whole number from 0 (what fits)")
    options = Options(workers, cores, ",".join(parse_log(log)), address)
    found = read_sweep(source)
    folder = (as_path("out", out) if out is not None else Path("runs") / "sweeps" / found.name).resolve()
    make_folder(folder / "logs")
    refusal = f"sweep: {str(folder)!r} is being worked on by another process; let it finish, or stop it."
    again = f"the same sweep continues in {folder}"
    try:
        with hold(folder / "logs" / ".lock", refusal), interrupts.advice(again):
            plan = make_plan(found, folder)
            failures = {}
            if not all(map(plan.is_finished, plan.points)):  # else no engine needs to be started
                with ENGINES[engine](plan, options) as opened:
                    failures = drive(plan, opened, quiet=quiet)
            swept = collect(plan, failures)
            if found.tables is not None and found.scoring is not None:
                from drigm.experiments.reproduce.method_tables import write_swept  # matplotlib: a second

                write_swept(swept, found, found.scoring.shifts)
            return swept
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {again}") from None
