"""What can be chosen about a building, and which of its physical quantities can be perturbed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from drigm.core.errors import check
from drigm.envs.api import Held, Parameter, Strength, held

DAY_SECONDS = 24 * 60 * 60
PARAMETERS = MappingProxyType(
    {
        "weather": Parameter("C added to the outdoor temperature", (-10.0, -5.0, 5.0, 10.0), -100.0),
        "insulation": Parameter("resistance of outer walls and windows, times 1 + strength"),
        "heat_capacity": Parameter("heat capacity of every zone, times 1 + strength"),
        "occupancy": Parameter("people added to every zone", (2.0, 5.0), -1e-9),
        "ac_power": Parameter("power of every AC unit, times 1 + strength"),
        "capacity": Parameter("heat capacity of every zone, times this", (0.5, 2.0), 0.0, factor=True),
        "conductance": Parameter("of a zone's outer walls and windows, times this", (0.5, 2.0), 0.0, factor=True),
        "coupling": Parameter("conductance between zones, times this", (0.5, 2.0), 0.0, factor=True),
        "ground": Parameter("conductance to the ground, times this", (0.5, 2.0), 0.0, factor=True),
        "solar": Parameter("heat of the sun through windows, times this", (0.5, 2.0), 0.0, factor=True),
        "power": Parameter("power of a zone's AC unit, times this", (0.7, 1.3), 0.0, factor=True),
        "lag": Parameter("share of the AC's heat that arrives a step late", (0.5,), -1e-9, highest=1.0),
        "gains": Parameter("unknown heat in a zone, a share of the AC's full power", (-0.1, 0.1), -10.0, held=True),
    }
)
SOURCE = {"solar": "shgc", "ground": "ground"}  # whose weight the parameter is
NO_GAINS = Held(0.0, 0.0, 0.0)
EACH_ZONE = ("conductance", "power")  # ranges draw one for every zone


@dataclass(frozen=True)
class BuildingOptions:
    """Options of a building; the defaults are SustainGym's. Raises `UserError` on a value outside its range.

    ``levels``: power levels per agent; index k is power (k - levels/2) / (levels/2).
    ``continuous``: joint actions are powers, float [N] in [-1, 1], instead of level indices.
    ``days``: the start days that a reset draws from.
    ``corrected_ground``: give back the minus signs that four of SustainGym's ground tables lost.
    ``ac_map``: 1 for zones that have AC (and therefore an agent), a scalar or [n].
    ``target``: setpoints in C, a scalar or [n]. ``max_power``: W of one AC unit at full power, a scalar or [n].
    ``full_occ``: occupants at full occupancy, a scalar or [n].
    ``activity_sch``: metabolic rate in W, a scalar or one value per step of the year.
    ``shgc``, ``shgc_weight``, ``ground_weight``: solar heat gain coefficient and the weights of solar and ground heat.
    ``reward_beta``: weight of comfort against power. ``reward_pnorm``: p of both norms (1, 2, ..., inf).
    ``temp_range``: temperatures in C between which zones are taken to stay, only for the reward bound.
    ``warmer``: C added to the outdoor temperature. ``insulation``, ``heat_capacity``: the resistance of outer walls and
    windows, and the heat capacity of zones, are multiplied by 1 + this.
    ``conductance``: that of a zone's outer walls and windows is multiplied by it, a scalar or [n]; ``coupling``: that
    between zones. ``gains``: the range of unknown heat in each zone, as a share of the AC's full power, and for how
    many hours on average a zone keeps it (0: all the episode). ``lag``: the share of the AC's heat that arrives a step
    late.
    ``time_res``: seconds per step. ``episode_len``: steps per episode, together whole days.
    """

    levels: int = 200
    continuous: bool = False
    days: Sequence[int] = range(200)
    corrected_ground: bool = False
    ac_map: float | Sequence[float] | np.ndarray = 1
    target: float | Sequence[float] | np.ndarray = 22.0
    max_power: float | Sequence[float] | np.ndarray = 8000.0
    full_occ: float | Sequence[float] | np.ndarray = 0.0
    activity_sch: float | Sequence[float] | np.ndarray = 120.0
    shgc: float = 0.252
    shgc_weight: float = 0.01
    ground_weight: float = 0.5
    reward_beta: float = 0.999
    reward_pnorm: float = 2.0
    temp_range: tuple[float, float] = (-40.0, 40.0)
    warmer: float = 0.0
    insulation: float = 0.0
    heat_capacity: float = 0.0
    conductance: float | Sequence[float] | np.ndarray = 1.0
    coupling: float = 1.0
    gains: Held = NO_GAINS
    lag: float = 0.0
    time_res: int = 300
    episode_len: int = 288

    def __post_init__(self) -> None:
        check(self.levels >= 2, "levels", self.levels, "give an integer of 2 or more")
        check(len(self.days) > 0 and min(self.days) >= 0, "days", self.days, "give one or more days, each 0 or more")
        check(0 <= self.reward_beta <= 1, "reward_beta", self.reward_beta, "give a number from 0 to 1")
        check(self.reward_pnorm >= 1, "reward_pnorm", self.reward_pnorm, "give a number of 1 or more")
        check(
            self.gains.low <= self.gains.high and self.gains.hours >= 0, "gains", self.gains, "give lowest <= highest"
        )
        check(0 <= self.lag <= 1, "lag", self.lag, "give a share from 0 to 1")
        low, high = self.temp_range
        check(low < high, "temp_range", self.temp_range, "give (lowest, highest)")
        for name in ("insulation", "heat_capacity"):
            check(getattr(self, name) > -1, name, getattr(self, name), "give a number above -1")
        check(0 < self.time_res <= 3600, "time_res", self.time_res, "give 1 to 3600 seconds")
        seconds = self.episode_len * self.time_res
        whole_days = seconds > 0 and seconds % DAY_SECONDS == 0
        check(whole_days, "episode_len", self.episode_len, "episode_len * time_res must be whole days")

    def per_zone(self, field: str, n: int) -> np.ndarray:
        """The value of a scalar-or-[n] option as float64 [n]."""
        value = np.asarray(getattr(self, field), dtype=np.float64)
        check(value.shape in ((), (n,)), field, getattr(self, field), f"give one number or one for each of {n} zones")
        return np.broadcast_to(value, (n,))

    def agent_zones(self, n: int) -> np.ndarray:
        """Indices [N] of the zones that have AC."""
        ac_map = self.per_zone("ac_map", n)
        valid = np.isin(ac_map, (0, 1)).all() and ac_map.any()
        check(bool(valid), "ac_map", self.ac_map, "give 1 or 0 for each zone, at least one 1")
        return np.flatnonzero(ac_map)


def parameters(n: int) -> dict[str, Parameter]:
    """The `PARAMETERS` of a building of ``n`` zones."""
    return {name: p._replace(size=n) if name in EACH_ZONE else p for name, p in PARAMETERS.items()}


def varied(options: BuildingOptions, n: int, strengths: Mapping[str, Strength]) -> dict[str, Any]:
    """The options of ``n`` zones that `PARAMETERS` with ``strengths`` change."""
    changed: dict[str, Any] = {}
    for name, strength in strengths.items():
        if name == "gains":
            changed[name] = held(strength)
            continue
        factor: Any = strength
        if name == "weather":
            changed["warmer"] = options.warmer + factor
        elif name == "occupancy":
            changed["full_occ"] = options.per_zone("full_occ", n) + factor
        elif name in ("ac_power", "power"):
            power = changed.get("max_power", options.per_zone("max_power", n))
            changed["max_power"] = power * (factor if name == "power" else 1.0 + factor)
        elif name in ("heat_capacity", "capacity"):
            capacity = 1.0 + changed.get("heat_capacity", options.heat_capacity)
            changed["heat_capacity"] = capacity * (factor if name == "capacity" else 1.0 + factor) - 1.0
        elif name == "insulation":
            changed[name] = (1.0 + options.insulation) * (1.0 + factor) - 1.0
        elif name in ("solar", "ground"):
            changed[f"{SOURCE[name]}_weight"] = getattr(options, f"{SOURCE[name]}_weight") * factor
        elif name == "lag":
            changed[name] = factor
        elif name == "conductance":
            changed[name] = options.per_zone(name, n) * factor
        else:
            changed[name] = getattr(options, name) * factor
    return changed
