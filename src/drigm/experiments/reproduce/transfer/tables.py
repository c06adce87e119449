"""The study's scores as CSV, and a table for each place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drigm.evaluation import statistics as st
from drigm.evaluation.controllers import TITLES
from drigm.evaluation.statistics import Interval
from drigm.experiments.reproduce.transfer.measures import MEASURES, Measured
from drigm.report.tables import markdown_table, write_csv
from drigm.runtime.files import write_text

PLACE_TITLES = {"office": "EnergyPlus, occupied", "none": "EnergyPlus, empty"}
ENERGY = "electric_kwh"  # only where machines are modelled


Predictions = Mapping[str, tuple[float, float]]


def write_tables(out: Path, found: Sequence[Measured], predicted: Predictions) -> list[Path]:
    """Write scores.csv, a line for each row, place, city and seed, and table.md; return both."""
    lines: list[list[Any]] = [["row", "place", "city", "seed", *MEASURES]]
    for one in found:
        for w, city in enumerate(one.cities):
            for k in range(one.values["score"].shape[1]):
                lines.append([one.row, one.place, city, k, *(f"{one.values[name][w, k]:.5f}" for name in MEASURES)])
    write_csv(out / "scores.csv", lines)
    write_text(out / "predicted.json", json.dumps(predicted, indent=1))
    parts = [
        f"## {title}\n\n{markdown_table(rows)}"
        for place, title in PLACE_TITLES.items()
        if (rows := table_rows([one for one in found if one.place == place], predicted))
    ]
    write_text(out / "table.md", "\n\n".join(parts) + "\n")
    return [out / "scores.csv", out / "table.md"]


def table_rows(found: Sequence[Measured], predicted: Predictions) -> list[dict[str, Any]]:
    """Return the rows of one place: means over cities, Student's interval of the difference from PI over seeds."""
    pi = pi_score(found)
    rows = []
    for one in found:
        seeds = seed_scores(one)
        row: dict[str, Any] = {"row": one.row, "seeds": len(seeds), "score": f"{seeds.mean():.4f}"}
        row["worst city"] = f"{one.values['score'].mean(axis=1).min():.4f}"
        row["less PI"] = _difference(seeds, pi)
        row["mean error, K"] = f"{one.values['mean_error'].mean():.3f}"
        row["degree hours"] = f"{one.values['degree_hours'].mean():.2f}"
        row["thermal kWh"] = f"{one.values['thermal_kwh'].mean():.1f}"
        row["electric kWh"] = f"{one.values[ENERGY].mean():.1f}" if ENERGY in one.values else ""
        oscillation = float(one.values["oscillation"].mean())
        row["oscillation"] = "" if np.isnan(oscillation) else f"{oscillation:.4f}"
        row |= _prediction(float(seeds.mean()), predicted.get(one.row))
        rows.append(row)
    return rows


def seed_scores(one: Measured) -> np.ndarray:
    """Return the scores [K] of the seeds, means over the cities."""
    return one.values["score"].mean(axis=0)


def pi_score(found: Sequence[Measured]) -> float | None:
    """Return the hand-picked PI's score in the place of ``found``; None if it was not played."""
    return next((float(one.values["score"].mean()) for one in found if one.row == TITLES["pi"]), None)


def difference(seeds: np.ndarray, other: float) -> Interval:
    """Return the mean of ``seeds`` [K] less a number, with Student's interval; nan ends for one seed."""
    return st.interval((seeds - other)[:, None], st.mean)


def _difference(seeds: np.ndarray, other: float | None) -> str:
    if other is None or len(seeds) < 2:
        return "" if other is None else f"{seeds.mean() - other:+.4f}"
    found = difference(seeds, other)
    return f"{found.estimate:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def _prediction(score: float, ends: tuple[float, float] | None) -> dict[str, str]:
    if ends is None:
        return {"predicted": "", "within": ""}
    low, high = ends
    return {"predicted": f"{low:.3f} to {high:.3f}", "within": "yes" if low <= score <= high else "no"}
