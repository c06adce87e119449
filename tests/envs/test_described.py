"""What an environment says about its numbers reaches its spec; what makes no sense is unknown, and a note says so."""

import numpy as np
import parallel_envs
import pytest

from drigm.envs import make_env
from drigm.envs.building import parallel_env
from drigm.envs.subprocess.environment import spec_of
from drigm.envs.subprocess.worker.parallel_env import ParallelAdapter


def facts(described):
    env = parallel_envs.Meeting()
    if described is not None:
        env.described = described
    return ParallelAdapter(env, "meeting").facts


def test_names_units_bounds_and_counts():
    """Agent 1 has two readings and two actions, "b" one and three."""
    names = {"readings": {1: ["cue", "time"], "b": ["cue"]}, "units": ["V", "s"], "actions": ["no", "yes", "never"]}
    said = spec_of("pettingzoo", facts(names | {"step_seconds": 2})).described
    assert said.readings == (("cue", "time"), ("cue", ""))
    assert said.units == (("V", "s"), ("V", ""))
    assert said.actions == ("no", "yes", "never")
    assert said.step_seconds == 2.0
    assert said.own_actions == (2, 3)
    assert said.first_actions == (0, 0)
    np.testing.assert_array_equal(said.low, [[-1.0, -1.0], [-1.0, -np.inf]])
    np.testing.assert_array_equal(said.high, [[1.0, 1.0], [1.0, np.inf]])


def test_nothing_said_is_nothing_known():
    said = spec_of("pettingzoo", facts(None)).described
    assert (said.readings, said.units, said.actions, said.step_seconds) == ((), (), (), None)


@pytest.mark.parametrize(
    "odd",
    [
        "names",
        {"readings": ["cue"]},
        {"readings": {1: ["cue", "time"]}},
        {"readings": [1, 2]},
        {"actions": ["no", "yes"]},
        {"step_seconds": 0},
        {"step_seconds": "long"},
        {"colour": "blue"},
    ],
)
def test_what_makes_no_sense_is_unknown(odd):
    found = facts(odd)
    assert found.described is None
    assert [note for note in found.notes if note.startswith("its described is")]


def test_a_building_says_the_same_in_jax_and_to_others():
    said = make_env("building:OfficeSmall/Tucson").spec.described
    assert said.step_seconds == 300.0
    assert said.readings[0][0] == "zone temperature"
    adapted = spec_of("pettingzoo", ParallelAdapter(parallel_env("OfficeSmall/Tucson"), "office").facts).described
    assert (adapted.readings, adapted.units, adapted.step_seconds) == (said.readings, said.units, said.step_seconds)
