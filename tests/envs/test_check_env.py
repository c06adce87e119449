"""What check-env says about environments that are wrong or odd, and what becomes of them in training."""

from __future__ import annotations

import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import odd_envs
import pytest

import drigm
from drigm.cli.main import main
from drigm.core.errors import UserError
from drigm.envs.subprocess.environment import standardisation, subprocess_env
from drigm.envs.subprocess.vector import SubprocessSource
from drigm.envs.subprocess.worker.errors import LONGEST, EnvError
from drigm.envs.subprocess.worker.parallel_env import UNKNOWN_LIMIT, ParallelAdapter

FILE = Path(__file__).parents[1] / "odd_envs.py"

ERRORS = [
    (
        "UnseededSteps",
        "reset(seed) does not repeat itself: with the same actions, episodes on one seed show different ",
    ),
    ("Class", "two of them in one process disturb each other: observations are not those that one alone shows"),
    ("Counter", "two of them in one process disturb each other"),
    ("Vanish", "agent 'a0', at step 5: it left env.agents with neither its termination nor its truncation set"),
    ("VanishOne", "agent 'a1', at step 3: it left env.agents with neither its termination nor its truncation set"),
    ("BigObs", "agent 'a1', at step 3: its observation holds a value that is too large for float32: 1e+39"),
    ("BigReward", "agent 'a1', at step 3: its reward is -1e+39, which is too large for float32"),
    ("BigSum", "at step 3: the team's reward, the sum over its agents, is 6e+38, which is too large for float32"),
    ("BigState", "at step 3: state() holds a value that is too large for float32: 1e+39"),
    ("NoFlag", "agent 'a0', at step 3: its termination is array([0., 0.]); True or False is needed"),
    ("Exits", "at step 3: step raised SystemExit: 3"),
]
WARNINGS = [
    ("Late", "it declares 4 steps an episode, but one was truncated at step 5"),
    ("Early", "it declares 6 steps an episode, but one was truncated at step 5"),
    ("Method", "its max_steps is a method, not a number of steps"),
    ("Text", "its max_cycles is '5', not a number of steps"),
    ("BadRange", "its reward_range is (1.0,), not a lowest and a highest reward"),
    ("Far", "its reading 0 is from 100000000 to 100000016, of which float32 tells few values apart"),
    ("Outside", "agent 'a0', at step 3: its reading 0 is 2, outside its Box of 0 to 1"),
    ("Double", "agent 'a0', at reset: its observation is float64, its Box float32"),
    ("Listed", "agent 'a0', at reset: its observation is a list; a NumPy array is meant"),
    ("StateOutside", "at reset: number 0 of the state is 2, outside state_space of 0 to 1"),
    ("StateSpace", "its state_space has 3 numbers, but state() returns 2"),
    ("Copies", "agent 'a0', observation_space(agent) returns another object at each call"),
    ("Global", "it draws from the generators that all environments of a process share (random, numpy.random)"),
    ("GlobalUnseeded", "it draws from the generators that all environments of a process share"),
    ("Infos", "show different infos"),
    ("BoolMask", "agent 'a0', at reset: its action mask is bool; gymnasium's samples need an int8 array"),
    ("NumberFlag", "agent 'a0', at step 3: its termination is 0, a int; True or False is meant"),
    ("ArrayReward", "agent 'a0', at step 3: its reward is an array of shape (1,); a number is meant"),
    ("Common", "at step 3: rewards have the key 'common', which is none of possible_agents; it is not used"),
    ("NoInfo", "agent 'a0', at step 3: it is missing in infos"),
    ("NoOptions", "reset(seed, options) raised TypeError"),
    ("Absent", "agent 'a1', at reset: it is one of possible_agents but not there after reset; it counts as dead"),
    ("DeadSilence", "agent 'a1', at step 4: it is in rewards but had left before"),
]
FINE = ["Coins", "Infinite", "Scalar", "Picture", "Masked", "Ranged", "longer", "wrapped"]


def source(name: str, workers: int = 1) -> SubprocessSource:
    return SubprocessSource("pettingzoo", f"{FILE}:{name}", workers=workers)


@pytest.mark.parametrize(("name", "sentence"), ERRORS)
def test_what_keeps_a_team_from_training_is_an_error(name, sentence):
    found = drigm.check_env(getattr(odd_envs, name)())
    assert any(sentence in one for one in found if one.level == "error"), found


def test_a_shared_class_is_no_matter_of_workers():
    """An evaluation holds 64 of them, random play 16: no number of workers gives each a process of its own."""
    (found,) = drigm.check_env(odd_envs.Class())
    assert "keep all state in the instance" in found
    assert "env_workers" not in found


@pytest.mark.parametrize(("name", "sentence"), WARNINGS)
def test_what_is_odd_is_a_warning(name, sentence):
    found = drigm.check_env(getattr(odd_envs, name)())
    assert all(one.level == "warning" for one in found), found
    assert any(sentence in one for one in found), found


@pytest.mark.parametrize("name", FINE)
def test_nothing_is_said_about_what_is_right(name):
    assert drigm.check_env(getattr(odd_envs, name)()) == []


@pytest.mark.parametrize("name", [name for name, _ in (*ERRORS, *WARNINGS)] + FINE)
def test_what_pettingzoos_own_tests_find_is_found(name):
    make = getattr(odd_envs, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pettingzoo.test import parallel_api_test, parallel_seed_test

        warnings.simplefilter("error")
        try:
            parallel_api_test(make(), num_cycles=20)
            parallel_seed_test(make, num_cycles=20)
        except (Exception, SystemExit):
            assert drigm.check_env(make())


def test_a_named_one_is_checked_in_its_process(capsys):
    assert main(["check-env", f"pettingzoo:{FILE}:Late"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("warning: it declares 4 steps an episode, but one was truncated at step 5\n")
    assert "nothing wrong, 1 warning" in shown
    assert main(["check-env", f"pettingzoo:{FILE}:Class", "--json"]) == 1
    assert '"level": "error",\n    "sentence": "two of them in one process disturb' in capsys.readouterr().out
    assert [one.level for one in drigm.check_env(f"pettingzoo:{FILE}:Global")] == ["warning"]


def test_what_cannot_be_copied_is_still_checked():
    class Locked(odd_envs.Late):
        def __deepcopy__(self, memo):
            raise TypeError("one of a kind")

    found = drigm.check_env(Locked())
    assert [one.level for one in found] == ["warning", "warning"]
    assert "it cannot be copied (TypeError: one of a kind)" in found[0]


def test_checking_leaves_the_generators_as_they_were():
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    np.random.randn()  # noqa: NPY002 (a second normal waits)
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    drigm.check_env(odd_envs.Global())
    after = random.getstate(), np.random.get_state()  # noqa: NPY002
    assert before[0] == after[0]
    np.testing.assert_equal(before[1], after[1])


@pytest.mark.parametrize(
    ("name", "limit"),
    [("Late", 4), ("Infinite", None), ("Method", None), ("Huge", None), ("Text", None), ("longer", 7), ("wrapped", 5)],
)
def test_a_limit_is_a_hint_of_the_environment_that_was_given(name, limit):
    env = ParallelAdapter(getattr(odd_envs, name)(), "odd")
    assert env.facts.episode_limit == (limit or UNKNOWN_LIMIT)
    noted = any("its max_" in note and "counts as unknown" in note for note in env.facts.notes)
    assert noted == (name in ("Method", "Huge", "Text"))


@pytest.mark.parametrize(("name", "bounds"), [("longer", [0, 20]), ("wrapped", [0, 2]), ("BadRange", [None] * 2)])
def test_the_reward_range_is_that_of_the_environment_that_was_given(name, bounds):
    assert ParallelAdapter(getattr(odd_envs, name)(), "odd").facts.reward_range == bounds


def test_bounds_are_each_agents_own():
    class Mixed(odd_envs.Coins):
        def box(self, agent):
            high = {"a0": [1.0, 2e6, np.inf], "a1": [1e3, 3e38]}[agent]
            return odd_envs.Box(np.array([0.0, 1e6, 0.0][: len(high)], np.float32), np.array(high, np.float32))

        def see(self, agent):
            return np.zeros(self.boxes[agent].shape, np.float32)

    facts = ParallelAdapter(Mixed(), "mixed").facts
    assert facts.obs_low == [[0.0, 1e6, 0.0], [0.0, 1e6, None]]
    assert facts.obs_high == [[1.0, 2e6, None], [1e3, None, None]]
    assert facts.state_low == [0.0, 1e6, 0.0, 0.0, 1e6]  # all observations together, without padding
    assert facts.state_high == [1.0, 2e6, None, 1e3, None]
    offset, scale, declared = standardisation(facts.obs_low, facts.obs_high)
    np.testing.assert_array_equal(declared, [[True, True, False], [True, False, False]])
    np.testing.assert_array_equal(offset, np.float32([[0.5, 1.5e6, 0.0], [500.0, 0.0, 0.0]]))
    np.testing.assert_array_equal(scale, np.float32([[0.5, 5e5, 1.0], [500.0, 1.0, 1.0]]))


def test_bounds_of_the_state_are_those_of_its_space():
    facts = ParallelAdapter(odd_envs.StateOutside(), "state").facts
    assert (facts.state_low, facts.state_high) == ([0.0, 0.0], [1.0, 1.0])
    facts = ParallelAdapter(odd_envs.StateSpace(), "state").facts
    assert (facts.state_low, facts.state_high) == ([None, None], [None, None])
    assert "its state_space has 3 numbers, but state() returns 2: it counts as unknown" in facts.notes


def test_scales_never_blow_up():
    low, high = [1e8, 0.0, 5.0, 2.0, -9e29], [1e8 + 1e-6, 1e-40, 5.0, 1.0, 9e29]
    offset, scale, declared = standardisation(low, high)
    np.testing.assert_array_equal(declared, [True, True, True, False, True])
    assert (np.isfinite(offset) & np.isfinite(scale) & (scale >= 9e-31)).all()
    seen = (np.float32(low)[declared] - offset[declared]) / scale[declared]
    assert (np.abs(seen) <= 1.001).all()


def test_a_mask_of_none_is_absent():
    shown = ParallelAdapter(odd_envs.Masked(), "masked").reset(0)
    np.testing.assert_array_equal(shown.avail_actions, [[True, True, False]] * 2)


def test_nothing_that_is_said_of_the_dead_matters():
    env = ParallelAdapter(odd_envs.DeadSilence(), "dead")
    env.reset(0)
    steps = [env.step(np.zeros(2, int)) for _ in range(5)]
    assert [s.alive.tolist() for s in steps] == [[True, True]] * 2 + [[True, False]] * 3
    assert np.isfinite([s.reward for s in steps]).all()
    np.testing.assert_array_equal([s.state[1] for s in steps[2:]], 0.0)
    assert steps[-1].truncated


def test_only_agents_are_paid():
    env = ParallelAdapter(odd_envs.Common(), "common")
    env.reset(0)
    assert max(env.step(np.zeros(2, int)).reward for _ in range(5)) <= 2.0


@pytest.mark.parametrize("name", ["Global", "GlobalUnseeded"])
def test_environments_of_one_process_do_not_disturb_each_other(name):
    """The same time-steps from one process as from two, with all chance from the generators of the process."""

    def played(workers: int) -> list[np.ndarray]:
        vector = source(name, workers).open([3, 4, 5])
        try:
            shown = [vector.reset()]
            for _ in range(8):  # into the second episode
                vector.send(np.zeros((3, 2), np.int32))
                shown.append(vector.receive())
        finally:
            vector.close()
        return [np.stack(column) for column in zip(*shown, strict=True)]

    for one, two in zip(played(1), played(3), strict=True):
        np.testing.assert_array_equal(one, two)


def test_drigms_own_building_lives_in_a_worker_too():
    """It imports, in the worker, drigm's copies of the modules that the worker consists of."""
    env = subprocess_env("pettingzoo", "drigm.envs.building:parallel_env?name=OfficeSmall/Tucson", workers=1)
    assert env.spec.state_size == 10  # six zones and what all of them see


def test_a_file_runs_once_in_a_process():
    vector = source("Scripted").open([0, 1, 2])
    try:
        np.testing.assert_array_equal(vector.reset().obs, 3.0)
    finally:
        vector.close()


def test_words_of_environments_are_cut():
    found = drigm.check_env(odd_envs.Chatty())
    assert len(found[0]) <= LONGEST
    env = ParallelAdapter(odd_envs.Chatty(), "chatty")
    env.reset(0)
    env.step(np.zeros(2, int))
    env.step(np.zeros(2, int))
    with pytest.raises(EnvError) as fault:
        env.step(np.zeros(2, int))
    assert len(str(fault.value)) <= LONGEST


@pytest.mark.parametrize("name", ["BigReward", "BigSum", "BigObs", "VanishOne"])
def test_a_fault_stops_training_in_the_sentence_of_check_env(tmp_path, name):
    sentence = dict(ERRORS)[name]
    settings = {"steps": 200, "num_envs": 4, "hidden": 8, "window": 3, "batch": 4, "replay_size": 200, "shards": 1}
    with pytest.raises(UserError) as error:
        drigm.train(
            f"pettingzoo:{FILE}:{name}", "vdn", out=tmp_path / "run", learning_starts=100, env_workers=1, quiet=True,
            **settings,
        )  # fmt: skip
    assert sentence in str(error.value)
    assert "learning_rate" not in str(error.value)


@pytest.mark.parametrize("env", [odd_envs.Coins, "module"])
def test_bad_arguments_are_said(env):
    with pytest.raises(UserError, match="episodes: 0 is not allowed"):
        drigm.check_env(env, episodes=0)
    with pytest.raises(UserError, match="timeout: nan is not allowed"):
        drigm.check_env(env, timeout=float("nan"))


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told_so_and_not_run_again(tmp_path):
    examples = Path(__file__).parents[2] / "examples"
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.append({str(examples)!r})\n"
        "import drigm, tank\n"
        "class Mine(tank.Tank): pass\n"
        "print(drigm.check_env(Mine))\n"
        "open('went on', 'a').write('.')\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "put the script's own work under if __name__ == '__main__'" in done.stdout
    assert (tmp_path / "went on").read_text() == "."
