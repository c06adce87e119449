"""The programs of a sweep on a Ray cluster: one made for it on this machine, or one that runs already."""

from __future__ import annotations

import importlib
import os
import re
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from drigm.core.errors import UserError
from drigm.experiments.sweep.engines import Ended, Engine, Options
from drigm.experiments.sweep.plan import Plan
from drigm.experiments.sweep.worker import attempt

RETRIES = 3  # of Ray itself, when a worker or its machine dies
ANSWERS_WITHIN = 10  # seconds; Ray itself tries for minutes, and writes what it tries
OBJECT_STORE = 80 * 2**20  # bytes; Ray's least, for nothing but short texts passes through it


@contextmanager
def ray_engine(plan: Plan, options: Options) -> Iterator[Engine]:
    """One Ray task per program; what is left of them is cancelled when the block ends.

    A process that uses Ray already keeps its cluster, and goes on using it afterwards.

    Raises:
        UserError: Ray is not installed, or nothing answers at the address.
    """
    ray = load_ray()
    workers, cores = options.on_this_machine(len(plan.programs))
    elsewhere, ours = bool(options.address) or ray.is_initialized(), not ray.is_initialized()
    if ours:
        _connect(ray, options.address, workers * cores)
    if elsewhere:
        cores = options.cores or 1
    # A process per task: the number of JAX devices is fixed by the first program that a process runs.
    task = ray.remote(num_cpus=cores, max_retries=RETRIES, max_calls=1)(attempt)
    programs: dict[Any, int] = {}

    def start(program: int) -> None:
        programs[task.remote(str(plan.folder), program, options.log, cores)] = program

    def ended(seconds: float) -> list[Ended]:
        over, _ = ray.wait(list(programs), num_returns=1, timeout=seconds) if programs else ([], None)
        return [_ending(ray, reference, programs.pop(reference)) for reference in over]

    try:
        yield Engine((options.workers or len(plan.programs)) if elsewhere else workers, start, ended)
    finally:
        for reference in programs:
            ray.cancel(reference, force=True)
        if ours:
            ray.shutdown()


def load_ray() -> Any:
    """Return the module ``ray``, with its reports home off; `UserError` says how to install it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what goes wrong is one sentence of ours
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # tasks without GPUs do not hide them
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError:
        raise UserError("engine: ray is not installed: pip install 'drigm[ray]'.") from None


def _connect(ray: Any, address: str, cpus: int) -> None:
    """Join the cluster at ``address``, or make one of ``cpus`` CPUs on this machine, without a dashboard."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    own = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        if place := re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", address):
            socket.create_connection((place[1], int(place[2])), ANSWERS_WITHIN).close()
        with warnings.catch_warnings():  # JAX warns of every fork; Ray's processes start another program at once
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            ray.init(address=address or "local", **({} if address else own), **quiet)
    except (ConnectionError, RuntimeError, ValueError, OverflowError, OSError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"address: {address or 'local'!r}: no Ray cluster ({said}).") from None


def _ending(ray: Any, reference: Any, program: int) -> Ended:
    """What became of a task that is over."""
    try:
        return Ended(program, ray.get(reference))
    except ray.exceptions.RayTaskError as error:  # the code raised
        cause = error.cause if error.cause is not None else error
        return Ended(program, f"{type(cause).__name__}: {' '.join(str(cause).split())}")
    except ray.exceptions.RayError as error:  # the worker or its machine is gone
        return Ended(program, type(error).__name__, died=True)
