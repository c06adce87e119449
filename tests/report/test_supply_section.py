"""The year of a supply chain: the bullwhip ratio, what the page is told, and that a real run has one."""

import json
import re

import numpy as np
import pytest
from invented import small_chain

import drigm
from drigm.envs.supply.network import chain, links_of
from drigm.report.sections.supply_chain import (
    bullwhip,
    downstream,
    supply_data,
    supply_section,
    year_figure,
    year_html,
)
from drigm.report.study import collect


def test_the_bullwhip_ratio_by_hand():
    """Orders that swing twice as far have four times the variance; constant demand has no ratio."""
    demand = np.array([[[1.0, 2.0], [3.0, 2.0]]])
    order = np.array([[[0.0, 1.0], [4.0, 3.0]]])
    ratio = bullwhip(order, demand)
    assert ratio[0] == 4.0
    assert np.isnan(ratio[1])


def test_every_stage_serves_the_customers_below_it():
    received = np.array([1.0, 2.0, 4.0, 8.0, 99.0, 99.0, 99.0])  # what the shops' customers ordered, and other orders
    served = downstream(links_of(chain("distribution7")), received)
    np.testing.assert_array_equal(served, [1, 2, 4, 8, 3, 12, 15])


def test_what_the_page_is_told():
    data = supply_data([small_chain()], ("shop", "factory"))
    policy = data["worlds"][0]["policies"][1]
    assert policy["label"] == "b"
    assert policy["bullwhip"] == [1.5, None]
    assert policy["order"] == [[1, 2, 3, 4, 5, 6]] * 2
    found = re.search(r'id="supply-data">(.*?)</script>', year_html(data)).group(1)
    assert json.loads(found) == data
    assert len(year_figure(small_chain(), ("shop", "factory")).axes) == 2


@pytest.mark.slow
def test_a_run_has_its_year(tmp_path):
    """A team that has learnt nothing, beside base stock, which passes demand on."""
    small = {"hidden": 8, "num_envs": 2, "replay_size": 400, "learning_starts": 60, "batch": 4, "shards": 1}
    run = drigm.train("supply:newsvendor", "vdn", out=tmp_path / "run", steps=400, quiet=True, **small)
    (study,) = collect([run], "nominal")
    assert list(study.controllers) == ["do_nothing", "base_stock", "moving_average", "s_S", "best_base_stock"]
    section = supply_section(study)
    data = json.loads(re.search(r'id="supply-data">(.*?)</script>', section.body).group(1))
    labels = [policy["label"] for policy in data["worlds"][0]["policies"]]
    assert labels[0] == "VDN"
    base = data["worlds"][0]["policies"][labels.index("Base stock, the instance's levels")]
    assert base["bullwhip"][0] == pytest.approx(1.0, abs=0.1)
    assert "Bullwhip ratio" in section.body
