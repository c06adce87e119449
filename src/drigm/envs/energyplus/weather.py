"""The weather of the protocol's six cities as EnergyPlus reads it, written from small shipped arrays."""

from __future__ import annotations

import datetime as dt
import functools
from importlib import resources
from typing import NamedTuple

import numpy as np

from drigm.core.errors import choose
from drigm.envs.building import dataset

YEAR = 2017  # of the simulated days, not of the weather: 1 January is a Sunday, as in the weather files
DAYS = 365
# One line of an EPW file, with the columns that the engine reads; every other one says "missing".
_LINE = (
    "{year},{month},{day},{hour},60,?,{:.1f},{:.1f},{:.0f},{:.0f},9999,9999,{:.0f},9999,{:.0f},{:.0f},"
    "999999,999999,999999,9999,{:.0f},{:.1f},99,99,9999,99999,9,999999999,999,.999,0,88,.2,{:.1f},99"
)


class CityWeather(NamedTuple):
    """One typical year at one place."""

    latitude: float  # degrees
    longitude: float  # degrees
    time_zone: float  # hours from UTC
    elevation: float  # m
    columns: np.ndarray  # [10, 8760]: dry bulb C, dew point C, relative humidity %, pressure Pa, infrared Wh/m2,
    # direct normal and diffuse Wh/m2, wind degrees, wind m/s, rain mm (999: unknown)
    ground: np.ndarray  # [12] C, January first: what lies under an F-factor floor
    ghi_max: float  # Wh/m2, the year's highest global horizontal irradiance


@functools.cache
def city_weather(city: str) -> CityWeather:
    """Return the year of ``city``, one of the published protocol's six; raises `UserError` on another name."""
    choose("city", city, tuple(dataset.PROTOCOL_CITIES))
    climate, ground = dataset.PROTOCOL_CITIES[city]
    with (
        resources.as_file(resources.files("drigm.envs.energyplus") / "data" / "weather.npz") as path,
        np.load(path, allow_pickle=False) as arrays,
    ):
        columns = arrays[f"{city}/columns"] * arrays["units"][:, None]
        location = [float(x) for x in arrays[f"{city}/location"]]
    ghi_max = float(dataset.weather(climate).ghi.max())
    return CityWeather(*location, columns=columns, ground=dataset.ground(ground), ghi_max=ghi_max)


def date_of(day: int) -> dt.date:
    """Return the date of ``day``, counted from 0 on 1 January."""
    return dt.date(YEAR, 1, 1) + dt.timedelta(days=int(day))


def epw(weather: CityWeather, day: int) -> str:
    """Return an EPW file of ``day`` and the next, all that the engine reads to simulate ``day``.

    The whole year would take it as long to read as the day to simulate.
    """
    last = min(day + 1, DAYS - 1)
    place = f"{weather.latitude},{weather.longitude},{weather.time_zone},{weather.elevation}"
    first_date, last_date = date_of(day), date_of(last)
    period = f"{first_date:%A},{first_date.month}/{first_date.day},{last_date.month}/{last_date.day}"
    lines = [
        f"LOCATION,City,State,Country,TMY3,999999,{place}",
        "DESIGN CONDITIONS,0",
        "TYPICAL/EXTREME PERIODS,0",
        "GROUND TEMPERATURES,0",
        "HOLIDAYS/DAYLIGHT SAVINGS,No,0,0,0",
        "COMMENTS 1,NREL TMY3",
        "COMMENTS 2,",
        f"DATA PERIODS,1,1,Data,{period}",
    ]
    for hour in range(24 * day, 24 * (last + 1)):
        date = date_of(hour // 24)
        when = {"year": YEAR, "month": date.month, "day": date.day, "hour": hour % 24 + 1}
        lines.append(_LINE.format(*weather.columns[:, hour], **when))
    return "\n".join(lines) + "\n"
