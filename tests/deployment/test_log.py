"""The log of a team in the loop: what stands in it, and what is no log."""

import json

import pytest
from deployed import CONFIGS, finished_run
from small import assert_one_sentence

from drigm.core.errors import UserError
from drigm.deployment.closed_loop import run_loop
from drigm.deployment.log import SCHEMA, is_log, read_log


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    run = finished_run(folder / "run", CONFIGS["masks and deaths"])
    return run_loop(run, run.env, folder / "log.jsonl", episodes=2, quiet=True).log


def test_a_line_is_what_was_played(log):
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    header, first = lines[:2]
    assert header["schema"] == SCHEMA
    assert [one["name"] for one in header["agents"]] == ["1", "b"]
    assert set(first) == {"episode", "step", "reward", "agents"}
    assert len(first["agents"]["1"]["readings"]) == 2
    assert [line["end"]["return"] for line in lines[1:] if "end" in line] == pytest.approx(
        [sum(line["reward"] for line in lines[1:] if line["episode"] == episode) for episode in (0, 1)]
    )
    assert "b" not in lines[4]["agents"]  # it leaves after three steps


def test_a_line_that_was_cut_short_is_left_out(log, tmp_path):
    whole = read_log(log).steps
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(log.read_bytes()[:-20])
    assert read_log(cut).steps == whole[:-1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "", "no log"),
        (lambda text: "{}\n", "no log"),
        (lambda text: text.replace(SCHEMA, "drigm-log/2"), "this version reads"),
        (lambda text: text.splitlines()[0] + "\n", "no steps"),
        (lambda text: text.replace('"step":1,', '"step":"x",', 1), "line 3 is not"),
        (lambda text: text.replace('"step":1,', '"step":Infinity,', 1), "line 3 is not"),
        (lambda text: text.replace('"flags":[]', '"flags":3', 1), "line 2 is not"),
        (lambda text: text.replace('"agents":[', '"agent":[', 1), "line 1 is not"),
        (lambda text: text.replace('"perturb":{}', '"perturb":{"wind":"strong"}', 1), "line 1 is not"),
        (lambda text: text.replace('{"episode"', "nonsense", 1), "line 2 is not"),
        (lambda text: "[" * 100_000 + "\n", "no log"),
    ],
)
def test_another_file_is_refused_in_one_sentence(change, said, log, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text(change(log.read_text()))
    with pytest.raises(UserError) as error:
        read_log(other)
    assert_one_sentence(str(error.value))
    assert said in str(error.value)


def test_logs_are_known_by_how_they_begin(log, tmp_path):
    assert is_log(log)
    (tmp_path / "other").write_text("{}")
    assert not is_log(tmp_path / "other")
    assert not is_log(tmp_path)
    assert not is_log(tmp_path / "missing")
