"""The building in the real EnergyPlus: the interface of the building environment, and what an engine can do wrong."""

from __future__ import annotations

import tempfile

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import drigm
from drigm.agents.recurrent import make_agents
from drigm.core.errors import UserError
from drigm.envs import make_env, shift_suite
from drigm.envs.building.simulator import PROTOCOL_DAYS, occupant_heat, published_score
from drigm.envs.subprocess.vector import SubprocessWorld
from drigm.evaluation.players import teams
from drigm.evaluation.subprocess_play import source_of, subprocess_outcomes

pytest.importorskip("pyenergyplus")
from drigm.envs.energyplus import idf, parallel_env, weather

DAY = 100
OFF, NAMES = 100, ("CORE_ZN", "PERIMETER_ZN_1", "PERIMETER_ZN_2", "PERIMETER_ZN_3", "PERIMETER_ZN_4")


def nothing(obs, sums):
    del sums
    return dict.fromkeys(obs, OFF)


def pi(obs, sums):
    """Power 0.2 e + 0.05 sum e, e in K; the sum stands still where the power has reached its limit."""
    actions = {}
    for agent, seen in obs.items():
        error = 22.0 - float(seen[0])
        total = sums.get(agent, 0.0) + error
        power = 0.2 * error + 0.05 * total
        if abs(power) <= 1.0:
            sums[agent] = total
        actions[agent] = int(np.clip(round(100 + 100 * power), 0, 199))
    return actions


def score(env, controller, day=DAY):
    obs, _ = env.reset(options={"day": day})
    total, sums = 0.0, {}
    while env.agents:
        obs, rewards, terminated, _, _ = env.step(controller(obs, sums))
        assert not any(terminated.values())
        total += sum(rewards.values())
    return published_score(total, num_agents=len(env.possible_agents))


@pytest.fixture(scope="module")
def office():
    env = parallel_env()
    yield env
    env.close()


@pytest.fixture
def alone():
    """A function that makes an environment that the test has for itself."""
    made = []

    def make(*args, **options):
        made.append(parallel_env(*args, **options))
        return made[-1]

    yield make
    for env in made:
        env.close()


def trace(env, seed, steps=12):
    """All observations of a few steps from ``seed`` on, under actions that do not stand still."""
    obs, _ = env.reset(seed=seed)
    seen = [np.stack(list(obs.values()))]
    for k in range(steps):
        obs, *_ = env.step({agent: (37 * k + 11 * i) % 200 for i, agent in enumerate(env.possible_agents)})
        seen.append(np.stack(list(obs.values())))
    return np.stack(seen)


@pytest.fixture(scope="module")
def made():
    return make_env("energyplus:OfficeSmall/Tucson?gains=office&days=[3,4]", workers=1)


def test_spec_is_that_of_the_building(made):
    there = made.spec
    here = make_env("building:OfficeSmall/Tucson", ac_map=[1, 1, 1, 1, 1, 0]).spec
    assert there.agents == NAMES == here.agents
    for name, mine, theirs in zip(here._fields, here, there, strict=True):
        if name != "name":
            np.testing.assert_equal(theirs, mine, err_msg=name)
    assert made.score(jnp.float32(-7500.0)) == 0.0


def test_protocol_days_and_climates(made):
    assert made.eval_seeds == tuple(PROTOCOL_DAYS[:20]) and made.num_eval_episodes == 20  # noqa: PT018 (one fact)
    assert made.params == SubprocessWorld("OfficeSmall/Tucson?gains=office")  # days of a training are its own
    worlds = shift_suite(made, "climate")
    assert [world.name for world in worlds] == ["Tucson", "Tampa", "Honolulu", "ElPaso", "PortAngeles", "NewYork"]
    assert source_of(made, worlds[-1]).name == "OfficeSmall/NewYork?gains=office"


@pytest.mark.slow
def test_teams_play_each_world_in_its_city(made):
    agents = make_agents(jax.random.key(0), made.spec, 8, share_parameters=False, ordered=True)
    stacked = jax.tree.map(lambda x: x[None], eqx.filter(agents, eqx.is_array))
    stacked = eqx.combine(stacked, agents)
    short = made._replace(eval_seeds=made.eval_seeds[:1], num_eval_episodes=1)
    worlds = shift_suite(made, "climate")
    returns = subprocess_outcomes(short, teams(stacked), [*shift_suite(made, "nominal"), worlds[0], worlds[-1]])
    nominal, tucson, new_york = returns.episode_return[:, 0, 0]
    assert nominal == tucson
    assert abs(tucson - new_york) > 10.0


@pytest.mark.parametrize("gains", ["none", "office"])
def test_pi_holds_the_building(alone, gains):
    env = alone(gains=gains)
    assert 0.965 < score(env, pi) < 0.99
    assert score(env, nothing) < 0.85


@pytest.mark.filterwarnings("ignore:The old environment creation API:DeprecationWarning")
def test_pettingzoo_accepts_it(office):
    from pettingzoo.test import parallel_api_test

    parallel_api_test(office, num_cycles=20)


def test_check_env_finds_nothing():
    assert drigm.check_env("energyplus:OfficeSmall/Tucson", episodes=1) == []


def test_starts_near_the_target_and_shows_the_weather(office):
    obs, infos = office.reset(options={"day": DAY})
    shown = np.stack(list(obs.values()))
    np.testing.assert_allclose(shown[:, 0], 22.0, atol=0.05)
    city = weather.city_weather("Tucson")
    assert (shown[:, 2] == np.float32(city.ground[3])).all()  # day 100 is in April
    # A simulation repeats its first day before it begins, so midnight lies between that day's last and first hour.
    first, last = city.columns[0, [24 * DAY, 24 * DAY + 23]]
    assert min(first, last) <= shown[0, 1] <= max(first, last)
    assert (shown[:, 3] == 0.0).all()  # midnight
    assert shown[0, 4] == np.float32(occupant_heat(office.state()[:6].astype(np.float64).mean(), 120.0) / 1000.0)
    assert infos["CORE_ZN"] == {"day": DAY}
    np.testing.assert_array_equal(office.state()[:5], shown[:, 0])


def test_same_seed_same_day_bit_for_bit(office, alone):
    first = trace(office, 7)
    assert office.day == 7
    other = trace(office, 8)  # the day before it was not over
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(trace(office, 207), first)  # days are 0 to 199
    np.testing.assert_array_equal(trace(alone(), 7), first)


def test_two_at_once_do_not_disturb_each_other(office, alone):
    expected = trace(office, 7), trace(office, 20)
    pair = office, alone(gains="none")
    obs = [env.reset(seed=seed)[0] for env, seed in zip(pair, (7, 20), strict=True)]
    seen = [[np.stack(list(one.values()))] for one in obs]
    for k in range(12):
        for env, mine in zip(pair, seen, strict=True):
            one, *_ = env.step({agent: (37 * k + 11 * i) % 200 for i, agent in enumerate(NAMES)})
            mine.append(np.stack(list(one.values())))
    for mine, alone_ in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(np.stack(mine), alone_)


def test_draws_days_after_a_seed(alone):
    env = alone(days=[5, 6, 7, 8])
    days = []
    for seed in (3, None, None, 3, None, None):
        env.reset(seed=seed)
        days.append(env.day)
    assert days[0] == 8
    assert days[:3] == days[3:]


def test_a_whole_day_is_truncated(office):
    obs, _ = office.reset(seed=0)
    for k in range(288):
        obs, _, terminated, truncated, infos = office.step(nothing(obs, {}))
        assert set(truncated.values()) == {k == 287}
        assert set(terminated.values()) == {False}
    assert office.agents == []
    assert infos["CORE_ZN"] == {"day": 0, "thermal_kwh": 0.0}
    assert office.step({}) == ({}, {}, {}, {}, {})


def test_the_last_day_of_the_year(office):
    office.reset(options={"day": 364})
    with pytest.raises(UserError, match="day: 365 is not allowed"):
        office.reset(options={"day": 365})


def test_set_points_are_followed_and_energy_is_measured(alone):
    env = alone(mode="setpoint", gains="office")
    obs, _ = env.reset(options={"day": 200})
    bought = 0.0
    for _ in range(12 * 14):  # to two in the afternoon
        obs, rewards, *_, infos = env.step(dict.fromkeys(NAMES, 150))  # 24 C
        bought += infos["CORE_ZN"]["electric_kwh"]
    assert 23.0 < obs["CORE_ZN"][0] < 25.0
    assert 5.0 < bought < 200.0
    assert infos["CORE_ZN"]["thermal_kwh"] > 0.0
    assert rewards["CORE_ZN"] < -1.0


def test_the_medium_office_has_its_own_zones(alone):
    env = alone("OfficeMedium", "NewYork", gains="office")
    assert len(env.possible_agents) == 15
    assert not any("PLENUM" in agent for agent in env.possible_agents)
    obs, _ = env.reset(options={"day": DAY})
    sums = {}
    for _ in range(24):
        obs, *_ = env.step(pi(obs, sums))
    assert max(abs(seen[0] - 22.0) for seen in obs.values()) < 0.5
    assert env.state().shape == (22,)


def test_engine_errors_are_one_sentence_and_the_next_day_works(alone, monkeypatch):
    env = alone()
    with monkeypatch.context() as patch:
        patch.setattr(idf, "GLAZING", ["-1", "0.2", "0.2"])
        with pytest.raises(UserError, match=r"^EnergyPlus failed: .*WindowMaterial.*\.$") as raised:
            env.reset(seed=1)
    assert len(str(raised.value).splitlines()) == 1
    assert env.agents == []
    trace(env, 1, steps=2)
    folder = env._engine._folder
    env._engine._process.kill()
    env._engine._process.wait()  # so that nobody reads what the next step writes
    with pytest.raises(UserError, match="its process died with exit code -9"):
        env.step(dict.fromkeys(NAMES, OFF))
    assert not folder.exists()
    trace(env, 1, steps=2)


def test_leaves_no_folder_and_prints_nothing(alone, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    env = alone()
    trace(env, 1, steps=2)
    assert len(list(tmp_path.iterdir())) == 1
    env.close()
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"building": "Hospital"}, "choose one of OfficeSmall, OfficeMedium"),
        ({"city": "Denver"}, "choose one of Tucson"),
        ({"gains": "some"}, "choose one of none, office"),
        ({"mode": "off"}, "choose one of power, setpoint"),
        ({"days": [-1]}, "each from 0 to 364"),
        ({"max_power": [1.0]}, "one for each of 5 agents"),
        ({"levels": 1}, "levels"),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(UserError, match=said):
        parallel_env(**options)


def test_wrong_actions_are_named(office):
    office.reset(seed=0)
    with pytest.raises(UserError, match="missing: "):
        office.step({"CORE_ZN": 3})
    with pytest.raises(UserError, match="levels from 0 to 199"):
        office.step(dict.fromkeys(NAMES, 200))


def test_a_missing_engine_says_how_to_install_it(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['pyenergyplus'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    with pytest.raises(UserError, match=r'pip install "drigm\[energyplus\]"'):
        make_env("energyplus:OfficeSmall/Tucson")
