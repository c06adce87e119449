"""One simulated day of EnergyPlus, stepped from outside.

The engine owns the loop and calls back. So it runs in a thread of its own, which waits in a callback for what the
agents do; callbacks may not raise, so an error is kept, the engine stopped, and the error raised in `Day.step`.
"""

from __future__ import annotations

import ctypes
import functools
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drigm.core.errors import UserError

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
LONGEST = 300  # characters of the engine's errors that get into a message


class Reading(NamedTuple):
    """What is measured at the end of a step; at the start of the day with energies of 0."""

    temperatures: np.ndarray  # [n] C, mean air temperature of every zone
    site: np.ndarray  # [4] outdoor C, direct normal and diffuse W/m2, solar altitude degrees
    thermal: np.ndarray  # [2, N] J of heating and cooling that the air conditioning brought; 0 where there is none
    purchased: np.ndarray  # [2] J of electricity and gas for air conditioning; 0 where there is none


class Actuator(NamedTuple):
    """Something of the engine that can be set: its names in the engine's three parts."""

    component: str
    control: str
    key: str


class Task(NamedTuple):
    """One day to simulate.

    ``hold(temperatures)`` gives the settings of the repetitions of the day that warm the building up; made anew by
    ``holder`` for each day, because it may have a memory.
    """

    idf: str
    epw: str
    zones: tuple[str, ...]  # n, upper case
    conditioned: np.ndarray  # [N]
    actuators: tuple[Actuator, ...]  # what a step sets
    holder: Callable[[], Callable[[np.ndarray], np.ndarray]]
    measures_energy: bool


class _StoppedError(Exception):
    """The day is given up."""


@functools.cache
def api() -> Any:
    """Return the engine's Python interface; raises `UserError` where the package is missing."""
    try:
        from pyenergyplus.api import EnergyPlusAPI
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "pyenergyplus":
            raise
        raise UserError('energyplus needs the engine: pip install "drigm[energyplus]".') from None
    return EnergyPlusAPI()


class Day:
    """One day in the engine, from its first reading on; `step` until it is over, or `close`.

    Attributes:
        reading: what was measured last.
    """

    def __init__(self, task: Task) -> None:
        self._api, self._task, self._error = api(), task, None
        self._settings: queue.SimpleQueue[np.ndarray | None] = queue.SimpleQueue()
        self._readings: queue.SimpleQueue[Reading | None] = queue.SimpleQueue()
        self._handles: _Handles | None = None
        self._hold: Callable[[np.ndarray], np.ndarray] = task.holder()
        self._started = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.reading = self._next()

    def step(self, settings: Sequence[float] | np.ndarray) -> Reading:
        """Set the actuators, simulate a step and return what was measured at its end.

        Raises:
            UserError: the engine failed; the message has the end of what it says.
        """
        self._settings.put(np.asarray(settings, np.float64))
        self.reading = self._next()
        return self.reading

    def close(self) -> None:
        """End the engine and wait for it, whether the day is over or not; may be called again."""
        self._settings.put(None)
        self._thread.join()

    def _next(self) -> Reading:
        reading = self._readings.get()
        if reading is not None:
            return reading
        self._thread.join()
        error = self._error or RuntimeError("the engine ended before the day was over")
        if isinstance(error, UserError):
            raise error
        raise UserError(f"EnergyPlus failed: {type(error).__name__}: {error}.") from error

    # Everything below runs on the engine's thread.

    def _run(self) -> None:
        folder = tempfile.mkdtemp(prefix="drigm_energyplus_")
        try:
            self._simulate(Path(folder))
        except BaseException as error:
            self._error = self._error or error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            _trim()
            self._readings.put(None)

    def _simulate(self, folder: Path) -> None:
        (folder / "in.idf").write_text(self._task.idf)
        (folder / "in.epw").write_text(self._task.epw)
        runtime, exchange, states = self._api.runtime, self._api.exchange, self._api.state_manager
        state = states.new_state()
        try:
            runtime.set_console_output_status(state, False)
            for name, key in _variables(self._task):
                exchange.request_variable(state, name, key)
            with _Callbacks(self._guarded(self._act), self._guarded(self._measure)) as callbacks:
                callbacks.register(runtime, state)
                code = runtime.run_energyplus(
                    state, ["-w", str(folder / "in.epw"), "-d", str(folder), str(folder / "in.idf")]
                )
        finally:
            states.delete_state(state)
        if code != 0 and self._error is None:
            self._error = UserError(f"EnergyPlus failed: {_last_words(folder)}.")

    def _guarded(self, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        def guarded(state: Any) -> None:
            if self._error is not None:
                return
            try:
                callback(state)
            except BaseException as error:
                self._error = error
                self._api.runtime.stop_simulation(state)

        return guarded

    def _act(self, state: Any) -> None:
        """At the start of each step."""
        exchange = self._api.exchange
        if not exchange.api_data_fully_ready(state) or exchange.kind_of_sim(state) != WEATHER_RUN:
            return
        if self._handles is None:
            self._handles = _Handles.find(exchange, state, self._task)
        if exchange.warmup_flag(state):
            settings = self._hold(self._handles.temperatures(exchange, state))
        else:
            if not self._started:
                self._started = True
                self._readings.put(self._handles.read(exchange, state, energies=False))
            settings = self._settings.get()
            if settings is None:
                raise _StoppedError
        for handle, value in zip(self._handles.actuators, settings, strict=True):
            exchange.set_actuator_value(state, handle, float(value))

    def _measure(self, state: Any) -> None:
        """At the end of each step."""
        if self._started and self._handles is not None:
            self._readings.put(self._handles.read(self._api.exchange, state, energies=self._task.measures_energy))


class _Handles(NamedTuple):
    """The engine's numbers for what is read and set."""

    zones: list[int]
    site: list[int]
    thermal: list[list[int]]
    meters: list[int]
    actuators: list[int]

    @classmethod
    def find(cls, exchange: Any, state: Any, task: Task) -> _Handles:
        agents = [task.zones[zone] for zone in task.conditioned] if task.measures_energy else []
        variable = functools.partial(exchange.get_variable_handle, state)
        found = cls(
            zones=[variable("Zone Mean Air Temperature", zone) for zone in task.zones],
            site=[variable(name, "Environment") for name in SITE],
            thermal=[[variable(name, zone) for zone in agents] for name in THERMAL],
            meters=[exchange.get_meter_handle(state, name) for name in METERS] if agents else [],
            actuators=[exchange.get_actuator_handle(state, *actuator) for actuator in task.actuators],
        )
        must = [*found.zones, *found.site, *found.actuators, *(handle for row in found.thermal for handle in row)]
        if min(must) < 0:
            raise UserError("EnergyPlus failed: the building lacks a zone, a variable or an actuator that is needed.")
        return found

    def temperatures(self, exchange: Any, state: Any) -> np.ndarray:
        return np.array([exchange.get_variable_value(state, handle) for handle in self.zones])

    def read(self, exchange: Any, state: Any, *, energies: bool) -> Reading:
        thermal, purchased = np.zeros((2, len(self.thermal[0]))), np.zeros(2)
        if energies:
            value = functools.partial(exchange.get_variable_value, state)
            thermal = STEP_SECONDS * np.array([[value(handle) for handle in row] for row in self.thermal])
            # A meter that the building has no use for, such as gas, has no handle.
            purchased = np.array([exchange.get_meter_value(state, h) if h >= 0 else 0.0 for h in self.meters])
        site = np.array([exchange.get_variable_value(state, handle) for handle in self.site])
        return Reading(self.temperatures(exchange, state), site, thermal, purchased)


def _variables(task: Task) -> list[tuple[str, str]]:
    """Return the output variables that are read, with their keys; the engine must be told before it starts."""
    thermal = [(name, task.zones[zone]) for name in THERMAL for zone in task.conditioned]
    return [
        *(("Zone Mean Air Temperature", zone) for zone in task.zones),
        *((name, "Environment") for name in SITE),
        *(thermal if task.measures_energy else []),
    ]


class _Callbacks:
    """Callbacks of one run, which the engine's package would otherwise keep for ever."""

    def __init__(self, begin: Callable[[Any], None], end: Callable[[Any], None]) -> None:
        self._begin, self._end = begin, end

    def __enter__(self) -> _Callbacks:
        return self

    def register(self, runtime: Any, state: Any) -> None:
        # Functions of two names: the package looks at how many arguments they take.
        runtime.callback_begin_zone_timestep_before_init_heat_balance(state, lambda s: self._begin(s))
        runtime.callback_end_zone_timestep_after_zone_reporting(state, lambda s: self._end(s))

    def __exit__(self, *error: object) -> None:
        self._begin = self._end = lambda s: None


def _last_words(folder: Path) -> str:
    """Return the last severe error of the engine's log, in one line."""
    log = folder / "eplusout.err"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    told = [" ".join(line.strip(" *").split()) for line in lines if "** Severe" in line or "**  Fatal" in line]
    text = "; ".join(told[-2:]) or "it left no error log"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _trim() -> None:
    """Give memory that the engine freed back to the system, where the C library can.

    A hundred days in threads of their own would otherwise hold 500 MB.
    """
    trimmer = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trimmer is not None:
        trimmer(0)
