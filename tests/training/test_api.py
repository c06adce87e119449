"""The Python API: what `drigm.train`, `resume`, `evaluate` and the others take and give back, and callbacks."""

import sys
import types

import pytest
from small import SMALL, assert_one_sentence

import drigm
from drigm.core.errors import UserError
from drigm.core.strengths import grid_of, perturb_text
from drigm.evaluation.listing import found_below
from drigm.report.study import collect

CONFIG = SMALL.replace(env="probe:levels", factorization="vdn", seeds=2, steps=400, shards=1)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that its callback ended early, and what the callback was told."""
    told = []

    def enough(reached):
        told.append(reached)
        return reached.step < 200

    path = tmp_path_factory.mktemp("api") / "stopped"
    return drigm.train(config=CONFIG, out=path, quiet=True, callback=enough), told


def test_a_callback_ends_a_run_which_says_so(stopped):
    run, told = stopped
    assert [reached.step for reached in told] == list(range(4, 201, 4))
    assert told[-1].steps == 400
    assert {seed: dict(row) for seed, row in told[-1].metrics.items()} == {
        seed: pytest.approx(run.directory.read_metrics(seed)[-1], nan_ok=True, rel=1e-4) for seed in (0, 1)
    }
    again = drigm.load_run(run.path)
    assert again.steps_trained == 200
    assert again.config == CONFIG
    assert "2 seeds of 200 of 400 steps" in str(again)
    assert again.weights().agents.num_agents == again.env.spec.num_agents
    assert drigm.resume(run.path, quiet=True).steps_trained == 200  # it has finished
    (listed,) = found_below(run.path.parent)
    assert (listed.state, listed.step) == ("stopped", 200)
    rows = run.metrics()
    assert [row["seed"] for row in rows] == [0] * 50 + [1] * 50
    assert rows[-1]["step"] == 200


def test_what_else_a_callback_raises_leaves_the_run_to_be_resumed(tmp_path):
    def pruned(reached):
        if reached.step == 200:
            raise LookupError("pruned")

    def wish(reached):
        if reached.step == 240:
            raise drigm.StopTraining

    with pytest.raises(LookupError, match="pruned"):
        drigm.train(config=CONFIG, out=tmp_path / "run", quiet=True, callback=pruned)
    (listed,) = found_below(tmp_path)
    assert (listed.state, listed.step) == ("unfinished", 200)
    run = drigm.resume(tmp_path / "run", quiet=True, callback=wish)
    assert run.steps_trained == 240


def test_paths_runs_and_several(stopped, monkeypatch):
    run, _ = stopped
    (found,) = drigm.evaluate([str(run.path)], perturb={"obs_noise": 0.1}, quiet=True)
    assert [score.name for score in found.scores] == ["obs_noise=0.1"]
    rows = found.rows()
    assert [(row["player"], row["seed"]) for row in rows] == [("team", 0), ("team", 1)]
    assert [row["score"] for row in rows] == found.scores[0].per_seed
    monkeypatch.setitem(sys.modules, "pandas", None)  # not installed
    monkeypatch.setitem(sys.modules, "polars", types.SimpleNamespace(DataFrame=list))
    assert found.to_dataframe() == rows
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(UserError, match="needs pandas or polars") as error:
        found.to_dataframe()
    assert_one_sentence(str(error.value))
    (alignment,) = drigm.verify([run.path])
    assert alignment.agreement == 1.0


def test_a_report_takes_strengths_and_knows_how_far_a_run_came(stopped):
    run, _ = stopped
    (study,) = collect([run], perturb={"obs_noise": [0.0, 0.1]})
    assert (study.worlds, study.nominal) == (["obs_noise=0", "obs_noise=0.1"], "obs_noise=0")
    (method,) = study.methods
    assert method.config.steps == 200  # another method than a run with all its steps
    assert method.scores.shape == (2, 2)
    (listed,) = found_below(run.path.parent)
    assert list(listed.scores) == ["nominal-obs_noise=0,0.1"]


def test_strengths_are_written_in_one_way_everywhere(tmp_path):
    grid = {"obs_noise": [0.0, 0.1], "action_delay": [2.0]}
    for given in ("obs_noise=0,0.1 action_delay=2", {"obs_noise": (0, 0.1), "action_delay": 2}):
        assert grid_of(given) == grid
        assert perturb_text(given) == "obs_noise=0,0.1 action_delay=2"
    assert grid_of(None) == {}
    for wrong in (0.1, {"obs_noise": "much"}, {"obs_noise": float("nan")}, {"obs_noise": []}, "obs_noise"):
        with pytest.raises(UserError) as error:
            grid_of(wrong)
        assert_one_sentence(str(error.value))
    with pytest.raises(UserError, match="perturb"):
        drigm.train(config=CONFIG, perturb={"obs_noise": [0, 0.1]}, out=tmp_path / "run", quiet=True)
