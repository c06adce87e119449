"""EnergyPlus as a PettingZoo `ParallelEnv`: one agent for each zone that has a thermostat."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv

from drigm.core.errors import check, choose
from drigm.core.types import EnvSpec
from drigm.envs.building.simulator import occupant_heat
from drigm.envs.energyplus import idf, weather
from drigm.envs.energyplus.engine import Engine, Reading, Task
from drigm.envs.energyplus.engine_process import STEP_SECONDS
from drigm.envs.energyplus.environment import spec_of

STEPS = 288  # of a day
TARGET = 22.0  # C
METABOLISM = 120.0  # W, of the occupant whose heat is observed
COMFORT_WEIGHT, POWER_WEIGHT = 0.999, 0.024  # SustainGym's reward_beta, and 24 (1 - reward_beta)
KWH = 3.6e6  # J
MODES = ("power", "setpoint")
GAINS = ("none", "office")
SET_POINT_SPAN = 4.0  # K on either side of the target
DEAD_BAND = 0.5  # K on either side of a set point, in which a zone is neither heated nor cooled
# The controller of the warm-up. Within four days it brings every zone within 0.04 K of the target.
WARMUP_GAIN, WARMUP_INTEGRAL = 14.0, 0.5  # W/(m2 K), and the share of it that the sum of errors has
# Bounds of observations, wider than what a day of full power can reach; GHI may pass the highest hour's mean.
ZONE_RANGE, OUTDOOR_RANGE, GROUND_RANGE, GHI_RANGE = (-80.0, 160.0), (-60.0, 60.0), (-40.0, 60.0), (0.0, 1.5)


class ParallelEnergyPlusEnv(ParallelEnv[str, np.ndarray, Any]):
    """One building for one day at a time; made by `drigm.envs.energyplus.parallel_env`.

    Observation, float32 [5]: own zone temperature, outdoor, ground (C), GHI (fraction of the year's highest) and the
    heat of one occupant (kW), as in `drigm.envs.building`. Action: ``Discrete(levels)``; level k is the fraction
    ``(k - levels / 2) / (levels / 2)``, of the zone's power or of the way from the target to the last set point.
    Every agent's reward is the whole reward, as in SustainGym. Episodes are only ever truncated.
    """

    metadata: dict[str, Any] = {"name": "drigm_energyplus", "render_modes": [], "is_parallelizable": True}  # noqa: RUF012
    render_mode = None
    max_steps = STEPS

    def __init__(
        self,
        building: str,
        city: str,
        *,
        gains: str,
        mode: str,
        days: int | Sequence[int],
        levels: int,
        max_power: float | Sequence[float] | None,
    ) -> None:
        choose("gains", gains, GAINS)
        choose("mode", mode, MODES)
        self._zones, self._weather = idf.zones(building), weather.city_weather(city)
        self._building, self._occupied, self._mode, self._levels = building, gains == "office", mode, levels
        self._choices = _days(days)
        self._max_power = _powers(self._zones, max_power)
        agents = [self._zones.names[zone] for zone in self._zones.conditioned]
        self.spec = spec_of(f"{building}/{city}", agents, levels)
        self.reward_range = tuple(x / self.spec.num_agents for x in self.spec.reward_range)  # of one agent
        self.possible_agents, self.agents = list(self.spec.agents), list[str]()
        self.regulated = _regulated(self.spec)  # what a controller holds at which setpoint
        self._generator = np.random.default_rng()
        self._engine = Engine()
        shared = [OUTDOOR_RANGE, GROUND_RANGE, GHI_RANGE, _heat_range()]
        self.state_space = _box([ZONE_RANGE] * len(self._zones.names) + shared)
        self.observation_spaces = {agent: _box([ZONE_RANGE, *shared]) for agent in self.possible_agents}
        self.action_spaces = {agent: gymnasium.spaces.Discrete(levels) for agent in self.possible_agents}

    def observation_space(self, agent: str) -> gymnasium.Space:
        """Return the same `Box` object at each call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gymnasium.Space:
        """Return the same `Discrete` object at each call."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Start a day at midnight, every zone with a thermostat near 22 C; a day that is not over is given up.

        ``options={"day": d}`` picks day d of the year, from 0. Without it, ``seed`` picks ``days[seed % len(days)]``,
        which for the default days is day ``seed`` as in SustainGym; without either, the day is drawn, and the last
        seed that was given decides the draws after it.

        Raises:
            UserError: the day is not one of the year's, or the engine failed.
        """
        if seed is not None:
            self._generator = np.random.default_rng(seed)
        day = (options or {}).get("day")
        if day is None:
            index = self._generator.integers(2**31) if seed is None else seed
            day = self._choices[int(index) % len(self._choices)]
        check(_is_day(day), "day", day, f"give an integer from 0 to {weather.DAYS - 1}")
        self.day, self._steps, self.agents = int(day), 0, []
        reading = self._engine.start(self._task(self.day))
        self.agents = self.possible_agents[:]
        return self._observe(reading), {agent: {"day": self.day} for agent in self.agents}

    def step(self, actions: dict[str, Any]):
        """Step five minutes with every agent's action, by agent id.

        Returns:
            Observations, rewards, terminations, truncations and infos, by agent id. An info has the ``day``; of the
            step that was taken, ``thermal_kwh``, the heat brought to and taken from the agent's zone, and in mode
            ``setpoint`` the whole building's ``electric_kwh`` and ``gas_kwh`` for air conditioning.

        Raises:
            UserError: an action is missing or outside, or the engine failed.
        """
        agents = self.agents
        if not agents:
            return {}, {}, {}, {}, {}
        fractions = self._fractions(actions)
        try:
            reading = self._engine.step(self._settings(fractions))
        except BaseException:
            self.agents = []
            raise
        self._steps += 1
        truncated = self._steps >= STEPS
        if truncated:
            self.agents = []
            self._engine.stop()
        return (
            self._observe(reading),
            dict.fromkeys(agents, self._reward(fractions, reading)),
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, truncated),
            self._infos(fractions, reading),
        )

    def state(self) -> np.ndarray:
        """Return all n zone temperatures, outdoor, ground, GHI, occupant's heat: float32 [n + 4], physical units."""
        return self._state.copy()

    def render(self) -> None:
        """Draw nothing: `metadata` lists no render mode."""

    def close(self) -> None:
        """End the engine's process; a reset starts another."""
        self.agents = []
        self._engine.close()

    def _task(self, day: int) -> Task:
        zones, controlled = self._zones, self._mode == "setpoint"
        names = [zones.names[zone] for zone in zones.conditioned]
        power = [["OtherEquipment", "Power Level", f"AGENT {name}"] for name in names]
        sides = ("Heating Setpoint", "Cooling Setpoint")
        limits = [["Zone Temperature Control", side, name] for side in sides for name in names]
        gains = (WARMUP_GAIN * zones.floor_area[zones.conditioned]).tolist()
        pi = {"target": TARGET, "gains": gains, "integral": WARMUP_INTEGRAL}
        return Task(
            idf=idf.write_idf(self._building, self._weather, day, gains=self._occupied, air_conditioned=controlled),
            epw=weather.epw(self._weather, day),
            zones=list(zones.names),
            conditioned=zones.conditioned.tolist(),
            actuators=limits if controlled else power,
            hold={"settings": self._settings(np.zeros(len(names))).tolist()} if controlled else pi,
            measures_energy=controlled,
        )

    def _fractions(self, actions: dict[str, Any]) -> np.ndarray:
        """Return the fractions [N] in [-1, 1) that the agents' levels stand for."""
        missing = [agent for agent in self.agents if agent not in actions]
        check(not missing, "actions", sorted(actions), f"every live agent needs an action, missing: {missing}")
        joint = [operator.index(np.asarray(actions[agent]).item()) for agent in self.agents]
        allowed = f"give levels from 0 to {self._levels - 1}"
        check(min(joint) >= 0 and max(joint) < self._levels, "actions", joint, allowed)
        return (np.array(joint) - self._levels / 2) / (self._levels / 2)

    def _settings(self, fractions: np.ndarray) -> np.ndarray:
        """Return what the actuators are set to: W [N], or lowest and highest temperatures [2 N]."""
        if self._mode == "power":
            return fractions * self._max_power
        set_points = TARGET + SET_POINT_SPAN * fractions
        return np.concatenate([set_points - DEAD_BAND, set_points + DEAD_BAND])

    def _reward(self, fractions: np.ndarray, reading: Reading) -> float:
        """Return SustainGym's reward; of set points, the power is what was bought, as if shared in equal parts."""
        error = reading.temperatures[self._zones.conditioned] - TARGET
        if self._mode == "setpoint":
            share = reading.purchased.sum() / (STEP_SECONDS * self._max_power.sum())
            fractions = np.full(len(fractions), share)
        return float(-(POWER_WEIGHT * np.linalg.norm(fractions) + COMFORT_WEIGHT * np.linalg.norm(error)))

    def _infos(self, fractions: np.ndarray, reading: Reading) -> dict[str, dict[str, Any]]:
        bought: dict[str, float] = {}
        thermal = np.abs(fractions) * self._max_power * STEP_SECONDS
        if self._mode == "setpoint":
            thermal = reading.thermal.sum(axis=0)
            electric, gas = reading.purchased / KWH
            bought = {"electric_kwh": float(electric), "gas_kwh": float(gas)}
        return {
            agent: {"day": self.day, "thermal_kwh": float(heat / KWH), **bought}
            for agent, heat in zip(self.possible_agents, thermal, strict=True)
        }

    def _observe(self, reading: Reading) -> dict[str, np.ndarray]:
        """Return the observations by agent; keeps the state."""
        outdoor, direct, diffuse, altitude = reading.site
        ghi = (diffuse + direct * max(0.0, np.sin(np.radians(altitude)))) / self._weather.ghi_max
        ground = self._weather.ground[weather.date_of(self.day).month - 1]
        heat = occupant_heat(reading.temperatures.mean(), METABOLISM) / 1000.0
        shared = [outdoor, ground, ghi, heat]
        self._state = np.array([*reading.temperatures, *shared], np.float32)
        own = reading.temperatures[self._zones.conditioned]
        return {
            agent: np.array([temperature, *shared], np.float32)
            for agent, temperature in zip(self.possible_agents, own, strict=True)
        }


def _regulated(spec: EnvSpec) -> dict[str, Any]:
    assert spec.action_values is not None
    return {"reading": 0, "setpoint": TARGET, "levels": spec.action_values.tolist()}


def _is_day(day: Any) -> bool:
    return int(day) == day and 0 <= day < weather.DAYS


def _days(days: int | Sequence[int]) -> list[int]:
    chosen = [days] if isinstance(days, int) else list(days)
    ok = bool(chosen) and all(_is_day(day) for day in chosen)
    check(ok, "days", days, f"give one or more days of the year, each from 0 to {weather.DAYS - 1}")
    return [int(day) for day in chosen]


def _powers(zones: idf.Zones, max_power: float | Sequence[float] | None) -> np.ndarray:
    """Return the W [N] of the agents' units."""
    if max_power is None:
        return zones.max_power
    watts = np.asarray(max_power, np.float64)
    ok = watts.shape in ((), zones.max_power.shape) and bool((watts > 0).all())
    check(ok, "max_power", max_power, f"give W, one number or one for each of {len(zones.max_power)} agents")
    return np.broadcast_to(watts, zones.max_power.shape)


def _heat_range() -> tuple[float, float]:
    heat = [occupant_heat(t, METABOLISM) / 1000.0 for t in np.linspace(*ZONE_RANGE, 101)]
    return min(heat), max(heat)


def _box(ranges: list[tuple[float, float]]) -> gymnasium.spaces.Box:
    low, high = np.array(ranges, np.float32).T
    return gymnasium.spaces.Box(low, high)
