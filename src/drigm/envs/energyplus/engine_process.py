"""The process that runs EnergyPlus, a day at a time: ``python -P engine_process.py``, started by `Engine`.

The engine owns the loop of a simulation and calls back, so the callbacks talk to the other side: they write what was
measured and wait for what is to be set. It is a process because the engine keeps about a megabyte of every day for
ever, and so that a crash takes nothing else with it. It imports neither drigm nor NumPy, to start fast and stay small.

Requests, on standard input: a JSON line for each day, then for each step ``STEP`` and doubles, or ``STOP`` to give the
day up. Answers, on what was standard output: ``READING`` and doubles, ``DONE``, or ``FAILED`` and a JSON line.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

STEP, STOP = b"s", b"q"
READING, DONE, FAILED = b"r", b"d", b"e"
WEATHER_RUN = 3  # kind_of_sim of a run period; the others size equipment
STEP_SECONDS = 300.0
SITE = (
    "Site Outdoor Air Drybulb Temperature",
    "Site Direct Solar Radiation Rate per Area",
    "Site Diffuse Solar Radiation Rate per Area",
    "Site Solar Altitude Angle",
)
THERMAL = ("Zone Air System Sensible Heating Rate", "Zone Air System Sensible Cooling Rate")
METERS = ("Electricity:HVAC", "NaturalGas:HVAC")
LONGEST = 300  # characters of the engine's log that get into a message


class StoppedError(Exception):
    """The day was given up."""


class Handles(NamedTuple):
    """The engine's numbers for what is read and set."""

    zones: list[int]
    site: list[int]
    thermal: list[int]  # heating of every agent's zone, then cooling; empty where energy is not measured
    meters: list[int]
    actuators: list[int]


class Day:
    """One simulated day: ``task`` is a `drigm.envs.energyplus.engine.Task` as a dict."""

    def __init__(self, api: Any, task: dict[str, Any], folder: str, requests: BinaryIO, answers: BinaryIO) -> None:
        self.runtime, self.exchange, self.states = api.runtime, api.exchange, api.state_manager
        self.task, self.folder, self.requests, self.answers = task, folder, requests, answers
        self.agents = [task["zones"][zone] for zone in task["conditioned"]]
        self.handles: Handles | None = None
        self.error: BaseException | None = None
        self.started = False
        self.sums = [0.0] * len(self.agents)

    def run(self) -> None:
        """Simulate the day; raises what a callback raised, or `RuntimeError` with the end of the engine's log."""
        state = self.states.new_state()
        try:
            self.runtime.set_console_output_status(state, False)
            for name, key in self.variables():
                self.exchange.request_variable(state, name, key)
            begin, end = self.guarded(self.act), self.guarded(self.measure)
            self.runtime.callback_begin_zone_timestep_before_init_heat_balance(state, begin)
            self.runtime.callback_end_zone_timestep_after_zone_reporting(state, end)
            files = [f"{self.folder}/in.epw", "-d", self.folder, f"{self.folder}/in.idf"]
            code = self.runtime.run_energyplus(state, ["-w", *files])
        finally:
            self.states.delete_state(state)
        if self.error is not None:
            raise self.error
        if code != 0:
            raise RuntimeError(last_words(self.folder))

    def guarded(self, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return ``callback`` for the engine, where nothing may raise: its error is kept, and the run stopped."""

        def guarded(state: Any) -> None:
            if self.error is not None:
                return
            try:
                callback(state)
            except BaseException as error:
                self.error = error
                self.runtime.stop_simulation(state)

        return guarded

    def act(self, state: Any) -> None:
        """At the start of each step."""
        exchange = self.exchange
        if not exchange.api_data_fully_ready(state) or exchange.kind_of_sim(state) != WEATHER_RUN:
            return
        if self.handles is None:
            self.handles = self.find(state)
        if exchange.warmup_flag(state):
            settings = self.hold(state, self.handles)
        else:
            if not self.started:
                self.started = True
                self.answer(state, self.handles, measured=False)
            settings = self.request(len(self.handles.actuators))
        for handle, value in zip(self.handles.actuators, settings, strict=True):
            exchange.set_actuator_value(state, handle, value)

    def measure(self, state: Any) -> None:
        """At the end of each step."""
        if self.started and self.handles is not None:
            self.answer(state, self.handles, measured=self.task["measures_energy"])

    def hold(self, state: Any, handles: Handles) -> list[float]:
        """Return the settings of the warm-up: constant ones, or those of a PI controller without a limit."""
        hold, settings = self.task["hold"], []
        if "settings" in hold:
            return hold["settings"]
        for i, (zone, gain) in enumerate(zip(self.task["conditioned"], hold["gains"], strict=True)):
            error = hold["target"] - self.exchange.get_variable_value(state, handles.zones[zone])
            self.sums[i] += error
            settings.append(gain * (error + hold["integral"] * self.sums[i]))
        return settings

    def request(self, count: int) -> tuple[float, ...]:
        if self.requests.read(1) != STEP:
            raise StoppedError
        return struct.unpack(f"{count}d", self.requests.read(8 * count))

    def answer(self, state: Any, handles: Handles, *, measured: bool) -> None:
        value = self.exchange.get_variable_value
        numbers = [value(state, handle) for handle in (*handles.zones, *handles.site)]
        energies = [0.0] * (len(THERMAL) * len(self.agents) + len(METERS))
        if measured:
            thermal = [STEP_SECONDS * value(state, handle) for handle in handles.thermal]
            # A meter that the building has no use for, such as gas, has no handle.
            bought = [self.exchange.get_meter_value(state, h) if h >= 0 else 0.0 for h in handles.meters]
            energies = thermal + bought
        self.answers.write(READING + struct.pack(f"{len(numbers) + len(energies)}d", *numbers, *energies))
        self.answers.flush()

    def variables(self) -> Iterator[tuple[str, str]]:
        """Yield the output variables that are read, with their keys; the engine must be told before it starts."""
        yield from (("Zone Mean Air Temperature", zone) for zone in self.task["zones"])
        yield from ((name, "Environment") for name in SITE)
        if self.task["measures_energy"]:
            yield from ((name, zone) for name in THERMAL for zone in self.agents)

    def find(self, state: Any) -> Handles:
        names = list(self.variables())
        found = [self.exchange.get_variable_handle(state, name, key) for name, key in names]
        actuators = [self.exchange.get_actuator_handle(state, *names) for names in self.task["actuators"]]
        lacking = [name for name, handle in zip([*names, *self.task["actuators"]], found + actuators) if handle < 0]  # noqa: B905
        if lacking:
            raise RuntimeError(f"the building has no {' of '.join(lacking[0])}")
        n, m = len(self.task["zones"]), len(self.task["zones"]) + len(SITE)
        meters = [self.exchange.get_meter_handle(state, name) for name in METERS]
        return Handles(found[:n], found[n:m], found[m:], meters, actuators)


def last_words(folder: str) -> str:
    """Return the last severe errors of the engine's log, in one line."""
    log = Path(folder, "eplusout.err")
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    severe = [" ".join(line.strip(" *").split()) for line in lines if "** Severe" in line or "**  Fatal" in line]
    text = "; ".join(severe[-2:]) or "it left no log"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def serve(requests: BinaryIO, answers: BinaryIO, folder: str) -> None:
    """Simulate the days that are asked for until the other side hangs up."""
    from pyenergyplus.api import EnergyPlusAPI

    api = EnergyPlusAPI()
    # A day that was given up at its end is over before it reads that it was.
    while line := requests.readline().lstrip(STOP):
        try:
            Day(api, json.loads(line), folder, requests, answers).run()
            answers.write(DONE)
        except StoppedError:
            answers.write(DONE)
        except Exception as error:
            answers.write(FAILED + json.dumps(f"{error}" or type(error).__name__).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever is interrupted hangs up
    with os.fdopen(os.dup(1), "wb") as out, open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)  # nothing that the engine prints gets among the answers
        serve(sys.stdin.buffer, out, sys.argv[1])
