"""``drigm controllers``, ``tune-controller``; ``evaluate`` beside them, with a trim, and in another environment."""

import csv
import json

import pytest

import drigm
from drigm.cli.main import main
from drigm.envs import make_env
from drigm.evaluation.controllers import controllers_of

BUILDING = "building:OfficeSmall/Tucson"
NAMES = ["do_nothing", "p", "pi", "pi_tuned", "one_step_optimum"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A team of the building that has learnt next to nothing."""
    small = {"hidden": 8, "num_envs": 2, "replay_size": 400, "learning_starts": 60, "batch": 4}
    return drigm.train(BUILDING, "vdn", out=tmp_path_factory.mktemp("runs") / "run", steps=400, quiet=True, **small)


def said(capsys, *arguments):
    assert main([str(x) for x in arguments]) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments):
    assert main([str(x) for x in arguments]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("drigm:")]
    return line


@pytest.mark.slow
def test_evaluate_shows_controllers_beside_the_team(run, capsys):
    (world,) = json.loads(said(capsys, "evaluate", run.path, "--shifts", "nominal", "--json"))
    assert list(world["controllers"]) == NAMES == controllers_of(make_env(BUILDING))
    assert world["controllers"]["pi"] == pytest.approx(0.983, abs=0.002)
    assert "pi_tuned" in said(capsys, "evaluate", run.path, "--shifts", "nominal")
    (world,) = json.loads(said(capsys, "evaluate", run.path, "--shifts", "nominal", "--json", "--no-controllers"))
    assert list(world) == ["name", "mean", "se", "per_seed"]


@pytest.mark.slow
def test_a_trim_helps_a_team_that_knows_nothing(run, capsys):
    quiet = ("--shifts", "nominal", "--json", "--no-controllers")
    plain, trimmed, none = (
        json.loads(said(capsys, "evaluate", run.path, *quiet, *trim))[0]["mean"]
        for trim in ((), ("--trim", "0.01"), ("--trim", "0"))
    )
    assert trimmed > plain
    assert none == plain
    assert "trim: -1.0 is not allowed" in refused(capsys, "evaluate", run.path, "--trim", "-1")


@pytest.mark.slow
def test_evaluate_in_another_environment(run, capsys):
    """New York as an environment of its own is New York of the suite, where PI is tuned in Tucson all the same."""
    cities = {world["name"]: world for world in json.loads(said(capsys, "evaluate", run.path, "--json"))}
    there = ("--env", "building:OfficeSmall/NewYork", "--shifts", "nominal", "--json")
    (world,) = json.loads(said(capsys, "evaluate", run.path, *there))
    assert world["mean"] == pytest.approx(cities["NewYork"]["mean"], abs=1e-3)
    assert world["controllers"] == pytest.approx(cities["NewYork"]["controllers"], abs=1e-3)
    assert "no agent called left or right" in refused(capsys, "evaluate", run.path, "--env", "probe:levels")


def test_controllers_are_printed_and_written(tmp_path, capsys):
    file = tmp_path / "controllers.csv"
    found = json.loads(said(capsys, "controllers", BUILDING, "--shifts", "season", "--csv", file, "--json"))
    assert list(found) == NAMES
    with open(file, newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["world"] for row in rows] == ["winter", "spring", "summer", "autumn"]
    assert all(float(row["pi"]) == pytest.approx(found["pi"][row["world"]], abs=1e-5) for row in rows)
    assert "do_nothing" in said(capsys, "controllers", "probe:levels", "--shifts", "nominal")


def test_tune_controller(capsys):
    found = json.loads(said(capsys, "tune-controller", BUILDING, "--json"))
    assert found[0]["agent"] == "CORE_ZN"
    assert all(one["fit"] > 0.99 and one["delay"] == 0.5 for one in found)
    assert "held at a setpoint" in refused(capsys, "tune-controller", "probe:levels")
