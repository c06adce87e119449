"""The transfer study's parts: its rows, its measures by hand, its table. EnergyPlus itself is for the study."""

import jax
import numpy as np
import pytest

from drigm.agents.rollout import episode
from drigm.core.errors import UserError
from drigm.core.presets import ADAPTING
from drigm.core.types import StoredStep
from drigm.envs import make_env
from drigm.envs.api import Shift
from drigm.envs.energyplus.engine import has_engine
from drigm.envs.persistent import parse_ranges
from drigm.evaluation.controllers import controller
from drigm.experiments.reproduce.transfer import page, study, tables
from drigm.experiments.reproduce.transfer.gap import replayed
from drigm.experiments.reproduce.transfer.heat_pumps import measure_heat_pumps
from drigm.experiments.reproduce.transfer.measures import MEASURES, Days, Measured, Recorded, measures_of
from drigm.training.settings import resolve, settle


@pytest.mark.parametrize("row", study.ROWS)
def test_every_row_is_a_run_of_the_simple_model(row):
    config, _ = resolve(study.settings_of(row, "vdn", seeds=5, steps=172_800))
    assert config.env == study.TRAINED_IN
    assert config.steps == (86_400 if row.endswith(study.HALF) else 172_800)


def test_the_adapting_row_is_the_preset():
    row = study.settings_of("velocity, worlds, alpha 0.3, stored state", "vdn", seeds=1, steps=172_800)
    preset = settle({"env": study.TRAINED_IN, "factorization": "vdn", "preset": "adapting"})
    assert row == preset.replace(preset="default")
    assert {found.name for found in parse_ranges(ADAPTING["worlds"])} <= {
        found.name for found in parse_ranges(study.PREDICTION)
    }


class Fixed:
    """Two agents in two environments: the first holds level 0, the second goes up and down."""

    def initial_memory(self, batch):
        return 0

    def act(self, memory, row):
        return memory + 1, np.array([[[1, 2 * (memory % 2)]] * 2])


def test_measures_by_hand():
    """Errors of 0.5 and -2 K; levels 0, and -1 and 1 in turn: half of the agents move by 2 at every step."""
    steps, spec = 4, make_env("building:OfficeSmall/Tucson").spec
    regulated = spec.regulated._replace(setpoint=np.array([22.0, 22.0]))
    levels = np.array([-1.0, 0.0, 1.0])
    recorder = Recorded(Fixed(), spec._replace(action_values=levels, regulated=regulated, episode_limit=steps))
    memory = recorder.initial_memory(2)
    obs = np.array([[[[22.5], [20.0]]] * 2], np.float32)
    state = np.array([[[22.5, 20.0, 30.0, 7.0, 0.0, 0.0, 0.0]] * 2], np.float32)  # three zones, then what is outside
    row = StoredStep(obs, state, None, None, None, None, None, None)
    for _ in range(2 * steps):  # two worlds, one round of two days each
        memory, _ = recorder.act(memory, row)
    days = recorder.days(worlds=2, days=2)
    assert days.temperatures.shape == (2, 2, steps, 3)
    np.testing.assert_array_equal(days.outdoor, np.full((2, 2, steps), 7.0))
    found = measures_of(days)
    np.testing.assert_allclose(found["mean_error"], [1.25, 1.25])
    np.testing.assert_allclose(found["degree_hours"], [0.5 * steps * 5 / 60] * 2)  # 1 K too far, one agent of two
    np.testing.assert_allclose(found["thermal_kwh"], [steps * 8.0 * 5 / 60] * 2)
    np.testing.assert_allclose(found["oscillation"], [1.0, 1.0])


def measured(row, scores, place="office"):
    values = {name: np.full((2, len(scores)), 0.1) for name in MEASURES}
    return Measured(row, place, ["Tucson", "NewYork"], values | {"score": np.array([scores, scores])})


def test_the_table_says_how_far_a_team_is_from_pi_and_whether_that_was_predicted(tmp_path):
    found = [measured("PI", [0.976]), measured("VDN", [0.95, 0.96, 0.97])]
    scores, table = tables.write_tables(tmp_path, found, {"VDN": (0.9, 0.99)})
    assert len(scores.read_text().splitlines()) == 1 + 2 * (1 + 3)
    text = table.read_text()
    assert "-0.0160 [-0.0408, +0.0088]" in text  # Student's t of two degrees of freedom, by hand: 4.303 * 0.01 / sqrt 3
    assert "0.900 to 0.990" in text
    assert text.count("yes") == 1
    again, _ = tables.write_tables(tmp_path, found, {"VDN": (0.97, 0.99)})
    assert again == scores
    assert " no " in table.read_text().strip().splitlines()[-1]


def test_what_no_level_says_is_blank_and_electricity_stands_where_it_is_known():
    pumps = measured("The prototype's heat pumps", [0.75])
    pumps.values.update(oscillation=np.full((2, 1), np.nan), electric_kwh=np.full((2, 1), 51.7))
    pi, row = tables.table_rows([measured("PI", [0.976]), pumps], {})
    assert (row["oscillation"], row["electric kWh"]) == ("", "51.7")
    assert (pi["oscillation"], pi["electric kWh"]) == ("0.1000", "")


def test_the_page_leads_with_the_best_team_and_its_difference_from_pi():
    found = [measured("PI", [0.976]), measured("VDN", [0.95, 0.96, 0.97]), measured("QMIX", [0.99, 0.991, 0.992])]
    told = page.lead(found)
    assert "QMIX has the highest mean of what learnt, 0.991 over 3 seeds, PI 0.976" in told
    assert "clear of zero" in told
    assert "leaves zero in" in page.lead(found[:2])
    section = page.place_section("office", found, {"VDN": (0.9, 0.99)})
    assert set(section.figures) == {"scores"}


@pytest.mark.slow
def test_the_simple_model_answers_its_own_actions_as_it_did():
    """What is compared with EnergyPlus: temperatures under given levels, from given ones at the start of a day."""
    env = make_env("building:OfficeSmall/Tucson")
    policy = controller("pi", env)
    shown, action = episode(env, policy, jax.random.key(0), env.episode(env.params, 3))
    temperatures = np.concatenate([np.full((1, 6), 22.0), np.asarray(shown.state)[:-1, :6]])
    levels = np.asarray(env.spec.action_values)[np.asarray(action)]
    days = Days(temperatures[None], np.zeros((1, 288)), np.zeros((1, 288, 6)), levels[None])
    day = int(env.params.protocol_days[3])
    again = replayed(env, Shift("Tucson", env.params), env.spec.agents, days, [day])
    np.testing.assert_allclose(again[0], temperatures, atol=1e-4)
    idle = replayed(
        env, Shift("Tucson", env.params), env.spec.agents[:0], days._replace(levels=levels[None, :, :0]), [day]
    )
    assert np.abs(idle[0] - temperatures).max() > 1.0  # without power


@pytest.mark.skipif(not has_engine(), reason="needs the extra energyplus")
def test_heat_pumps_hold_the_target_within_their_dead_band():
    found = measure_heat_pumps(["Tucson"], "office", (26,))
    assert found["mean_error"][0, 0] < 0.8
    assert found["electric_kwh"][0, 0] > 10
    assert found["thermal_kwh"][0, 0] > found["electric_kwh"][0, 0]  # a heat pump brings more than it takes


def test_unknown_names_are_refused(tmp_path):
    for field, wrong in (("factorizations", "qmux"), ("places", "home"), ("rows", "velocities")):
        with pytest.raises(UserError, match=field):
            study.reproduce_transfer(tmp_path, **{field: [wrong]})
