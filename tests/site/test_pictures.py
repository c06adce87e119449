"""The pictures of docs/idea.md show what the exact solver says, and the page says the same."""

import re
from pathlib import Path

import numpy as np
import pytest

from drigm.exact import solve_counterexample
from tools.site.pictures import FOLDER, NEAR_OR_FAR, PICTURES, RADII, SAFE_OR_RISKY, advantages, fail_values

from tools.site.pictures import static_values, svg_file  # isort: skip

PAGE = (Path(__file__).parents[2] / "docs" / "idea.md").read_text(encoding="utf-8")


def words(svg: str) -> list[str]:
    return re.findall(r">([^<>\s][^<>]*)</text>", svg)


@pytest.mark.parametrize("name", PICTURES)
def test_the_committed_picture_is_what_is_drawn(name):
    """By its words: paths differ between versions of matplotlib."""
    draw, alt = PICTURES[name]
    drawn, committed = svg_file(draw(), alt), (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    assert len(words(drawn)) > 10
    assert words(drawn) == words(committed)
    assert f"pictures/{name}.svg" in PAGE
    assert "prefers-color-scheme: dark" in committed
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", committed)  # nothing is fetched


def test_a_discount_is_what_contamination_is_and_total_variation_where_nothing_is_left_to_chance():
    found = advantages(NEAR_OR_FAR)
    discount = found.pop("a discount gamma (1 - rho)")
    for name in ("total variation", "contamination"):
        np.testing.assert_allclose(found[name], discount, atol=1e-9)
    np.testing.assert_allclose(found["Kullback-Leibler"], discount[0])  # it moves nothing


def test_where_chance_decides_total_variation_leaves_the_gamble_at_a_third():
    found = advantages(SAFE_OR_RISKY)
    np.testing.assert_allclose(found["contamination"], found["a discount gamma (1 - rho)"], atol=1e-9)
    assert (found["contamination"] > 0).all()
    np.testing.assert_array_equal(found["total variation"] > 0, RADII < 1 / 3)
    assert (found["Kullback-Leibler"][2:] < 0).all()


def test_the_numbers_of_the_page():
    fail, (per_step, static) = fail_values(), static_values()
    assert (fail.quitting, round(fail.truly_going_on, 9), round(float(fail.going_on[-1]), 9)) == (-2.0, -2.9, -1.7)
    assert "−1.7 looks better than −2, in every real model it is −2.9" in PAGE
    assert [round(static[-1], 9), round(per_step[-1], 9)] == [2.0, 0.8]
    assert "has 2.0 after four steps where the other has 0.8" in PAGE
    found = solve_counterexample()
    assert (round(found.alone_value, 9), round(found.shared_value, 9)) == (3.0, 4.4)
    assert "the team has 3.0 at worst where it could have 4.4" in PAGE
    assert tuple(round(value, 9) for value in found.models) == (2.0, 18.0)
