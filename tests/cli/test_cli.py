"""The command line: what it prints, and how it says no: exit code 2, one line, nothing written, no traceback."""

import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from small import SMALL, assert_one_sentence, flags

import drigm
from drigm.algorithms.baselines import BASELINES
from drigm.algorithms.factorizations import FACTORIZATIONS
from drigm.algorithms.optimizer import OPTIMIZERS
from drigm.algorithms.uncertainty import SETS
from drigm.cli import main as cli
from drigm.core.config import FIELDS, TrainConfig, validate
from drigm.core.presets import PAPER_RHO, PRESETS
from drigm.envs.toy.probe import RULES
from drigm.evaluation.scores import Evaluation, ShiftScore
from drigm.training.runs import Run

CONFIG = SMALL.replace(env="probe:levels", factorization="vdn", seeds=3, steps=160, shards=1)


def run(*arguments):
    """The exit code, whether the command line returns it or argparse raises it."""
    try:
        return cli.main([str(a) for a in arguments])
    except SystemExit as stop:
        return stop.code


def refused(capsys, *arguments):
    """The one line that says what is wrong."""
    code = run(*arguments)
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err.strip()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, made by the command line."""
    path = tmp_path_factory.mktemp("cli") / "run"
    assert run("train", *flags(CONFIG), "--out", path, "--quiet") == 0
    return path


def test_train_prints_the_directory_and_nothing_else(finished, capsys):
    assert run("train", "--resume", finished, "--quiet") == 0  # finished: returned as it is
    out, err = capsys.readouterr()
    assert out == f"{finished}\n"
    assert err == ""
    assert run("train", "--resume", finished) == 0
    assert "for more, train a new run" in capsys.readouterr().err
    assert (finished / "learning_curve.png").stat().st_size > 0
    assert json.loads((finished / "config.json").read_text()) == vars(CONFIG)


def test_list_names_everything_that_the_flags_take(capsys):
    assert run("list", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["factorizations"] == list(FACTORIZATIONS)
    assert shown["uncertainty_sets"] == list(SETS)
    assert shown["baselines"] == {name: baseline.about for name, baseline in BASELINES.items()}
    assert shown["presets"] == list(PRESETS)
    assert shown["environments"]["probe"]["parts"]["NAME"] == list(RULES)
    assert "Tucson" in shown["environments"]["building"]["parts"]["CITY"]
    assert {"nominal", "climate"} <= set(shown["shifts"])
    assert run("list") == 0
    text = capsys.readouterr().out
    for names in (FACTORIZATIONS, SETS, RULES, shown["shifts"]):
        assert set(names) <= set(text.split())


def test_evaluate_gives_mean_and_standard_error_over_seeds(finished, capsys):
    assert run("evaluate", finished, "--shifts", "nominal", "--json") == 0
    (score,) = json.loads(capsys.readouterr().out)
    assert set(score) == {"name", "mean", "se", "per_seed"}
    assert score["name"] == "nominal"
    assert len(score["per_seed"]) == 3
    assert all(-4.0 <= x <= 0.0 for x in score["per_seed"])
    np.testing.assert_allclose(score["mean"], np.mean(score["per_seed"]))
    np.testing.assert_allclose(score["se"], np.std(score["per_seed"]) / np.sqrt(3))  # population std
    assert score["se"] > 0.0
    assert run("evaluate", finished, "--shifts", "nominal") == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split() == ["nominal", "score"]
    assert line.split() == ["nominal", f"{score['mean']:.3f}", "+-", f"{score['se']:.3f}"]


def test_evaluate_refuses(finished, tmp_path, capsys):
    assert "choose one of failures, noise, nominal" in refused(capsys, "evaluate", finished, "--shifts", "weather")
    assert "not a run directory" in refused(capsys, "evaluate", tmp_path)
    assert "DIR" in refused(capsys, "evaluate")
    assert "leave it out with the suite noise" in refused(
        capsys, "evaluate", finished, "--shifts", "noise", "--worlds", "obs_noise=0:1"
    )
    assert "give name=low:high" in refused(capsys, "evaluate", finished, "--worlds", "obs_noise=0.1")


def test_evaluate_plays_worlds_drawn_from_ranges(finished, capsys):
    assert run("evaluate", finished, "--worlds", "obs_noise=0:0.4", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 32
    assert found[0]["name"].startswith("world 1: obs_noise=")
    strengths = [float(one["name"].partition("=")[2]) for one in found]
    assert 0.0 <= min(strengths) < 0.05
    assert 0.35 < max(strengths) <= 0.4


class AskedError(Exception):
    """Ends a command where training would start."""


@pytest.fixture
def asked(monkeypatch):
    """The config and the path that the command line would train."""

    def parse(*arguments):
        def stop(config, path, *, quiet, log):
            raise AskedError(config, path)

        monkeypatch.setattr("drigm.training.runs.train_run", stop)
        with pytest.raises(AskedError) as asked:
            cli.main(["train", *arguments])
        return asked.value.args

    return parse


def test_every_setting_is_a_flag(asked):
    changed = TrainConfig().replace(
        env="probe:ends", factorization="vdn", uncertainty="tv", rho=0.25, fail_value="-3", seeds=4, steps=1000,
        share_parameters=True, double_q=True, learning_rate=1e-5, head="linear",
    )  # fmt: skip
    config, _ = asked(*flags(changed))
    assert vars(config) == vars(changed)
    assert {type(getattr(config, name)) for name in ("seeds", "steps", "hidden")} == {int}
    assert {type(getattr(config, name)) for name in ("rho", "gamma", "learning_rate")} == {float}


def test_numbers_may_be_written_as_people_write_them(asked):
    config, path = asked("--steps", "172_800", "--rho=1e-2", "--uncertainty=tv", "--no-double-q", "--out", "there")
    assert config.steps == 172_800
    assert config.rho == 0.01
    assert config.double_q is False
    assert str(path) == "there"
    assert asked("--steps", "1e3")[0].steps == 1000


def test_without_flags_nothing_is_changed(asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert asked() == (TrainConfig(), None)
    assert not list(tmp_path.iterdir())


def test_the_preset_paper_fills_in_what_is_not_said(asked):
    config, _ = asked("--preset", "paper", "--factorization", "qtran", "--uncertainty", "contamination")
    assert (config.rho, config.fail_value, config.head, config.preset) == (0.02, 0.0, "linear", "paper")
    for (factorization, uncertainty), rho in PAPER_RHO.items():
        config, _ = asked("--preset=paper", f"--factorization={factorization}", f"--uncertainty={uncertainty}")
        assert config.rho == rho
    config, _ = asked("--preset", "paper", "--uncertainty", "tv", "--rho", "0.3", "--fail-value", "auto")
    assert (config.rho, config.fail_value) == (0.3, "auto")  # what is said stays
    assert asked("--preset", "paper")[0].rho == 0.0  # nominal
    assert asked("--preset", "default")[0] == TrainConfig()


def test_the_preset_paper_has_the_released_codes_optimiser_and_schedule(asked):
    """In environment steps: an update in 2, or 4 in 8 with TV; a copy every 25,000; epsilon falls over 120,000."""
    for factorization in ("vdn", "qmix", "qtran"):
        for uncertainty, in_a_row in (("nominal", 1), ("contamination", 1), ("tv", 4)):
            config, _ = asked("--preset=paper", f"--factorization={factorization}", f"--uncertainty={uncertainty}")
            validate(config)
            rate = ("rmsprop", 5e-4) if factorization == "vdn" else ("adam", 1e-3)
            assert (config.optimizer, config.learning_rate) == rate
            assert config.learning_rate_end == config.learning_rate
            assert (config.updates, config.update_every * config.num_envs) == (in_a_row, 2 * in_a_row)
            assert config.target_period * 2 == 25_000
            assert config.epsilon_fraction * config.steps == pytest.approx(120_000)
            assert (config.epsilon_end, config.replay_size) == (0.01, 10_000)


@pytest.mark.parametrize("num_envs", [2, 3, 7, 8, 32])
@pytest.mark.parametrize("uncertainty", ["nominal", "tv"])
def test_the_preset_paper_updates_as_often_with_more_environments(asked, num_envs, uncertainty):
    config, _ = asked("--preset=paper", f"--uncertainty={uncertainty}", f"--num-envs={num_envs}")
    assert config.update_every * config.num_envs == 2 * config.updates
    assert config.shards == TrainConfig().shards


def test_what_is_said_stays_with_the_preset_paper(asked):
    config, _ = asked("--preset=paper", "--learning-rate=0.01", "--updates=3", "--optimizer=rmsprop", "--steps=60000")
    assert (config.learning_rate, config.learning_rate_end, config.updates) == (0.01, 0.01, 3)
    assert config.optimizer == "rmsprop"
    assert config.epsilon_fraction == 1.0  # shorter than the fall of epsilon


def test_rmsprop_is_that_of_pytorch():
    """v = 0.01 g^2, then 0.99 v + 0.01 g^2; the step is lr g / (sqrt(v) + 1e-8)."""
    optimizer, g = OPTIMIZERS["rmsprop"](0.5), jnp.array([2.0, -0.25])
    state = optimizer.init(g)
    for v in (0.01, 0.0199):
        step, state = optimizer.update(g, state)
        np.testing.assert_allclose(step, -0.5 * np.sign(g) / np.sqrt(v), rtol=1e-5)


# (arguments, what the message must contain)
REFUSED = {
    "unknown kind of env": (
        ["--env", "house:OfficeSmall"],
        "one of building, energyplus, jumanji, mpe, pettingzoo, probe, smac, smax",
    ),
    "env without a kind": (["--env", "OfficeSmall"], "drigm list"),
    "unknown probe": (["--env", "probe:nothing"], "discount"),
    "unknown city": (["--env", "building:OfficeSmall/Atlantis"], "Tucson"),
    "unknown factorization": (["--factorization", "sum"], "vdn"),
    "unknown uncertainty": (["--uncertainty", "wasserstein"], "contamination"),
    "unknown baseline": (["--baseline", "luck"], "short_horizon"),
    "a set without its radius": (["--uncertainty", "tv"], "the radius of tv"),
    "individual robust without a set": (["--baseline", "individual_robust", "--factorization", "vdn"], "a radius"),
    "too few environments for the worlds": (["--baseline=domain_randomization", "--num-envs=8"], "num_envs: "),
    "unknown preset": (["--preset", "mine"], "paper"),
    "short horizon and a set": (["--baseline=short_horizon", "--uncertainty=tv", "--rho=0.1"], "nominal with"),
    "short horizon above 1": (["--baseline", "short_horizon", "--rho", "1.5"], "from 0 to 1"),
    "individual robust without shares": (
        ["--baseline=individual_robust", "--factorization=qmix", "--uncertainty=tv", "--rho=0.1"],
        "vdn",
    ),
    "GroupDR without sources": (["--env", "probe:ends", "--baseline", "groupdr"], "baseline: 'groupdr'"),
    "unknown head": (["--head", "square"], "ordered"),
    "rho above 1": (["--uncertainty", "tv", "--rho", "1.5"], "rho: 1.5"),
    "rho below 0": (["--uncertainty", "tv", "--rho=-0.1"], "a number from 0"),
    "rho above what chi2 takes": (["--uncertainty", "chi2", "--rho", "11"], "rho: 11"),
    "rho nan": (["--uncertainty", "tv", "--rho", "nan"], "rho: nan"),
    "rho no number": (["--rho", "much"], "rho: 'much'"),
    "no seeds": (["--seeds", "0"], "seeds: 0"),
    "half a seed": (["--seeds", "2.5"], "whole number"),
    "no steps": (["--steps", "0"], "steps: 0"),
    "infinite steps": (["--steps", "inf"], "steps: inf"),
    "gamma above 1": (["--gamma", "1.01"], "gamma"),
    "negative learning rate": (["--learning-rate=-1"], "learning_rate"),
    "infinite learning rate": (["--learning-rate=inf"], "learning_rate"),
    "fail value no number": (["--fail-value", "low"], "auto"),
    "fail value nan": (["--fail-value", "nan"], "auto"),
    "fail value infinite": (["--fail-value=-inf"], "auto"),
    "rho with nominal": (["--uncertainty", "nominal", "--rho", "0.2"], "a radius needs one of contamination, tv"),
    "burn-in as long as the window": (["--window", "4", "--burn-in", "4"], "below window (4)"),
    "batch not a multiple of shards": (["--shards", "3", "--num-envs", "6", "--batch", "8"], "batch: 8"),
    "num_envs not a multiple of shards": (["--shards", "3", "--num-envs", "8", "--batch", "6"], "num_envs: 8"),
    "replay smaller than a window": (["--replay-size", "32", "--num-envs", "16", "--window", "8"], "replay_size: 32"),
    "ordered head without an order": (["--env", "probe:ends", "--head", "ordered"], "head: 'ordered'"),
    "unknown flag": (["--colour", "red"], "--colour"),
    "flag without a value": (["--rho"], "rho"),
    "a stray word": (["fast"], "fast"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_train_refuses(case, out, capsys):
    arguments, said = REFUSED[case]
    message = refused(capsys, "train", "--out", out, *arguments)
    assert said in message
    assert not out.exists()


@pytest.mark.parametrize("case", [name for name in REFUSED if "flag" not in name and "stray" not in name])
def test_what_is_wrong_is_one_sentence_that_names_the_field(case, out, capsys):
    message = refused(capsys, "train", "--out", out, *REFUSED[case][0])
    assert message.startswith("drigm: ")
    assert_one_sentence(message.removeprefix("drigm: "))
    assert message.removeprefix("drigm: ").split(":")[0] in {*FIELDS, "city"}


def test_a_taken_directory_is_left_alone(finished, tmp_path, capsys):
    before = sorted((file, file.stat().st_mtime_ns) for file in finished.rglob("*"))
    assert f"--resume {finished}" in refused(capsys, "train", *flags(CONFIG), "--out", finished)
    assert before == sorted((file, file.stat().st_mtime_ns) for file in finished.rglob("*"))
    (tmp_path / "file").write_text("mine")
    refused(capsys, "train", *flags(CONFIG), "--out", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_resume_takes_no_other_settings(finished, tmp_path, capsys):
    assert "--steps" in refused(capsys, "train", "--resume", finished, "--steps", "500")
    assert "--double-q" in refused(capsys, "train", "--resume", finished, "--no-double-q")
    assert "--out" in refused(capsys, "train", "--resume", finished, "--out", tmp_path / "other")
    assert "not a run directory" in refused(capsys, "train", "--resume", tmp_path)


def test_without_a_command_there_is_help(capsys):
    assert run() == 0
    assert capsys.readouterr().out.startswith("usage: drigm")
    assert run("--version") == 0
    assert capsys.readouterr().out == f"drigm {drigm.__version__}\n"


def test_help_does_not_wait_for_jax():
    """In a process of its own: this one has JAX already."""
    code = (
        "import sys\nfrom drigm.cli import main\n"
        "main.parser()\nfor line in ([], ['train', '--env', 'smax:3m', '--help']): main.main(line)\n"
        "assert not {'jax', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "(default: 0.99; elsewhere 0.997)" in done.stdout  # gamma of battles
    assert "(default: 2000000; elsewhere 172800)" in done.stdout


# what is typed: the program that answers, and what it says
TYPED = {
    ("trian",): ("drigm", "(did you mean train?)"),
    ("train", "--factorisation", "qmix"): ("drigm train", "is no flag of it (did you mean --factorization?)"),
    ("train", "--factorization", "qmx"): ("drigm", "(did you mean qmix?)"),
    ("train", "--env", "buildings:x"): ("drigm", "(did you mean building?)"),
    ("train", "--preset", "papers"): ("drigm", "(did you mean paper?)"),
    ("train", "--seeds"): ("drigm train", "--seeds: give a value."),
    ("evaluate",): ("drigm evaluate", "DIR: is missing; see drigm evaluate --help."),
    ("reproduce", "paper", "--sedes", "2"): ("drigm reproduce paper", "(did you mean --seeds?)"),
    ("export", "x", "--seed", "b"): ("drigm export", "--seed: 'b' is not allowed; give a whole number."),
}  # fmt: skip


@pytest.mark.parametrize("typed", TYPED)
def test_what_is_mistyped_gets_the_nearest_name(typed, capsys):
    program, said = TYPED[typed]
    message = refused(capsys, *typed)
    assert message.startswith(f"{program}: ")
    assert message.endswith(said if said.endswith(".") else f"{said}.")


def test_a_dry_run_says_everything_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("train", "--dry-run", *flags(CONFIG.replace(batch=128))) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = dict(line.split(" = ", 1) for line in lines if not line.startswith("#"))
    assert {name: json.loads(value) for name, value in shown.items()} == vars(CONFIG.replace(batch=128))
    assert "# 3 seeds, 35 updates of each; about " in "\n".join(lines)
    assert any("it sees the same steps several times" in line for line in lines)
    assert not list(tmp_path.iterdir())
    assert "steps: 20 is not allowed; above 24," in refused(
        capsys, "train", "--dry-run", *flags(CONFIG.replace(steps=20))
    )


@pytest.mark.parametrize("strength", ["agent_failure=5", "agent_failure=1.5", "demand=-1", "gravity=1"])
def test_a_dry_run_refuses_what_training_would(capsys, strength):
    said = refused(capsys, "train", "--dry-run", "--env", "supply:serial4", "--perturb", strength)
    assert said.startswith("drigm: perturb")


def test_runs_are_listed_with_what_is_stored(finished, tmp_path, capsys):
    parent = finished.parent
    assert run("evaluate", finished, "--shifts", "nominal", "--json") == 0
    (score,) = json.loads(capsys.readouterr().out)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    assert run("runs", parent, "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["path"] == str(finished)
    assert (found["method"], found["state"], found["step"], found["steps"]) == ("VDN", "finished", 160, 160)
    assert found["scores"] == {"nominal": {"nominal": score["mean"]}}
    assert run("runs", parent) == 0
    assert f"nominal {score['mean']:.3f}" in capsys.readouterr().out
    assert run("runs", tmp_path) == 0
    assert "unreadable" in capsys.readouterr().out
    refused(capsys, "runs", tmp_path / "nowhere")


def test_interrupted(monkeypatch, out, capsys):
    def interrupted(config, path, *, quiet, log):
        raise KeyboardInterrupt(f"stopped; continue with drigm train --resume {path}")

    monkeypatch.setattr("drigm.training.runs.train_run", interrupted)
    assert run("train", "--out", out) == 130
    assert capsys.readouterr().err == f"drigm: stopped; continue with drigm train --resume {out}\n"


@pytest.mark.parametrize("command", [["train"], ["evaluate"], ["verify"], ["sweep"], ["tune"], ["list"], []])
def test_help(command, capsys):
    assert run(*command, "--help") == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: drigm")
    if command == ["train"]:
        assert all("--" + name.replace("_", "-") in text for name in FIELDS)


def test_a_finished_run_says_what_it_is(finished):
    from drigm import load_run

    loaded = load_run(finished)
    assert isinstance(loaded, Run)
    assert str(loaded) == f"VDN on probe:levels, 3 seeds of 160 steps, in {finished}"
    assert loaded.seeds == [0, 1, 2]


def test_an_evaluation_says_what_is_better_than_the_team():
    """One seed says nothing about others, and a team below PI is no success."""
    scores = [ShiftScore("a", 0.5, np.nan, [0.5]), ShiftScore("b", 0.9, np.nan, [0.9])]
    found = Evaluation("x", scores, {"do_nothing": [0.4, 0.8], "pi": [0.7, 0.8], "pi_tuned": [0.6, 0.7]})
    assert found.warnings() == ["the team is worse than tuned PI in a."]
    untuned = found._replace(controllers={"pi": [0.7, 0.8]})
    assert untuned.warnings() == ["the team is worse than PI in a."]
    worse = found._replace(controllers={"do_nothing": [0.6, 1.0], "pi": [0.1, 0.1]})
    assert worse.warnings() == ["the team is worse than doing nothing in every world."]
    assert found._replace(controllers={}).warnings() == []
    assert str(found).splitlines()[1].split()[:4] == ["a", "0.500", "+-", "-"]
    assert json.loads(found.to_json())[0]["se"] is None
