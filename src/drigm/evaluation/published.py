"""What a score is compared with: the paper's table, its authors' released networks, controllers that do not learn.

The numbers and where they come from stand in ``data/references/``.
"""

from __future__ import annotations

import csv
import functools
import math
from importlib import resources
from typing import NamedTuple

from drigm.core.config import TrainConfig
from drigm.core.errors import choose

PAPER_CITIES = {"Tucson": "seasonal", "NewYork": "climate+season"}  # what the paper's table calls them
PAPER_METHODS = {"nominal": "nonrobust", "contamination": "contamination", "tv": "tv", "groupdr": "groupdr"}
CONTROLLERS = ("do_nothing", "p", "pi", "pi_tuned", "one_step_optimum")


class Reference(NamedTuple):
    """A published or recomputed score: mean and standard error over 5 training seeds (nan for a controller)."""

    mean: float
    se: float = math.nan


def paper_score(city: str, factorization: str, method: str) -> Reference | None:
    """Return the cell of the paper's table, or None where it has none.

    Args:
        city: ``Tucson`` or ``NewYork``; the table has no other.
        factorization: ``vdn``, ``qmix`` or ``qtran``.
        method: ``nominal``, ``contamination``, ``tv`` or ``groupdr``, with the radius of `paper_rho`.
    """
    for row in _table("paper_table.csv"):
        if (row["shift"], row["method"]) == (PAPER_CITIES.get(city), PAPER_METHODS.get(method)):
            return _cell(row, factorization)
    return None


def authors_score(city: str, factorization: str, method: str) -> Reference | None:
    """Return what the authors' released networks score in one of the six cities, or None for an unknown combination.

    Arguments as `paper_score`, with all six cities.
    """
    row = _authors_row(factorization, method)
    return _cell(row, city) if row else None


def authors_radii(city: str, factorization: str, method: str) -> dict[float, Reference]:
    """Return what the authors' networks score in a city by radius, rising; 0 is their non-robust one.

    Args:
        city: one of the six.
        factorization: ``vdn``, ``qmix`` or ``qtran``.
        method: ``tv`` or ``contamination``; few radii have networks.
    """
    rows = [*filter(None, (_authors_row(factorization, name) for name in ("nominal", method)))]
    rows += [r for r in _table("authors_ablation.csv") if (r["factorization"], r["method"]) == (factorization, method)]
    found = {float(row["rho"]): cell for row in rows if (cell := _cell(row, city)) is not None}
    return dict(sorted(found.items()))


def reference_method(config: TrainConfig) -> str:
    """Return what the references call the method of ``config``: its baseline, or its uncertainty set.

    A set of radius 0 holds the nominal model alone, and gamma (1 - 0) is gamma: both are the non-robust method.
    """
    if config.baseline == "none":
        return config.uncertainty if config.rho else "nominal"
    return "nominal" if config.baseline == "short_horizon" and not config.rho else config.baseline


def paper_rho(factorization: str, method: str) -> float | None:
    """Return the radius behind the paper's cells, 0 where the method has none; None for an unknown combination."""
    row = _authors_row(factorization, method)
    return float(row["rho"]) if row else None


def controller_score(city: str, controller: str) -> float:
    """Return what one of `CONTROLLERS` (see `drigm.evaluation.controllers`) scores in one of the six cities.

    Raises:
        UserError: an unknown controller or city.
    """
    choose("controller", controller, CONTROLLERS)
    scores = {row["world"]: float(row[controller]) for row in _table("controllers.csv")}
    choose("city", city, tuple(scores))
    return scores[city]


def _authors_row(factorization: str, method: str) -> dict[str, str] | None:
    wanted = (factorization, method)
    return next(
        (row for row in _table("authors_networks.csv") if (row["factorization"], row["method"]) == wanted), None
    )


def _cell(row: dict[str, str], name: str) -> Reference | None:
    """The columns ``name`` and ``name_se`` of a row."""
    return Reference(float(row[name]), float(row[f"{name}_se"])) if f"{name}_se" in row else None


@functools.cache
def _table(file: str) -> list[dict[str, str]]:
    text = (resources.files("drigm.evaluation") / "data" / file).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
