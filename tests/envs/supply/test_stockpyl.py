"""drigm's supply chains against stockpyl 1.0.2 (Snyder): week by week on the same demand, and its optimal costs.

What stockpyl makes of the cases is recorded in data/stockpyl.json. With an interpreter that has stockpyl
(tools/make_stockpyl_venv.sh, or DRIGM_STOCKPYL_PYTHON) it is computed again and must be what is recorded.
"""

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stockpyl_cases import RECORDED, WEEKS, cases, played

from drigm.envs.supply.flow import Costs, Luck, Stocks, owed_by, position, week
from drigm.envs.supply.network import CHAINS, links_of

PYTHON = os.environ.get("DRIGM_STOCKPYL_PYTHON", str(Path(__file__).parents[3] / ".venv-stockpyl" / "bin" / "python"))
CASES = cases()
TOLERANCE = 1e-3  # of a unit; what is recorded has four digits


@pytest.fixture(scope="module")
def recorded():
    return json.loads(RECORDED.read_text())


def simulated(case):
    """Levels, orders and costs [T, N] of drigm under base stock, all stock on hand at first."""
    chain = CHAINS[case["instance"]]
    links, n = links_of(chain), len(chain.stages)
    levels, lead = jnp.float32(case["levels"]), jnp.int32(case["lead"])
    costs = Costs(jnp.float32(case["holding"]), jnp.float32(chain.penalty * links.serves), jnp.zeros(n))
    capacity = jnp.full(n, case.get("capacity", 1e6), jnp.float32)
    ones = jnp.ones(n)

    def one(stocks, demand):
        x = levels - position(links, stocks)
        luck = Luck(demand, good=ones, rounding=0.0 * ones, lead=lead, up=ones)
        stocks, happened = week(links, costs, capacity, False, stocks, x, luck)
        return stocks, (stocks.hand - owed_by(links, stocks), happened.order, happened.cost)

    nothing = jnp.zeros((n, max(case["lead"])))
    _, found = jax.lax.scan(one, Stocks(levels, 0.0 * ones, 0.0 * ones, nothing), jnp.float32(case["demand"]))
    return dict(zip(("level", "order", "cost"), map(np.asarray, found), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_every_week_is_stockpyls(name, recorded):
    found = simulated(CASES[name])
    for what in ("order", "level", "cost"):
        np.testing.assert_allclose(found[what], recorded[name][what], rtol=1e-5, atol=TOLERANCE, err_msg=what)
    assert np.min(found["level"]) < 0  # somebody had to wait
    assert found["level"].shape == (WEEKS, len(CHAINS[CASES[name]["instance"]].stages))


def test_levels_and_costs_are_stockpyls_optima(recorded):
    """To the grid of its search: a hundredth of the demand's deviation for normal demand, exact for whole demand."""
    found = {name: case["optimum"] for name, case in recorded.items() if "optimum" in case}
    assert sorted(found) == sorted(n for n, c in CHAINS.items() if c.optimal and not c.demand.excess)
    for name, best in found.items():
        chain = CHAINS[name]
        assert chain.cost == pytest.approx(best["cost"], rel=1e-3), name
        if chain.demand.counts:
            assert list(chain.levels) == best["levels"], name
        else:
            np.testing.assert_allclose(chain.levels, best["levels"], atol=0.02 * chain.demand.mean, err_msg=name)


@pytest.mark.slow
@pytest.mark.skipif(not Path(PYTHON).exists(), reason="no stockpyl: run tools/make_stockpyl_venv.sh (200 MB)")
def test_stockpyl_still_makes_the_same_of_it(recorded):
    found = played(PYTHON)
    assert found.keys() == recorded.keys()
    for name, result in found.items():
        for what in ("order", "level", "cost"):
            np.testing.assert_allclose(result[what], recorded[name][what], atol=TOLERANCE, err_msg=name)
        if "optimum" in result:
            assert result["optimum"]["cost"] == pytest.approx(recorded[name]["optimum"]["cost"], abs=1e-3)
