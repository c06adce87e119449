"""The transfer study's parts: its rows, its measures by hand, its table. EnergyPlus itself is for the study."""

import numpy as np
import pytest

from drigm.core.errors import UserError
from drigm.core.presets import ADAPTING
from drigm.core.types import StoredStep
from drigm.envs.persistent import parse_ranges
from drigm.experiments.reproduce import transfer
from drigm.training.settings import resolve, settle


@pytest.mark.parametrize("row", transfer.ROWS)
def test_every_row_is_a_run_of_the_simple_model(row):
    config, _ = resolve(settle({"env": transfer.TRAINED_IN, "factorization": "vdn", **transfer.ROWS[row]}))
    assert config.env == transfer.TRAINED_IN


def test_the_adapting_row_is_the_preset():
    given = {"env": transfer.TRAINED_IN, "factorization": "vdn"}
    row = settle({**given, **transfer.ROWS["velocity, worlds, alpha 0.3"]})
    preset = settle({**given, "preset": "adapting"})
    assert row == preset.replace(preset="default")
    assert {found.name for found in parse_ranges(ADAPTING["worlds"])} <= {
        found.name for found in parse_ranges(transfer.PREDICTION)
    }


class Fixed:
    """Two agents in two environments: the first holds level 0, the second goes up and down."""

    def initial_memory(self, batch):
        return 0

    def act(self, memory, row):
        return memory + 1, np.array([[[1, 2 * (memory % 2)]] * 2])


def test_measures_by_hand():
    """Errors of 0.5 and -2 K; levels 0, and -1 and 1 in turn: half of the agents move by 2 at every step."""
    recorder = transfer.Recorded(Fixed(), np.array([-1.0, 0.0, 1.0]), np.array([22.0, 22.0]))
    memory, steps = recorder.initial_memory(2), 4
    obs = np.array([[[[22.5], [20.0]]] * 2], np.float32)
    row = StoredStep(obs, None, None, None, None, None, None, None)
    for _ in range(2 * steps):  # two worlds, one round of two days each
        memory, _ = recorder.act(memory, row)
    found = transfer._measures(recorder, count=2, days=2, steps=steps)
    np.testing.assert_allclose(found["mean_error"], [1.25, 1.25])
    np.testing.assert_allclose(found["degree_hours"], [0.5 * steps * 5 / 60] * 2)  # 1 K too far, one agent of two
    np.testing.assert_allclose(found["thermal_kwh"], [steps * 8.0 * 5 / 60] * 2)
    np.testing.assert_allclose(found["oscillation"], [1.0, 1.0])


def measured(row, scores):
    values = {name: np.full((2, len(scores)), 0.1) for name in transfer.MEASURES}
    return transfer.Measured(row, "office", ["Tucson", "NewYork"], values | {"score": np.array([scores, scores])})


def test_the_table_says_how_far_a_team_is_from_pi_and_whether_that_was_predicted(tmp_path):
    found = [measured("PI", [0.976]), measured("VDN", [0.95, 0.96, 0.97])]
    scores, table = transfer.write(tmp_path, found, {"VDN": [0.9, 0.99]})
    assert len(scores.read_text().splitlines()) == 1 + 2 * (1 + 3)
    text = table.read_text()
    assert "-0.0160 [-0.0408, +0.0088]" in text  # Student's t of two degrees of freedom, by hand: 4.303 * 0.01 / sqrt 3
    assert "0.900 to 0.990" in text
    assert text.count("yes") == 1
    again, _ = transfer.write(tmp_path, found, {"VDN": [0.97, 0.99]})
    assert again == scores
    assert " no " in table.read_text().strip().splitlines()[-1]


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(UserError, match="factorizations"):
        transfer.reproduce_transfer(tmp_path, factorizations=["qmux"])
    with pytest.raises(UserError, match="places"):
        transfer.reproduce_transfer(tmp_path, places=["home"])
