"""What was measured beside what was published."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from drigm.envs import make_env
from drigm.evaluation import statistics as st
from drigm.evaluation.controllers import TITLES, score_controllers
from drigm.evaluation.published import (
    CONTROLLERS,
    PAPER_CITIES,
    authors_score,
    controller_score,
    paper_rho,
    paper_score,
    reference_method,
)
from drigm.experiments.reproduce.runner import Scored
from drigm.experiments.reproduce.studies import BUILDING_ENV
from drigm.report.figures.aggregates import aggregate_rows, best_known
from drigm.report.tables import Score, scores_by_world

Pair = tuple[Scored, Scored]  # the first is compared with the second
METHODS = ("nominal", "groupdr", "tv", "contamination")  # the rows of the paper's table, under the references' names


def fewer_seeds(pair: Pair) -> int:
    """Return the seeds of the method that has fewer."""
    return min(len(one.seeds) for one in pair)


def interval_text(interval: st.Interval, digits: int = 3) -> str:
    """Return ``estimate [low, high]``."""
    estimate, low, high = (f"{x:.{digits}f}" for x in interval)
    return f"{estimate} [{low}, {high}]"


def find(scored: Iterable[Scored], factorization: str, method: str, rho: float | None = None) -> Scored | None:
    """Return the run of a method, at the paper's radius unless ``rho`` is given; None if it was not trained."""
    wanted = paper_rho(factorization, method) if rho is None else rho
    for one in scored:
        config = one.config
        if (config.factorization, reference_method(config)) == (factorization, method) and config.rho == (
            wanted or 0.0
        ):
            return one
    return None


def in_table(one: Scored) -> bool:
    """Return whether a run is a row of the paper's main table."""
    config, method = one.config, reference_method(one.config)
    of_paper = method in METHODS and config.rho == (paper_rho(config.factorization, method) or 0.0)
    return one.evaluation.suite == "climate" and of_paper


def factorizations_of(scored: Iterable[Scored]) -> list[str]:
    """Return the factorizations that were trained, each once."""
    return list(dict.fromkeys(one.config.factorization for one in scored))


def matrix(one: Scored) -> np.ndarray:
    """Return the scores [K seeds, W worlds] of a run."""
    return np.array([world.per_seed for world in one.evaluation.scores]).T


def worlds_of(one: Scored) -> list[str]:
    """Return the names of the worlds that a run was scored in."""
    return [world.name for world in one.evaluation.scores]


def beside_paper(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """Return a row for each cell of the paper's table: the paper, the authors' networks, ours, and the difference.

    A cell whose method was not trained says so by being empty; rows of factorizations that were not trained are left
    out.
    """
    rows = []
    for factorization in factorizations_of(scored):
        for method in METHODS:
            for city, called in PAPER_CITIES.items():
                paper, authors = (look_up(city, factorization, method) for look_up in (paper_score, authors_score))
                one = find(scored, factorization, method)
                radius = paper_rho(factorization, method) or 0.0
                name = {"nominal": "non-robust", "groupdr": "GroupDR", "tv": f"TV {radius:g}"}
                row: dict[str, Any] = {
                    "factorization": factorization.upper(),
                    "method": name.get(method, f"contamination {radius:g}"),
                    "shift": f"{called} ({city})",
                    "paper": Score(*paper) if paper else None,
                    "authors' networks": Score(*authors) if authors else None,
                }
                if one:
                    ours = np.array(next(w.per_seed for w in one.evaluation.scores if w.name == city))
                    row["drigm"] = st.interval(ours[:, None], st.mean)
                    row["drigm - paper"] = f"{ours.mean() - paper.mean:+.3f}" if paper else None
                rows.append(row)
    return rows


def every_world(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """Return a row for each method with its score in every world; in buildings others' and controllers' follow."""
    rows: list[dict[str, Any]] = [
        {"method": one.title, "seeds": len(one.seeds), **scores_by_world(one.evaluation.scores)} for one in scored
    ]
    if scored and scored[0].evaluation.suite == "climate" and scored[0].config.env == BUILDING_ENV:
        cities = worlds_of(scored[0])
        for factorization in factorizations_of(scored):
            for method in METHODS:
                found = {city: authors_score(city, factorization, method) for city in cities}
                cells = {city: Score(*score) for city, score in found.items() if score is not None}
                if cells:
                    rows.append({"method": f"authors' {factorization.upper()} {method}", "seeds": 5, **cells})
    return rows + [
        {"method": TITLES[name], **{world: Score(score) for world, score in scores.items()}}
        for name, scores in controllers_beside(scored).items()
    ]


def controllers_beside(scored: Sequence[Scored]) -> dict[str, dict[str, float]]:
    """Return what controllers that do not learn score in the worlds of ``scored``, by name; {} but in one building.

    In the six cities of the paper's building they are those that are shipped; elsewhere they are played now.
    """
    envs = {one.config.env for one in scored}
    if len(envs) != 1 or not (env := envs.pop()).startswith("building:"):
        return {}
    suite, tried = scored[0].evaluation.suite, worlds_of(scored[0])
    if suite == "climate" and env == BUILDING_ENV:
        return {name: {city: controller_score(city, name) for city in tried} for name in CONTROLLERS}
    found = _played(env, suite)
    return {name: {w: scores[w] for w in tried} for name, scores in found.items() if set(tried) <= set(scores)}


@functools.cache
def _played(env: str, suite: str) -> dict[str, dict[str, float]]:
    return score_controllers(make_env(env), suite)


def summary(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """Return a row for each method with its aggregates over seeds and worlds; see `drigm.report.figures.aggregates`."""
    scores = {one.title: matrix(one) for one in scored}
    return aggregate_rows(scores, worlds_of(scored[0]), limit_of(scored))


def limit_of(scored: Sequence[Scored]) -> list[float] | None:
    """Return the best known score of each world."""
    return best_known(scored[0].config.env, worlds_of(scored[0]))


def plain(rows: Sequence[dict[str, Any]], digits: int = 3) -> list[dict[str, Any]]:
    """Return ``rows`` with intervals as text, for a terminal or Markdown."""

    def text(value: Any) -> Any:
        if not isinstance(value, st.Interval):
            return value
        ends = "" if value.low != value.low else f" [{value.low:.{digits}f}, {value.high:.{digits}f}]"  # nan: one seed
        return f"{value.estimate:.{digits}f}{ends}"

    return [{key: text(value) for key, value in row.items()} for row in rows]
