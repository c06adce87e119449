"""Reference scores: the shipped numbers are those of their sources, and the controllers compute to what is shipped."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from drigm.core.errors import UserError
from drigm.envs import make_env
from drigm.envs.building.dataset import PROTOCOL_CITIES
from drigm.envs.building.one_step import one_step_optimal
from drigm.evaluation.controllers import evaluate_controller
from drigm.evaluation.published import (
    CONTROLLERS,
    PAPER_CITIES,
    PAPER_METHODS,
    authors_radii,
    authors_score,
    controller_score,
    paper_rho,
    paper_score,
)

SOURCE = Path(__file__).parents[3] / "shared" / "reference"
FACTORIZATIONS = ("vdn", "qmix", "qtran")


def sources(file):
    if not (SOURCE / file).exists():
        pytest.skip("the reference data is not beside this checkout")
    with open(SOURCE / file, newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def env():
    return make_env("building:OfficeSmall/Tucson")


def test_paper_table_is_the_source():
    methods = {printed: name for name, printed in PAPER_METHODS.items()}
    cities = {printed: name for name, printed in PAPER_CITIES.items()}
    rows = sources("paper_table.csv")
    for row in rows:
        for factorization in FACTORIZATIONS:
            found = paper_score(cities[row["shift"]], factorization, methods[row["method"]])
            assert found == (float(row[factorization]), float(row[f"{factorization}_se"]))
    assert len(rows) == 6


@pytest.mark.parametrize("factorization", FACTORIZATIONS)
@pytest.mark.parametrize("method", PAPER_METHODS)
def test_authors_scores_are_the_mean_and_error_over_seeds(factorization, method):
    recorded = "contamination" if method == "nominal" else method  # the non-robust networks: contamination, radius 0
    rho = paper_rho(factorization, method)
    assert rho is not None
    rows = [
        row
        for row in sources("authors_networks_scores.csv")
        if (row["factorization"], row["uncertainty"], float(row["rho"])) == (factorization, recorded, rho)
    ]
    assert len(rows) == 5
    for city in PROTOCOL_CITIES:
        scores = np.array([float(row[city]) for row in rows])
        np.testing.assert_allclose(
            authors_score(city, factorization, method), (scores.mean(), scores.std() / math.sqrt(5)), atol=6e-5
        )


@pytest.mark.parametrize("factorization", FACTORIZATIONS)
@pytest.mark.parametrize("method", ["tv", "contamination"])
def test_authors_radii_are_all_that_were_released(factorization, method):
    by_radius = {}
    for row in sources("authors_networks_scores.csv"):
        kind = "contamination" if float(row["rho"]) == 0 else method  # the non-robust networks: contamination, radius 0
        if (row["factorization"], row["uncertainty"]) == (factorization, kind):
            by_radius.setdefault(float(row["rho"]), []).append(row)
    for city in PROTOCOL_CITIES:
        found = authors_radii(city, factorization, method)
        assert list(found) == sorted(by_radius)
        for rho, rows in by_radius.items():
            scores = np.array([float(row[city]) for row in rows])
            np.testing.assert_allclose(found[rho], (scores.mean(), scores.std() / math.sqrt(len(rows))), atol=6e-5)


@pytest.mark.parametrize("city", PAPER_CITIES)
@pytest.mark.parametrize("method", PAPER_METHODS)
@pytest.mark.parametrize("factorization", FACTORIZATIONS)
def test_authors_networks_give_the_papers_table(city, method, factorization):
    paper = paper_score(city, factorization, method)
    if paper is not None:
        np.testing.assert_allclose(authors_score(city, factorization, method), paper, atol=1e-3)


def test_what_is_unknown():
    assert paper_score("Tampa", "qmix", "tv") is None
    assert paper_score("NewYork", "qmix", "contamination") is None
    assert paper_score("Tucson", "coma", "tv") is None
    assert authors_score("Fairbanks", "qmix", "tv") is None
    assert authors_score("Tucson", "qmix", "wasserstein") is None
    with pytest.raises(UserError, match="do_nothing"):
        controller_score("Tucson", "do_something")
    with pytest.raises(UserError, match="PortAngeles"):
        controller_score("Fairbanks", "do_nothing")


@pytest.mark.slow
def test_controllers_compute_to_what_is_shipped(env):
    for name in CONTROLLERS:
        scores = evaluate_controller(name, env, "climate").scores
        assert [score.name for score in scores] == list(PROTOCOL_CITIES)
        for score in scores:
            assert score.mean == pytest.approx(controller_score(score.name, name), abs=5e-4), (name, score.name)


def test_reference_levels():
    assert controller_score("Tucson", "do_nothing") == pytest.approx(-1.7, abs=0.05)
    assert controller_score("NewYork", "do_nothing") == pytest.approx(-3.6, abs=0.05)
    for city in PROTOCOL_CITIES:
        assert controller_score(city, "one_step_optimum") >= 0.99


@pytest.mark.slow
def test_controllers_of_a_building_with_zones_without_ac():
    env = make_env("building:OfficeSmall/NewYork", ac_map=[1, 0, 1, 1, 1, 0], levels=21)
    still, best = (
        evaluate_controller(name, env, "nominal").scores[0].mean for name in ("do_nothing", "one_step_optimum")
    )
    assert best > max(0.9, still)


def test_the_one_step_optimum_needs_levels():
    with pytest.raises(UserError, match="levels of power"):
        one_step_optimal(make_env("building:OfficeSmall/Tucson", continuous=True))
