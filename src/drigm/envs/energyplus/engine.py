"""EnergyPlus in a process of its own, stepped from here."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import struct
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drigm.core.errors import UserError
from drigm.envs.energyplus.engine_process import DONE, FAILED, METERS, READING, SITE, STEP, STOP, THERMAL

PROCESS = Path(__file__).with_name("engine_process.py")
DAYS_PER_PROCESS = 100  # each leaves about 1 MB behind; starting anew takes half a second


class Task(NamedTuple):
    """One day to simulate, with what is read and set; everything but the files travels as JSON."""

    idf: str
    epw: str
    zones: list[str]  # n, upper case
    conditioned: list[int]  # [N], the zones that have an agent
    actuators: list[list[str]]  # component, control and key of what a step sets
    hold: dict[str, Any]  # the warm-up: {"settings": [...]}, or {"target", "gains" [N], "integral"} of a PI controller
    measures_energy: bool


class Reading(NamedTuple):
    """What is measured at the end of a step; at the start of the day with energies of 0."""

    temperatures: np.ndarray  # [n] C, mean air temperature of every zone
    site: np.ndarray  # [4] outdoor C, direct normal and diffuse W/m2, solar altitude degrees
    thermal: np.ndarray  # [2, N] J of heating and cooling that the air conditioning brought; 0 where there is none
    purchased: np.ndarray  # [2] J of electricity and gas for air conditioning; 0 where there is none


def has_engine() -> bool:
    """Return whether the engine's package is installed."""
    return importlib.util.find_spec("pyenergyplus") is not None


def find_engine() -> None:
    """Raise `UserError` where the engine's package is missing."""
    if not has_engine():
        raise UserError('energyplus needs the engine: pip install "drigm[energyplus]".')


class Engine:
    """One process of the engine, which simulates one day at a time: `start`, then `step`; `stop` gives a day up."""

    def __init__(self) -> None:
        find_engine()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize | None = None
        self._days, self._busy = 0, False

    def start(self, task: Task) -> Reading:
        """Begin a day, warm-up included, and return the first reading.

        Raises:
            UserError: the engine failed; the message has the end of its log.
        """
        self.stop()
        if self._process is None or self._days >= DAYS_PER_PROCESS:
            self.close()
            self._open()
        (self._folder / "in.idf").write_text(task.idf)
        (self._folder / "in.epw").write_text(task.epw)
        self._task, self._days, self._busy = task, self._days + 1, True
        message = {name: value for name, value in task._asdict().items() if name not in ("idf", "epw")}
        return self._ask(json.dumps(message).encode() + b"\n")

    def step(self, settings: np.ndarray) -> Reading:
        """Set the actuators, simulate a step and return the reading at its end; raises as `start` does."""
        return self._ask(STEP + struct.pack(f"{len(settings)}d", *settings))

    def stop(self) -> None:
        """End the day, over or not; the process stays for the next."""
        if not self._busy or self._process is None:
            return
        try:
            self._send(STOP)
            while self._receive() is not None:
                pass
        except UserError:  # it failed while it stopped
            self.close()
        self._busy = False

    def close(self) -> None:
        """End the process; a start opens another."""
        if self._end is not None:
            self._end()
        self._process, self._end, self._days, self._busy = None, None, 0, False

    def _open(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="drigm_energyplus_")
        self._folder = Path(folder.name)
        command = [sys.executable, "-P", str(PROCESS), folder.name]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._end = weakref.finalize(self, _end, self._process, folder)  # at the latest when the interpreter ends

    def _ask(self, request: bytes) -> Reading:
        try:
            self._send(request)
            reading = self._receive()
            if reading is None:
                raise UserError("EnergyPlus failed: it ended before the day was over.")
        except BaseException:
            self.close()  # an interrupted answer cannot be told from the next
            raise
        return reading

    def _send(self, request: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what it said before, or that it died, is seen when it is heard
            self._process.stdin.write(request)
            self._process.stdin.flush()

    def _receive(self) -> Reading | None:
        """Return the next reading; None where the day is over."""
        assert self._process is not None
        assert self._process.stdout is not None
        answer = self._process.stdout
        kind = answer.read(1)
        if kind == DONE:
            return None
        if kind == READING:
            n, agents = len(self._task.zones), len(self._task.conditioned)
            sizes = [n, len(SITE), len(THERMAL) * agents, len(METERS)]
            numbers = np.frombuffer(answer.read(8 * sum(sizes)))
            zones, site, thermal, purchased = np.split(numbers, np.cumsum(sizes)[:-1])
            return Reading(zones, site, thermal.reshape(len(THERMAL), agents), purchased)
        if kind == FAILED:
            raise UserError(f"EnergyPlus failed: {json.loads(answer.readline())}.")
        raise UserError(f"EnergyPlus failed: its process died with exit code {self._process.wait()}.")


def _end(process: subprocess.Popen[bytes], folder: tempfile.TemporaryDirectory[str]) -> None:
    """End the process and remove its folder, in which there is nothing to keep."""
    process.kill()
    with contextlib.suppress(BrokenPipeError), process:  # closes its pipes, with what it never read, and waits for it
        pass
    folder.cleanup()
