"""The published networks, scored in drigm's building, give the returns that they gave in SustainGym.

Their layout is in ``../shared/reference/README.md``. Nearly every day agrees to 3e-5. On 3 (VDN) and 5 (QMIX) of 258
different days two actions are tied to within float32's rounding of the Q-values (gaps of 0 to 1e-7 were measured), the
other one is taken, and the greedy team then ends the day up to 1.4% away. On one of them, ElPaso day 196, the same
network in float64 earns -990.40, drigm -990.39, and the recorded float32 run -1002.67. So a few days may miss the
tolerance, while each city's published score must agree to its third decimal.
"""

import csv
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from drigm.envs.building.simulator import PROTOCOL_DAYS, building
from drigm.envs.shifts import shift_suite, stack_params
from drigm.experiments.reproduce.authors import city_returns, grouped, reproduce_authors

NETWORKS = Path(__file__).resolve().parents[3] / "shared" / "reference" / "networks"
TOLERANCE = 1e-3  # relative, of a day's return
TIED = 0.03  # share of days that rounding may send another way

pytestmark = pytest.mark.skipif(not NETWORKS.is_dir(), reason=f"no reference networks in {NETWORKS}")


@pytest.mark.parametrize("name", ["vdn_0.0_0", "qmix_tv_0.2_10"])
@pytest.mark.long
def test_authors_networks_earn_what_they_earned_in_sustaingym(name):
    with np.load(NETWORKS / f"{name}.npz", allow_pickle=False) as arrays:
        data = dict(arrays)
    net = {k: jnp.asarray(v, jnp.float32) for k, v in data.items() if v.dtype.kind == "f" and k != "team_return"}
    env = building("OfficeSmall/Tucson")
    shifts = shift_suite(env, "climate")
    np.testing.assert_array_equal(data["days"], PROTOCOL_DAYS)

    returns = np.asarray(city_returns(env)(net, stack_params(shifts), jnp.asarray(PROTOCOL_DAYS)))

    order = [[shift.name for shift in shifts].index(str(city)) for city in data["cities"]]
    error = np.abs(returns[order] / data["team_return"] - 1)
    scores, published = env.score(returns[order].mean(axis=1)), env.score(data["team_return"].mean(axis=1))
    print(f"{name}: median error {np.median(error):.1e}, {(error > TOLERANCE).sum()} days beyond {TOLERANCE:g}")
    print(f"  largest error of a city's score: {np.abs(scores - published).max():.1e}")
    assert np.median(error) < 1e-4
    assert np.mean(error > TOLERANCE) <= TIED
    np.testing.assert_allclose(scores, published, rtol=0, atol=5e-4)


@pytest.mark.long
def test_reproduce_authors_scores_a_folder(tmp_path):
    (tmp_path / "some").mkdir()
    for name, to in (("vdn_0.0_0", "some/vdn_0.0_0"), ("vdn_0.0_0", "some/vdn_0.0_1"), ("qmix_tv_0.2_10", "qmix_10")):
        (tmp_path / f"{to}.npz").write_bytes((NETWORKS / f"{name}.npz").read_bytes())
    found = reproduce_authors(tmp_path)
    assert [score.name for score in found] == ["qmix_10", "some/vdn_0.0_0", "some/vdn_0.0_1"]
    assert {name: len(teams) for name, teams in grouped(found).items()} == {"qmix": 1, "some/vdn_0.0": 2}
    published = {}  # their scores, computed from the networks elsewhere
    with open(NETWORKS.parent / "authors_networks_scores.csv", newline="") as file:
        for row in csv.DictReader(file):
            published[row["factorization"], row["uncertainty"], row["rho"], row["seed"]] = row
    for team, key in zip(found, (("qmix", "tv", "0.2", "10"), ("vdn", "contamination", "0.0", "0")), strict=False):
        for city, score in team.scores.items():
            assert score == pytest.approx(float(published[key][city]), abs=6e-4), (team.name, city)
