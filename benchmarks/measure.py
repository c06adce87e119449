"""What every measurement shares: compiled trainings that can be advanced, fair timing, processes of their own.

A machine that is not alone is slow at times. So what is compared is run in turns, a little of each at a time, and
each one's best turn counts: noise only ever adds. The median stands beside it and tells how quiet the machine was.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.config import TrainConfig
from drigm.envs import make_env
from drigm.envs.api import Environment
from drigm.runtime.devices import usable_cores
from drigm.runtime.system import system_facts
from drigm.training.loop import axes
from drigm.training.programs import Train, make_train
from drigm.training.tick import row_ticks

ROOT = Path(__file__).parents[1]
CONFIG = TrainConfig(factorization="qmix", uncertainty="tv", rho=0.2)  # what most parts measure
NEVER = 10**9  # an `update_every` that no run reaches
ROUNDS = 7
TURN = 0.5  # seconds that a turn aims at
QUICK_ROUNDS, QUICK_TURN = 2, 0.02
MOST_UNITS = 2000

Name = TypeVar("Name", bound=Hashable)
Work = Callable[[int], None]  # does that many units of work and waits until they are done


class Cost(NamedTuple):
    """Seconds of one unit of work: the best and the middle turn, and the processor's time (all cores) of the best."""

    best: float
    median: float
    processor: float


class Table(NamedTuple):
    """A table of results."""

    title: str
    rows: Sequence[Mapping[str, object]]
    note: str = ""


class Seconds(NamedTuple):
    """What it takes until a program can run."""

    trace: float  # Python to HLO
    compile: float  # HLO to machine code
    processor: float  # of both, all cores


class Training:
    """The compiled training of ``config``; calling it advances that many ticks.

    ``in_turn``: see `drigm.training.programs.make_train`.
    """

    def __init__(self, config: TrainConfig, env: Environment | None = None, in_turn: bool | None = None) -> None:
        self.config = config
        self.programs: Train = make_train(config, env or make_env(config.env), in_turn=in_turn)
        self.axes = axes([config])
        tick = jax.ShapeDtypeStruct((), jnp.int32)
        self._init, first = compiled(self.programs.init, *self.axes)
        self.restart()
        self.chunk, second = compiled(self.programs.chunk, self.state, tick, tick)
        self.seconds = Seconds(*(a + b for a, b in zip(first, second, strict=True)))

    def restart(self) -> None:
        """Go back to the first tick."""
        self.state, self.tick = jax.block_until_ready(self.programs.place(self._init(*self.axes))), 0

    def warm(self) -> Training:
        """Advance to where learning begins."""
        self(self.config.first_update)
        return self

    def __call__(self, ticks: int) -> None:
        self.state, sums = self.chunk(self.state, jnp.int32(self.tick), jnp.int32(ticks))
        jax.block_until_ready(sums)
        self.tick += ticks

    def whole_run(self) -> Cost:
        """Train from the first tick to the last, in the chunks of `drigm train` but without its files."""
        self.restart()
        began, used = time.perf_counter(), time.process_time()
        size = row_ticks(self.config)
        for first in range(0, self.config.ticks, size):
            self(min(size, self.config.ticks - first))
        wall = time.perf_counter() - began
        return Cost(wall, wall, time.process_time() - used)


def compiled(function: Any, *arguments: Any) -> tuple[Any, Seconds]:
    """Return the program of a jitted ``function`` for ``arguments``, and what it took."""
    began, used = time.perf_counter(), time.process_time()
    lowered = function.lower(*arguments)
    traced = time.perf_counter()
    program = lowered.compile()
    return program, Seconds(traced - began, time.perf_counter() - traced, time.process_time() - used)


def interleaved(works: Mapping[Name, Work], *, quick: bool = False) -> dict[Name, Cost]:
    """Time every work in turns of about the same length and return the cost of one unit of each."""
    rounds, turn = (QUICK_ROUNDS, QUICK_TURN) if quick else (ROUNDS, TURN)
    units = {name: _units(work, turn) for name, work in works.items()}
    found: dict[Name, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            began, used = time.perf_counter(), time.process_time()
            work(units[name])
            wall, processor = time.perf_counter() - began, time.process_time() - used
            found[name].append((wall / units[name], processor / units[name]))
    return {
        name: Cost(min(turns)[0], statistics.median(wall for wall, _ in turns), min(turns)[1])
        for name, turns in found.items()
    }


def _units(work: Work, turn: float) -> int:
    """How many units of ``work`` fill a turn; the first run of it, which may set up things, does not count."""
    work(1)
    began = time.perf_counter()
    work(2)
    return int(np.clip(round(2 * turn / (time.perf_counter() - began)), 1, MOST_UNITS))


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return b of the least-squares fit ``seconds ~ a sizes^b``: 1 is linear growth."""
    return float(np.polyfit(np.log(np.asarray(sizes, float)), np.log(np.asarray(seconds, float)), 1)[0])


def last_slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the exponent between the two largest sizes, where fixed costs weigh least."""
    return exponent(sizes[-2:], seconds[-2:])


def number_of_updates(config: TrainConfig) -> int:
    """Return the updates in a run, by the rule of `drigm.training.programs`."""
    starts = config.first_update
    return config.updates * sum(tick + 1 >= starts and tick % config.update_every == 0 for tick in range(config.ticks))


def own_process(
    module: str, *arguments: object, cores: int | None = None, variables: Mapping[str, str] = MappingProxyType({})
) -> tuple[Any, float]:
    """Run ``python -m module`` and return the JSON of its last line and the seconds from its start to its end.

    On ``cores`` of the granted cores, if given; with ``variables`` in its environment, where "" removes one.
    """
    environment = {name: v for name, v in {**os.environ, **variables}.items() if name not in variables or v}
    granted = os.sched_getaffinity(0) if cores and hasattr(os, "sched_getaffinity") else None
    if granted:
        os.sched_setaffinity(0, sorted(granted)[:cores])  # a child inherits it
    try:
        began = time.perf_counter()
        command = [sys.executable, "-m", module, *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1]), time.perf_counter() - began
    finally:
        if granted:
            os.sched_setaffinity(0, granted)


def cores() -> int:
    """Return how many cores there are to use."""
    return usable_cores()


def say(text: str) -> None:
    """Show progress."""
    print(f"[bench] {text}", file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    facts = system_facts()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    known = {"cores": cores(), "processor": name, "system": f"{platform.system()} {platform.machine()}"}
    return known | {name: facts[name] for name in ("python", "versions", "commit", "started")}
