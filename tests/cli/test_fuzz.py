"""No input leads to a traceback or a hang; `tools/fuzz.py` does the same for as long as you like."""

import os

import pytest
from fuzzing import CONSTANTS_JSON, CONSTANTS_TOML, try_config, try_line, try_sweep
from fuzzing_files import TARGETS, WEIGHTS_FILE, files, of_types, try_run
from hypothesis import HealthCheck, Phase, given, settings

INPUTS = int(os.environ.get("DRIGM_FUZZ_INPUTS", "400"))  # of each kind


WAITS = ("metrics", "safetensors", "run directory")  # they write files
EVERY = [pytest.param(name, marks=[pytest.mark.slow] if name in WAITS else []) for name in TARGETS]


@pytest.mark.parametrize("name", EVERY)
def test_inputs_are_taken_or_refused(name):
    strategy, attempt = TARGETS[name]

    @settings(
        max_examples=INPUTS,
        deadline=None,
        database=None,
        derandomize=True,  # the same inputs everywhere; the tool draws others each time
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def check(value):
        attempt(value)

    check()


@pytest.mark.parametrize("text", CONSTANTS_JSON, ids=range(len(CONSTANTS_JSON)))
def test_known_configs(text):
    assert try_config(text) == (text in ("{}", '{"rho": -0.0}'))


@pytest.mark.parametrize("text", CONSTANTS_TOML, ids=range(len(CONSTANTS_TOML)))
def test_known_sweeps(text):
    assert not try_sweep(text)


@pytest.mark.parametrize(
    "line",
    [
        ["--steps", "1e22"],
        ["--steps", "9" * 400],
        ["--rho", "9" * 5000],
        ["--first-seed", "4294967296"],
        ["--first-seed", "2147483647", "--seeds", "2"],
        ["--replay-size", "1e22"],
        ["--env", "probe:" + "x" * 10_000],
        ["--env", "pettingzoo:\0:x"],
        ["--out", ""],
        ["--out", "a\0b"],
        ["--resume", "\udd00=0"],
        ["--resume", ""],
        ["--out", "x" * 10_000],
        ["--perturb", "obs_noise=" + "9" * 5000],
        ["--preset", "paper", "--env", "smax:3m"],
        ["--preset", "paper", "--env", "probe:levels"],
    ],
)
def test_known_lines(line):
    assert not try_line(["train", *line])


@pytest.mark.parametrize("line", [["--fail-value", "-1e3"], ["--first-seed", "2147483646", "--seeds", "2"]])
def test_lines_that_are_fine(line):
    assert try_line(["train", *line])


@pytest.mark.parametrize("name", files())
def test_the_files_of_a_run_are_fine(name):
    assert try_run(((name, files()[name]), False))


@pytest.mark.parametrize("dtype", ["F4", "F8_E4M3", "F8_E8M0", "BF16", "F64", "C64"])
def test_weights_of_another_type_are_refused(dtype):
    assert not try_run(((WEIGHTS_FILE, of_types([(dtype, [2, 3]), ("F32", [4]), ("I32", [])], 0)), True))
