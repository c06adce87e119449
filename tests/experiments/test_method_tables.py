"""What a sweep's tables say of two methods."""

from __future__ import annotations

import numpy as np
import pytest

from drigm.core.config import TrainConfig
from drigm.evaluation.scores import Evaluation, shift_score
from drigm.experiments.reproduce.method_tables import compare
from drigm.experiments.reproduce.runner import Scored


def team(env: str, scores: dict[str, list[float]]) -> Scored:
    """Return a run that got ``scores`` of its seeds in each world."""
    config = TrainConfig().replace(env=env, seeds=len(next(iter(scores.values()))))
    return Scored(config, Evaluation("", [shift_score(name, np.array(x)) for name, x in scores.items()]), "")


def test_percent_is_of_the_cost_whatever_score_is_given_for_it():
    """A score of a supply chain is 2 less the cost in units of the optimum's: costs 3 and 1.5 are 50 % less."""
    robust = team("supply:newsvendor", {"nominal": [0.9, 0.9], "demand": [0.5, 0.5]})
    plain = team("supply:newsvendor", {"nominal": [1.0, 1.0], "demand": [-1.0, -1.0]})
    found = compare(robust, plain, percent=True)
    assert found["nominal"][2].estimate == pytest.approx(-10.0, abs=1e-3)
    assert found["demand"][2] == pytest.approx((50.0, 50.0, 50.0), abs=1e-3)
    # The worst world is 0.5 against -1; the mean of worlds costs 1.3 against 2.
    assert found["worst world"][2].estimate == pytest.approx(50.0, abs=1e-3)
    assert found["mean of worlds"][2].estimate == pytest.approx(35.0, abs=1e-3)


def test_percent_has_the_interval_of_the_difference():
    robust, plain = (team("supply:newsvendor", {"nominal": x}) for x in ([0.9, 0.7, 0.8], [0.1, -0.1, 0.0]))
    _, difference, percent = compare(robust, plain, percent=True)["nominal"]
    np.testing.assert_allclose(percent, 50.0 * np.array(difference), rtol=1e-4)  # of a cost of 2
    assert difference.low < difference.estimate < difference.high


def test_without_being_asked_for_there_are_two_measures():
    one = team("supply:newsvendor", {"nominal": [1.0, 1.0]})
    assert len(compare(one, one)["nominal"]) == 2
