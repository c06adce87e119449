"""Tuning: what is asked for, the choice, what is predicted of it; real sweeps, of teams that are made up."""

import contextlib
import csv
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from small import SMALL, assert_one_sentence

from drigm.cli.main import main
from drigm.core.errors import UserError
from drigm.core.metrics import COLUMNS
from drigm.envs import make_env
from drigm.evaluation.scores import Evaluation, returns_of, shift_score
from drigm.experiments import sweep as sweeps
from drigm.experiments.sweep import worker
from drigm.experiments.sweep.engines import Ended, Engine
from drigm.experiments.tune import truth as truths
from drigm.experiments.tune import tune
from drigm.experiments.tune.asked import label, parse_over, parse_truth, source_of
from drigm.experiments.tune.choose import choose_point, predicted_gain
from drigm.storage.run_directory import RunDirectory, seeds_of
from drigm.training.loop import DivergedError
from drigm.training.runs import load_run
from drigm.training.session import Reached

OPEN = ("env", "factorization", "uncertainty", "rho", "agent_rho", "seeds", "worlds", "world_count")
SETTINGS = {name: value for name, value in vars(SMALL).items() if name not in OPEN}
SETTINGS |= {"env": "probe:gamble", "factorization": "vdn", "uncertainty": "tv", "seeds": 5}
GRID = "rho=0,0.1,0.2,0.4,0.8,1"


def home_of(rho):
    """What a made-up team gets at home: from 0.8 on nothing that a budget bears, at 1 nothing at all."""
    return 1.0 - 0.1 * rho if rho < 0.8 else 0.8 if rho < 1 else 0.1


def scores_of(config, worlds):
    """The scores [W, K] of a made-up team: a radius of 0.4 helps most where nobody has been, 0.8 yet more."""
    rho, seeds = config.rho, np.array(seeds_of(config))
    away = home_of(0.0) + {0.0: 0.0, 0.1: 0.05, 0.2: 0.1, 0.4: 0.3, 0.8: 0.5}.get(rho, 0.5 - abs(rho - 0.45))
    luck = 0.01 * np.sin(7.0 * seeds + 3.0 * rho)
    return np.stack([(home_of(rho) if i == 0 else away) + luck for i in range(len(worlds))])


@pytest.fixture
def made_up(monkeypatch):
    """Sweeps in this process, whose teams are made up; the value lists what was trained."""
    trained = []

    def train_together(configs, folder, *, quiet, log, callback):
        runs = []
        for path, config in configs.items():
            directory = RunDirectory(path)
            if not directory.is_finished(config):
                trained.append(path.name)
                directory.create(config)
                stopped = None
                for step in range(config.steps // 10, config.steps + 1, config.steps // 10):
                    row = dict.fromkeys(COLUMNS, 0.0) | {
                        "step": step,
                        "return": home_of(config.rho),
                        "win_rate": np.nan,
                    }
                    for seed in seeds_of(config):
                        directory.append_metrics(seed, row)
                    if callback is not None and callback(Reached(step, config.steps, {0: row})) is False:
                        stopped = step
                        break
                if config.rho == 0.3:
                    raise DivergedError("learning_rate: 1 is not allowed; give a smaller one.")
                directory.record_stop(stopped)
                for seed in seeds_of(config):
                    directory.save_weights(seed, {"rho": np.float32([config.rho, seed])})
                directory.finish(config)
            runs.append(load_run(path))
        return runs

    def evaluate_together(runs, suite, perturb, quiet, env=None, trim=0.0, ranges="", count=1):
        from drigm.envs.shifts import worlds

        tried = worlds(env or runs[0].env, suite if suite != "worlds" else "nominal", None, ranges, count).shifts
        found = []
        for run in runs:
            rows = zip(tried, scores_of(run.config, tried), strict=True)
            found.append(Evaluation(suite, [shift_score(w.name, row) for w, row in rows], seeds=tuple(run.seeds)))
        return found

    @contextlib.contextmanager
    def here(plan, options):
        ended = []
        yield Engine(
            2,
            lambda program: ended.append(Ended(program, worker.attempt(plan.folder, program, "", 1))),
            lambda seconds: [ended.pop(0)] if ended else [],
        )

    monkeypatch.setattr(worker, "train_together", train_together)
    monkeypatch.setattr(worker, "cache_compilations", lambda: None)
    monkeypatch.setattr("drigm.evaluation.cache.evaluate_together", evaluate_together)
    monkeypatch.setattr(truths, "evaluate_together", evaluate_together)
    monkeypatch.setitem(sweeps.ENGINES, "local", here)
    return trained


def made(tmp_path, over=GRID, **changes):
    given = {"worlds": "risk", "out": tmp_path / "tuning", "quiet": True, **SETTINGS}
    return tune(over=over, **(given | changes))


def test_the_best_that_home_can_bear_is_chosen_and_held_against_the_truth(made_up, tmp_path):
    pytest.importorskip("optuna")
    found = made(tmp_path, truth=["obs_noise=0.1:0.3", "action_noise=0:0.1; noise"])
    assert found.chosen == {"rho": 0.4}  # 0.8 gains more, and costs a fifth at home
    assert found.config.rho == 0.4
    assert found.run().config == found.config
    outcome = found.outcome
    assert [trial.name for trial in outcome.lost] == ["rho=1"]  # at half-time it was hopeless
    assert outcome.lost[0].state == "pruned"
    assert len(outcome.folds) == 6  # the suite's worlds without home
    assert {outcome.finished[fold.chosen].name for fold in outcome.folds} == {"rho=0.4"}
    np.testing.assert_allclose(outcome.prices[outcome.chosen].estimate, 0.04, atol=0.01)
    np.testing.assert_allclose(outcome.predicted.estimate, 0.3, atol=0.01)
    assert outcome.predicted.low > 0.25
    for truth in outcome.truths:  # the first world of a made-up truth is like home, the others are not
        gains = [gain.estimate for gain in truth.gains]
        assert np.argmax(gains) == 4  # 0.8, which home could not bear
        assert truth.hindsight == outcome.chosen
        assert truth.reached(outcome.chosen) == 1.0
        assert truth.paper is not None
        assert truth.paper[0] == {"rho": 0.5}
    assert sorted(made_up) == ["rho=0", "rho=0.1", "rho=0.2", "rho=0.4", "rho=0.5", "rho=0.8", "rho=1"]
    assert made_up[0] == "rho=0"  # what others are held against
    assert made_up[-1] == "rho=0.5"  # once the choice stands
    written = json.loads((found.path / "tune.json").read_text())
    assert written["chosen"] == {"rho": 0.4}
    assert written["truth"][0]["share_of_hindsight"] == 1.0
    assert written["truth"][0]["always_0"]["gain"]["estimate"] == 0.0
    rows = list(csv.DictReader((found.path / "trials.csv").read_text().splitlines()))
    assert [row["state"] for row in rows] == ["finished"] * 3 + ["chosen", "finished", "pruned"]
    page = (found.path / "report.html").read_text()
    assert all(sentence.split(",")[0] in page for sentence in ("rho=0.4 was chosen for VDN", "It costs 4."))
    assert page.count("<figure>") == 1
    # Whatever stopped it: nothing is trained again, and everything is as it was.
    done, files = list(made_up), {file: file.read_bytes() for file in found.path.glob("*.*")}
    again = made(tmp_path, truth=["obs_noise=0.1:0.3", "action_noise=0:0.1; noise"])
    assert made_up == done
    assert str(again) == str(found)
    assert files == {file: file.read_bytes() for file in found.path.glob("*.*")}
    with pytest.raises(UserError, match="other budget") as refused:
        made(tmp_path, budget=0.3)
    assert_one_sentence(str(refused.value))


def test_a_larger_budget_takes_more_and_none_takes_nothing(made_up, tmp_path):
    pytest.importorskip("optuna")
    assert made(tmp_path, "rho=0,0.4,0.8", budget=0.25).chosen == {"rho": 0.8}
    none = made(tmp_path, "rho=0.4,0.8", budget=0.0, out=tmp_path / "none")
    assert none.chosen == {"rho": 0.0}  # no point of the grid, and always allowed
    assert none.outcome.predicted.estimate == 0.0
    assert "No truth was asked for" in str(none)


def test_a_range_is_searched_and_the_same_points_are_suggested_again(made_up, tmp_path):
    pytest.importorskip("optuna")
    found = made(tmp_path, ["rho=0:0.6", "gamma=0.8,0.9"], trials=9, seeds=2)
    points = [trial.point for trial in (*found.outcome.finished, *found.outcome.lost)]
    assert len(points) == 9  # the team without robustness is one of them
    assert points[0] == {"rho": 0.0, "gamma": 0.9}
    assert all(0.0 <= point["rho"] <= 0.6 and point["gamma"] in (0.8, 0.9) for point in points)
    done = list(made_up)
    assert made(tmp_path, ["rho=0:0.6", "gamma=0.8,0.9"], trials=9, seeds=2).chosen == found.chosen
    assert made_up == done
    assert "too few for a verdict" in str(found)


def test_a_point_that_fails_is_told_and_the_choice_stands(made_up, tmp_path, capsys):
    pytest.importorskip("optuna")
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items() if not isinstance(value, bool)]
    out = str(tmp_path / "tuning")
    code = main(["tune", *flags, "--over", "rho=0,0.3,0.4", "--worlds", "risk", "--out", out, "--json"])
    said = capsys.readouterr()
    assert code == 2
    assert json.loads(said.out)["chosen"] == {"rho": 0.4}
    assert "drigm: rho=0.3: learning_rate" in said.err
    assert "trial=rho=0.4 state=finished price=0.0" in said.err


def test_settings_are_those_of_a_run(made_up, tmp_path):
    pytest.importorskip("optuna")
    first = made(tmp_path, "rho=0,0.4")
    again = tune(first.run().path, over={"rho": [0.0, 0.2]}, worlds="risk", out=tmp_path / "again", quiet=True, seeds=2)
    assert again.config == first.config.replace(rho=0.2, seeds=2)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"over": "rho"}, ("over rho", "''", "values as in")),
        ({"over": "rho=0.5:0.1"}, ("over rho", "low:high")),
        ({"over": "rho=0,x"}, ("over rho", "'x'", "a number")),
        ({"over": "rho=0,11"}, ("rho", "11", "from 0 to 10")),
        ({"over": "gamma=0.9,0.99"}, ("over", "gamma", "give a radius")),
        ({"over": ["rho=0,1", "rho=2"]}, ("over", "'rho'", "once")),
        ({"over": "seeds=1,2"}, ("over", "'seeds'", "rho")),
        ({"over": "kappa=1,2"}, ("over", "'kappa'", "rho")),
        ({"worlds": ""}, ("worlds", "''", "choose in")),
        ({"worlds": "climate"}, ("worlds", "'climate'", "risk")),
        ({"worlds": "dance=0:1"}, ("worlds", "'dance'", "obs_noise")),
        ({"worlds": "obs_noise=0:1", "hold_out": "range"}, ("worlds", "obs_noise", "fewer than two groups")),
        ({"worlds": "obs_noise=0.5:0.5"}, ("worlds", "obs_noise=0.5:0.5", "no halves")),
        ({"hold_out": "some"}, ("hold_out", "'some'", "half")),
        ({"truth": "risk"}, ("truth", "'risk'", "proves nothing")),
        ({"truth": "nominal"}, ("truth", "'nominal'", "proves nothing")),
        ({"truth": "climate"}, ("worlds", "'climate'", "noise")),
        ({"truth": "probe:levels"}, ("env", "probe:levels", "readings")),
        ({"budget": -1.0}, ("budget", "-1.0", "0 or more")),
        ({"trials": -1}, ("trials", "-1", "whole number")),
        ({"world_count": 0}, ("world_count", "0", "from 1")),
        ({"rho": 0.2}, ("settings", "rho", "leave it out")),
        ({"uncertainty": "nominal"}, ("over rho", "0.2 cannot be tried", "nominal")),
        ({"engine": "spark"}, ("engine", "'spark'", "local")),
    ],
)
def test_what_cannot_be_asked_for(changes, told, tmp_path, monkeypatch):
    monkeypatch.setattr("drigm.experiments.tune.load_optuna", lambda: None)
    monkeypatch.setattr("drigm.experiments.tune.search.load_optuna", lambda: pytest.importorskip("optuna"))
    with pytest.raises(UserError) as refused:
        made(tmp_path, **({"over": "rho=0,0.2"} | changes))
    assert_one_sentence(str(refused.value))
    field, *others = told
    assert str(refused.value).startswith(f"{field}: ")
    assert all(other in str(refused.value) for other in others)
    assert not list(tmp_path.iterdir())


def test_optuna_is_asked_for_in_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)  # as if it were not installed
    assert main(["tune", "--over", "rho=0,0.2", "--worlds", "risk", "--out", str(tmp_path / "no")]) == 2
    said = capsys.readouterr().err
    assert said == "drigm: tune: Optuna is not installed: pip install 'drigm[tune]'.\n"
    assert not (tmp_path / "no").exists()


def test_worlds_are_held_out_by_range_by_half_and_one_by_one():
    env = make_env("building:OfficeSmall/Tucson")
    text, config = "power=0.5:2,gains=-0.1:0.1@3h,action_delay=0:3", SMALL.replace(env="building:OfficeSmall/Tucson")
    ranges = source_of(env, text, "", 2, config)
    assert [group.title for group in ranges.groups] == ["power=0.5:2", "gains=-0.1:0.1@3h", "action_delay=0:3"]
    assert [group.places for group in ranges.groups] == [(1, 2), (3, 4), (5, 6)]  # 0 is home
    halves = source_of(env, text, "half", 2, config)
    titles = ["power=0.5:1", "power=1:2", "gains=-0.1:0@3h", "gains=0:0.1@3h", "action_delay=0:1", "action_delay=2:3"]
    assert [group.title for group in halves.groups] == titles
    assert [group.title for group in source_of(env, "lag=0:0.4", "", 1, config).groups] == ["lag=0:0.2", "lag=0.2:0.4"]
    each = source_of(env, text, "world", 3, config)
    assert [group.places for group in each.groups] == [(1,), (2,), (3,)]
    with pytest.raises(UserError, match="trained in worlds of"):
        source_of(env, text, "", 2, config.replace(worlds="power=0.7:1.3"))


def test_what_is_asked_for_is_read():
    assert [axis[:2] for axis in parse_over(["rho=0.2,0,0.1,0.1", "factorization=vdn,qmix", "double_q=true"])] == [
        ("rho", (0.0, 0.1, 0.2)),
        ("factorization", ("qmix", "vdn")),
        ("double_q", (True,)),
    ]
    (axis,) = parse_over({"agent_rho": "0:0.5"})
    assert (axis.values, axis.low, axis.high) == ((), 0.0, 0.5)
    source = "nominal; demand=1:1.5; lead_time=0:2"
    asked = ["demand=1.5:2", "energyplus:OfficeSmall/Tucson?gains=office climate", "energyplus:OfficeSmall/Tucson"]
    home, usual = "supply:serial4", "demand"
    assert parse_truth(asked, source, home, usual) == [
        ("", "demand=1.5:2"),
        ("energyplus:OfficeSmall/Tucson?gains=office", "climate"),
        ("energyplus:OfficeSmall/Tucson", ""),
    ]
    assert parse_truth(f"{home} demand=2:3", source, home, usual) == [("", "demand=2:3")]
    for known in ("demand=1.1:1.2", "demand=1:1.5,lead_time=1:2", f"{home} demand=1.1:1.2", f"{home} nominal"):
        with pytest.raises(UserError, match="proves nothing"):
            parse_truth(known, source, home, usual)
    with pytest.raises(UserError, match="proves nothing"):
        parse_truth(home, "nominal; demand", home, usual)
    assert parse_truth([home, "demand", f"{home} demand"], source, home, usual) == [("", "demand")]


def test_home_is_no_part_of_a_truth_whatever_a_suite_calls_it():
    env = make_env("supply:serial4")
    for suite, places in (("failures", [1, 2, 3, 4]), ("demand", list(range(1, 9))), ("demand=1:2", [0, 1])):
        assert truths._away(("", suite), env, 2) == places
    assert truths._away(("supply:serial4?sales=lost", "demand"), make_env("supply:serial4?sales=lost"), 2)[0] == 0
    assert truths._away(("", "nominal"), env, 2) == [0]


def test_worlds_of_another_process_are_not_home():
    env = make_env("pettingzoo:examples/tank.py:Tank")
    assert truths._away(("", "nominal; leak=0.06:0.1"), env, 2) == [1, 2]


def test_points_that_differ_late_have_names_of_their_own():
    names = ("learning_rate", "target_step", "batch_size", "entropy_something", "td_lambda", "factorization", "rho")
    long = dict.fromkeys(names, 0.123456) | {"gamma": 0.9}
    one, other = label(long), label(long | {"gamma": 0.99})
    assert one != other
    assert max(len(one), len(other)) <= 100
    assert label({"rho": 0.1, "gamma": 0.9}) == "rho=0.1,gamma=0.9"


def test_shares_are_of_returns():
    for name in ("building:OfficeSmall/Tucson", "supply:serial4", "probe:gamble"):
        env = make_env(name)
        returns = np.array([[-90.0, -20_000.0]])
        np.testing.assert_allclose(returns_of(env, np.asarray(env.score(returns))), returns, rtol=1e-6)


def test_what_is_predicted_is_not_rosy():
    """Of equal points the one that looks best gains nothing elsewhere; its own gain says otherwise."""
    rng, rosy, predicted, held = np.random.default_rng(0), [], [], []
    for _ in range(200):
        home, luck = 100 + rng.normal(size=(6, 5)), rng.normal(size=(6, 5, 1))
        source = 100 + luck + 0.3 * rng.normal(size=(6, 5, 4))
        chosen = choose_point(home, source, 0.05)
        rosy.append((source[chosen] - source[0]).mean())
        found = predicted_gain(home, source, 0.05)
        predicted.append(100 * found.estimate)
        held.append(found.low <= 0.0 <= found.high)
    assert np.mean(rosy) > 0.4
    assert abs(np.mean(predicted)) < 0.15  # 3 standard errors of this mean
    assert np.mean(held) > 0.9


@pytest.mark.slow
def test_a_radius_is_chosen_by_trainings(tmp_path):
    pytest.importorskip("optuna")
    given = {"out": tmp_path, "world_count": 2, "budget": 100.0, **SETTINGS, "seeds": 2}
    found = tune(over="rho=0,0.5", worlds="obs_noise=0:1", truth="risk", quiet=True, **given)
    assert set(found.swept.scores) == {"rho=0", "rho=0.5"}  # with such a budget nobody is hopeless
    (truth,) = found.outcome.truths
    assert truth.names == [f"risk 0.{k}5" for k in range(3, 9)]  # at 0.25 it is home
    assert truth.paper is not None
    assert truth.paper[1] == truth.gains[1]  # the paper's radius is one of the grid
    assert not (tmp_path / "paper").exists()


@pytest.mark.slow
def test_the_studies_of_the_page_can_be_asked_for(monkeypatch, capsys):
    """Every command of docs/choosing-a-radius.md that begins with an environment, up to where it would train."""
    page = (Path(__file__).parents[2] / "docs" / "choosing-a-radius.md").read_text(encoding="utf-8")
    lines = [line for line in page.replace("\\\n", " ").splitlines() if line.startswith("drigm tune --env")]
    assert len(lines) >= 3

    def stop(folder, about):
        raise UserError(f"{len(about['groups'])} groups.")

    monkeypatch.setattr("drigm.experiments.tune._claim", stop)
    monkeypatch.setattr("drigm.experiments.tune.load_optuna", lambda: None)
    for line in lines:
        assert main(shlex.split(line)[1:]) == 2
        assert re.fullmatch(r"drigm: \d groups\.\n", capsys.readouterr().err)
