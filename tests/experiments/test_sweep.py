"""Sweeps: what a file means, what stands in the folder, and the same results from every engine, kills included."""

import contextlib
import csv
import importlib
import importlib.util
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from small import SMALL, assert_one_sentence

from drigm.cli.main import main
from drigm.core.errors import UserError
from drigm.evaluation.scores import shift_score
from drigm.experiments.sweep import sweep
from drigm.experiments.sweep.engines import Ended, Engine, Options, local_engine
from drigm.experiments.sweep.plan import Plan, load_plan, make_plan
from drigm.experiments.sweep.pruning import Pruning, is_hopeless
from drigm.experiments.sweep.results import Swept, exploring_score
from drigm.experiments.sweep.spec import Scoring, Sweep, read_sweep
from drigm.experiments.sweep.supervise import drive
from drigm.experiments.sweep.worker import own_cores
from drigm.runtime.files import hold
from drigm.storage.run_directory import RunDirectory
from drigm.training.runs import load_run

OPEN = ("env", "factorization", "uncertainty", "rho", "gamma", "seeds")
BASE = {name: value for name, value in vars(SMALL).items() if name not in OPEN} | {"env": "probe:recall", "seeds": 2}
GRID = {"uncertainty": ["tv", "contamination"], "rho": [0.1, 0.2]}
CONTENT = {"name": "tiny", "base": BASE, "grid": GRID, "evaluate": {"shifts": "nominal"}}
# 24 points in 4 programs, each long enough to be caught in the middle.
MANY = {
    "name": "many",
    "base": BASE | {"seeds": 1, "steps": 12_000},
    "grid": {"uncertainty": ["tv", "contamination"], "gamma": [0.8, 0.9], "rho": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]},
    "evaluate": {"shifts": "nominal"},
}


def toml(content):
    """`content` as TOML, whose values are JSON's here."""
    tables = {name: table for name, table in content.items() if isinstance(table, dict) and name != "points"}
    lines = [f"{name} = {json.dumps(value)}" for name, value in content.items() if not isinstance(value, dict | list)]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    for point in content.get("points", []):
        lines += ["[[points]]", *(f"{key} = {json.dumps(value)}" for key, value in point.items())]
    return "\n".join(lines)


def test_points_are_the_grid_and_the_single_ones(tmp_path):
    file = tmp_path / "radii.toml"
    file.write_text(toml({key: CONTENT[key] for key in ("base", "grid")} | {"points": [{"gamma": 0.5}, {"rho": 0}]}))
    found = read_sweep(file)
    assert found.name == "radii"
    assert found.scoring is None
    points = [(c.uncertainty, c.rho, c.gamma) for c in found.configs]
    grid = [(u, r, 0.997) for u in ("tv", "contamination") for r in (0.1, 0.2)]
    assert points == [*grid, ("nominal", 0.0, 0.5), ("nominal", 0.0, 0.997)]
    assert all(c.env == "probe:recall" and c.hidden == 8 for c in found.configs)
    twice = read_sweep(CONTENT | {"points": [{"uncertainty": "tv", "rho": 0.1}]})
    assert len(twice.configs) == 4  # the single point stands in the grid
    assert twice.scoring == Scoring("nominal")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"gird": {}}, ("sweep", "'gird'", "grid")),
        ({"name": "a/b"}, ("name", "'a/b'", "letters")),
        ({"together": -1}, ("together", "-1", "whole number")),
        ({"base": 3}, ("base", "3", "table")),
        ({"base": {"lerning_rate": 1}}, ("setting", "'lerning_rate'", "learning_rate")),
        ({"base": {"gamma": 2}}, ("gamma", "2", "from 0 to 1")),
        ({"base": BASE | {"rho": 0.1}}, ("grid", "'rho'", "base")),
        ({"grid": GRID | {"gamma": 0.5}}, ("grid.gamma", "0.5", "list")),
        ({"grid": GRID | {"gamma": []}}, ("grid.gamma", "[]", "list")),
        ({"grid": GRID | {"gamma": [0.5, "x"]}}, ("gamma", "'x'", "a number")),
        ({"grid": GRID | {"rho": [0.1, True]}}, ("rho", "True", "a number")),
        ({"grid": {}}, ("sweep", "0 points", "grid")),
        ({"base": {}, "grid": {"first_seed": [*range(20_000)]}}, ("sweep", "20000 points", "10000")),
        ({"points": {"rho": 0.1}}, ("points", "[[points]]")),
        ({"points": [{"uncertainty": "tv"}]}, ("sweep", "uncertainty=tv", "rho: None", "radius")),
        ({"points": [{"uncertainty": "tv", "rho": 7}]}, ("sweep", "rho=7", "from 0 to 1 with tv")),
        ({"points": [{"factorization": "dmix"}]}, ("sweep", "factorization=dmix", "vdn")),
        ({"points": [{"env": "probe:dance"}]}, ("sweep", "env=probe:dance", "recall")),
        ({"points": {"logs": {"gamma": 0.5}}}, ("points", "'logs'", "folder")),
        ({"points": {"scores.csv": {"gamma": 0.5}}}, ("points", "'scores.csv'", "digits only")),
        ({"points": {"a": {"gamma": 0.5}, "b": {"gamma": 0.5}}}, ("points", "'b'", "'a' has the same settings")),
        ({"tables": {"compare": [["a", "b"]]}}, ("tables", "'a'", "choose one of")),
        ({"tables": {"compare": ["a"]}}, ("tables.compare", "['a']", "pairs")),
        ({"tables": {"outcome": "nominal"}}, ("tables.outcome", "'nominal'", "worlds")),
        ({"tables": {"outcome": ["obs_noise=3"]}}, ("tables.outcome", "'obs_noise=3'", "nominal")),
        ({"tables": {"against": {"roh": 0.0}}}, ("setting", "'roh'", "rho")),
        ({"tables": {"percent": 1}}, ("tables.percent", "1", "true or false")),
        ({"tables": {"against": 0.0}}, ("tables.against", "0.0", "table")),
        ({"tables": {}, "evaluate": None}, ("tables", "[evaluate]")),
        ({"evaluate": "climate"}, ("evaluate", "'climate'", "table")),
        ({"evaluate": {"shift": "climate"}}, ("evaluate", "'shift'", "shifts")),
        ({"evaluate": {"trim": "much"}}, ("evaluate.trim", "'much'", "a gain")),
        ({"evaluate": {"trim": -1.0}}, ("trim", "-1.0", "0 or more")),
        ({"evaluate": {"trim": True}}, ("env", "regulated")),
        ({"evaluate": {"shifts": "climate"}}, ("evaluate.shifts", "'climate'", "nominal")),
        ({"evaluate": {"worlds": "demand=1:2"}}, ("worlds", "'demand'", "obs_noise")),
        ({"evaluate": {"worlds": "obs_noise=0:1", "shifts": "noise"}}, ("evaluate.worlds", "obs_noise", "shifts")),
        ({"evaluate": {"worlds": "noise", "world_count": 0}}, ("evaluate.world_count", "0", "from 1")),
        ({"prune": 1}, ("prune", "1", "against")),
        ({"prune": {"against": "a"}}, ("prune.against", "'a'", "choose one of")),
        ({"prune": {"against": "a"}, "points": {"a": {}}}, ("prune", "'a'", "together = 1")),
        ({"prune": {"against": "a", "worse": -1}, "points": {"a": {}}}, ("prune.worse", "-1", "share")),
        ({"evaluate": {"perturb": "obs_noise"}}, ("perturb", "'obs_noise'", "strength")),
        ({"evaluate": {"perturb": "dance=1"}}, ("perturb", "'dance'", "obs_noise")),
    ],
)
def test_bad_files(changes, told):
    with pytest.raises(UserError) as refused:
        read_sweep(CONTENT | changes)
    assert_one_sentence(str(refused.value))
    field, *others = told
    assert str(refused.value).startswith(f"{field}: ")
    assert all(other in str(refused.value) for other in others)


def test_files_that_are_none(tmp_path):
    (tmp_path / "bad.toml").write_text("base = [")
    for file, told in ((tmp_path / "no.toml", "cannot be read"), (tmp_path / "bad.toml", "not valid TOML")):
        with pytest.raises(UserError, match=told) as refused:
            read_sweep(file)
        assert_one_sentence(str(refused.value))
    for arguments in ({"engine": "spark"}, {"address": "auto"}, {"workers": -1}, {"log": "mlflow"}):
        with pytest.raises(UserError) as refused:
            sweep(CONTENT, out=tmp_path / "sweep", **arguments)
        assert_one_sentence(str(refused.value))
    assert not (tmp_path / "sweep").exists()


def test_a_second_sweep_does_not_touch_the_plan_of_the_first(tmp_path):
    plan = make_plan(read_sweep(CONTENT), tmp_path)
    before = (tmp_path / "sweep.json").read_bytes()
    with hold(tmp_path / "logs" / ".lock", ""), pytest.raises(UserError, match="worked on by another process") as no:
        sweep(CONTENT | {"grid": {"gamma": [0.5]}}, out=tmp_path, quiet=True)
    assert_one_sentence(str(no.value))
    assert (tmp_path / "sweep.json").read_bytes() == before
    assert load_plan(tmp_path).points == plan.points


def test_names_and_programs(tmp_path):
    content = CONTENT | {"points": [{"factorization": "vdn", "double_q": True}, {"fail_value": -3.5}]}
    plan = make_plan(read_sweep(content), tmp_path)
    end = "auto-no-double_q"
    assert list(plan.points) == [
        *(f"qmix-{u}-rho-{r}-fail_value-{end}" for u in ("tv", "contamination") for r in (0.1, 0.2)),
        "vdn-nominal-rho-0-fail_value-auto-double_q",
        "qmix-nominal-rho-0-fail_value--3.5-no-double_q",
    ]
    assert [len(names) for names in plan.programs] == [2, 2, 1, 1]
    assert [len(names) for names in make_plan(read_sweep(content | {"together": 1}), tmp_path).programs] == [1] * 6
    assert load_plan(plan.folder).points == plan.points
    with pytest.raises(UserError, match="same path"):
        load_plan(tmp_path / "elsewhere")


def test_runs_that_stand_there_keep_their_names(tmp_path):
    first = read_sweep(CONTENT)
    for name, config in make_plan(first, tmp_path).points.items():
        RunDirectory(tmp_path / name).create(config)
    more = read_sweep(CONTENT | {"grid": GRID | {"gamma": [0.997, 0.5]}})
    names = list(make_plan(more, tmp_path).points)
    assert names[0::2] == ["tv-rho-0.1", "tv-rho-0.2", "contamination-rho-0.1", "contamination-rho-0.2"]
    assert names[1] == "tv-rho-0.1-gamma-0.5"
    limited = [config.replace(env_timeout=9.0, env_workers=2) for config in first.configs]  # the same runs
    assert list(make_plan(Sweep("tiny", limited, None, 0), tmp_path).points) == names[0::2]
    (tmp_path / "tv-rho-0.1" / "config.json").unlink()  # killed before it stood: system.json is no run
    assert next(iter(make_plan(first, tmp_path).points)) == "tv-rho-0.1"
    RunDirectory(tmp_path / "tv-rho-0.1").create(first.configs[0])
    others = [config.replace(steps=241) for config in first.configs]  # the same names, but not the same runs
    assert next(iter(make_plan(Sweep("tiny", others, None, 0), tmp_path).points)) == "tv-rho-0.1-2"


def weights_of(folder):
    return {file.relative_to(folder): file.read_bytes() for file in sorted(Path(folder).glob("*/weights/*"))}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A finished sweep: four points in two programs, made by the local engine."""
    return sweep(CONTENT, out=tmp_path_factory.mktemp("sweep"), quiet=True, log="tensorboard")


@pytest.mark.slow
def test_a_sweep_leaves_what_it_promises(swept):
    assert not swept.failures
    assert list(swept.points) == list(swept.scores) == [f"{u}-rho-{r}" for u in GRID["uncertainty"] for r in (0.1, 0.2)]
    for name, config in swept.points.items():
        assert load_run(swept.path / name).config == config
        assert (swept.path / name / "tensorboard" / "seed_1").is_dir()
    with open(swept.path / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    played = [(name, str(seed), x) for name, (s,) in swept.scores.items() for seed, x in enumerate(s.per_seed)]
    for row, (name, seed, score) in zip(rows, played, strict=True):
        assert [row["method"], row["world"], row["seed"]] == [name, "nominal", seed]
        assert float(row["score"]) == score
        assert float(row["rho"]) == swept.points[name].rho
    assert str(swept).split()[:3] == ["point", "nominal", "tv-rho-0.1"]
    assert swept.run("tv-rho-0.1").seeds == [0, 1]
    assert not list(swept.path.glob("checkpoint*"))


@pytest.mark.slow
def test_named_points_keep_their_names_and_are_compared(swept, tmp_path):
    """The runs of another sweep are taken as they are, so that nothing is trained here."""
    folder, points = tmp_path / "named", {}
    for rho in (0.1, 0.2):
        points[f"TV, rho {rho}"] = {"uncertainty": "tv", "rho": rho}
        shutil.copytree(swept.path / f"tv-rho-{rho}", folder / f"TV, rho {rho}")
    content = CONTENT | {"name": "named", "grid": {}, "points": points}
    tables = {"compare": [list(points)], "picture": list(points)}
    assert list(sweep(content | {"tables": tables}, out=folder, quiet=True).points) == list(points)
    made = ("table.md", "comparisons.md", "comparisons.csv", "scores.png")
    first = {name: (folder / name).read_bytes() for name in made}
    assert b"TV, rho 0.1 over TV, rho 0.2 | 2/2" in first["comparisons.md"]
    assert not (folder / "comparisons.png").exists()  # two seeds give no verdict
    lines = [f'"{name}" = {{ uncertainty = "tv", rho = {point["rho"]} }}' for name, point in points.items()]
    text = [toml(content | {"points": [], "tables": tables}), "[points]", *lines]
    (folder / "named.toml").write_text("\n".join(text))
    for name in made:
        (folder / name).unlink()
    assert main(["reproduce", "tables", str(folder)]) == 0
    assert {name: (folder / name).read_bytes() for name in made} == first


@pytest.mark.slow
def test_points_of_a_grid_are_compared_with_their_twins(swept, tmp_path):
    folder = tmp_path / "twins"
    for rho in (0.1, 0.2):
        shutil.copytree(swept.path / f"tv-rho-{rho}", folder / f"tv-rho-{rho}")
    tables = {"against": {"rho": 0.1}, "outcome": ["nominal"]}
    content = CONTENT | {"grid": {"uncertainty": ["tv"], "rho": [0.1, 0.2]}, "tables": tables}
    sweep(content, out=folder, quiet=True)
    rows = (folder / "outcome.md").read_text().splitlines()
    assert [row.split(" | ")[0] for row in rows if row.startswith("| tv-") and " over " in row] == [
        "| tv-rho-0.2 over tv-rho-0.1"
    ]


@pytest.mark.slow
def test_what_is_finished_is_not_started_again(swept, tmp_path, capsys, monkeypatch):
    (tmp_path / "s.toml").write_text(toml(CONTENT))
    monkeypatch.setattr(importlib.import_module("drigm.experiments.sweep.engines"), "COMMAND", ("no such command",))
    assert main(["sweep", str(tmp_path / "s.toml"), "--out", str(swept.path), "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{swept}\n\n{swept.path}\n"
    assert err == ""


@pytest.mark.slow
def test_without_scoring_the_table_has_the_end_of_training(swept):
    content = {key: CONTENT[key] for key in ("name", "base", "grid")}
    (score,) = sweep(content, out=swept.path, quiet=True).scores["tv-rho-0.1"]
    rows = [swept.run("tv-rho-0.1").directory.read_metrics(seed)[-6:] for seed in (0, 1)]
    assert score.name == "exploring"
    assert score.per_seed == [np.mean([r["score"] for r in of if math.isfinite(r["score"])]) for of in rows]


def test_without_episodes_in_the_last_tenth_the_last_that_ended_are_the_score():
    """All episodes of one length end at the same ticks, of which the last tenth of training may have none."""
    nan = math.nan
    assert exploring_score([1.0] * 10 + [2.0, nan, 4.0] + [nan] * 17) == 4.0
    assert exploring_score([1.0] * 18 + [2.0, 4.0]) == 3.0
    assert math.isnan(exploring_score([nan] * 20))
    scores = {"some": [shift_score("exploring", np.array([1.0]))], "none": [shift_score("exploring", np.array([nan]))]}
    assert (
        str(Swept(Path(), {}, scores, {}))
        .splitlines()[-1]
        .endswith("no episode ended in the training of a seed of none")
    )


class Script:
    """An engine without processes: each program has a list of endings; "" finishes its points."""

    def __init__(self, plan: Plan, endings: dict[int, list[Ended]], slots: int):
        self.plan, self.endings, self.slots, self.started, self.running = plan, endings, slots, [], []

    def start(self, program):
        self.started.append(program)
        self.running.append(program)
        assert len(self.running) <= self.slots

    def ended(self, seconds):
        program = self.running.pop(0)
        end = self.endings[program].pop(0)
        if not end.error:
            for name in self.plan.programs[program]:
                config, directory = self.plan.points[name], self.plan.directory(name)
                directory.create(config)
                for seed in (0, 1):
                    directory.save_weights(seed, {"x": np.zeros(1)})
        return [end]


def script(tmp_path, endings, stream, slots=2, **more):
    content = {key: CONTENT[key] for key in ("name", "base", "grid")} | {"together": 1, **more}
    plan = make_plan(read_sweep(content), tmp_path)
    engine = Script(plan, {i: [Ended(i, *end) for end in ends] for i, ends in endings.items()}, slots)
    return drive(plan, Engine(slots, engine.start, engine.ended), stream=stream), engine, plan


def test_nobody_begins_before_the_point_that_others_are_pruned_against(tmp_path):
    killed, fine = ("killed by signal 9", True), ("", False)
    points, prune = {"plain": {"uncertainty": "nominal"}}, {"against": "plain"}
    endings = {i: [fine] for i in range(4)} | {4: [killed, fine]}
    _, engine, plan = script(tmp_path, endings, None, points=points, prune=prune)
    assert plan.programs[4] == ["plain"]
    assert engine.started == [4, 4, 0, 1, 2, 3]
    assert load_plan(tmp_path).prune == ("plain", 0.25)


def test_that_point_may_have_been_trained_under_another_name(tmp_path):
    points, prune = {"plain": {"uncertainty": "nominal"}}, {"against": "plain"}
    content = {key: CONTENT[key] for key in ("name", "base", "grid")} | {"together": 1, "points": points}
    plan = make_plan(read_sweep(content), tmp_path)
    plan.directory("plain").create(plan.points["plain"])
    plan.directory("plain").path.rename(tmp_path / "before")
    plan = make_plan(read_sweep(content | {"prune": prune}), tmp_path)
    assert plan.programs[plan.reference()] == [plan.prune.against] == ["before"]


def test_only_what_chance_cannot_explain_is_hopeless():
    prune = Pruning("plain", 0.25)
    for reference, own, hopeless in [
        ((100.0, 0.0), (74.0, 0.0), True),
        ((100.0, 0.0), (76.0, 0.0), False),
        ((-100.0, 0.0), (-126.0, 0.0), True),  # of costs it is a share of the costs
        ((-100.0, 0.0), (-124.0, 0.0), False),
        ((100.0, 3.0), (62.0, 4.0), False),  # 38 less 3 * 5
        ((100.0, 3.0), (59.0, 4.0), True),
        ((100.0, 0.0), (float("nan"), float("inf")), False),
        ((100.0, 0.0), (0.0, float("inf")), False),
    ]:
        assert is_hopeless(prune, reference, own) is hopeless


def test_killed_programs_run_again_and_failed_ones_do_not(tmp_path, capsys):
    killed, fine, bad = ("killed by signal 9", True), ("", False), ("learning_rate: too large.", False)
    endings = {0: [killed, killed, fine], 1: [bad], 2: [fine], 3: [killed] * 4}
    failed, engine, plan = script(tmp_path, endings, None)
    assert engine.started == [0, 1, 2, 3, 0, 3, 0, 3, 3]
    assert failed == {"tv-rho-0.2": "learning_rate: too large.", "contamination-rho-0.2": "killed by signal 9"}
    lines = capsys.readouterr().err.splitlines()
    assert "program=0 state=waiting points=tv-rho-0.1 # killed by signal 9" in lines
    assert lines[-1].startswith("points=2/4 programs=4 done=2 running=0 waiting=0 failed=2 elapsed_s=")
    again, engine, _ = script(tmp_path, {1: [fine], 3: [fine]}, None)
    assert engine.started == [1, 3]
    assert again == {}
    assert all(map(plan.is_finished, plan.points))


def test_the_live_table(tmp_path):
    import io

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", "120")
        script(tmp_path, {i: [("", False)] for i in range(4)}, stream)
    shown = stream.getvalue()
    for text in ("tv-rho-0.1", "contamination-rho-0.2", "100%", "points 4/4"):
        assert text in shown


def held_by(plan, program):
    """The process that trains `program`, once it has rows of metrics; None before."""
    with contextlib.suppress(OSError, ValueError):
        if plan.directory(plan.programs[program][0]).read_metrics(0):
            return int(plan.lock_file(program).read_text())
    return None


def kill_midway(plan, program, killed):
    """Wait until `program` is in the middle of its training, and kill its process."""
    for _ in range(6000):
        pid = held_by(plan, program)
        if pid is not None and not any(map(plan.is_finished, plan.programs[program])):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
            return
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_worker_is_run_again_with_equal_results(swept, tmp_path):
    plan = make_plan(read_sweep(CONTENT), tmp_path)
    first = []
    with local_engine(plan, Options(workers=1)) as engine:

        def start(program):
            engine.start(program)
            first.append(program)
            if len(first) == 1:
                for _ in range(3000):
                    with contextlib.suppress(OSError, ValueError):
                        os.kill(int(plan.lock_file(program).read_text()), signal.SIGKILL)
                        return
                    time.sleep(0.02)

        assert drive(plan, Engine(1, start, engine.ended), quiet=True) == {}
    assert first == [0, 1, 0]
    assert weights_of(tmp_path) == weights_of(swept.path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
@pytest.mark.slow
def test_workers_end_with_their_parent(tmp_path):
    plan = make_plan(read_sweep(CONTENT), tmp_path)
    parent = (
        "import sys, time\nfrom pathlib import Path\nfrom drigm.experiments.sweep.engines import *\n"
        "from drigm.experiments.sweep.plan import load_plan\nplan = load_plan(Path(sys.argv[1]))\n"
        "with local_engine(plan, Options(workers=1)) as engine:\n    engine.start(0)\n    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent, str(plan.folder)])
    deadline, pid = time.monotonic() + 60, None
    while pid is None and time.monotonic() < deadline:
        time.sleep(0.05)
        with contextlib.suppress(OSError, ValueError):
            pid = int(plan.lock_file(0).read_text())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)


def alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux")
def test_processes_take_cores_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    usable = os.sched_getaffinity(0)
    with own_cores(1):
        mine = os.sched_getaffinity(0)
        assert len(mine) == 1
        assert mine < usable or len(usable) == 1
        os.sched_setaffinity(0, usable)  # as another process would have it
        with own_cores(1):
            assert os.sched_getaffinity(0).isdisjoint(mine) or len(usable) == 1
        with own_cores(len(usable)):  # not free
            assert os.sched_getaffinity(0) == usable
    assert os.sched_getaffinity(0) == usable


def test_ray_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'drigm\[ray\]'") as refused:
        sweep(CONTENT, engine="ray", out=tmp_path, quiet=True)
    assert_one_sentence(str(refused.value))


needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray")


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_a_ray_cluster_that_does_not_answer_is_one_sentence_at_once(tmp_path, capfd, address):
    started = time.monotonic()
    with pytest.raises(UserError, match=f"^address: '{address}': no Ray cluster ") as refused:
        sweep(CONTENT, engine="ray", address=address, out=tmp_path, quiet=True)
    assert_one_sentence(str(refused.value))
    assert time.monotonic() - started < 60
    assert "rpc_client" not in capfd.readouterr().err  # what Ray itself writes


@needs_ray
@pytest.mark.slow
def test_ray_gives_the_same_results_and_says_what_fails(swept, tmp_path):
    content = CONTENT | {"points": [{"learning_rate": 1e30, "learning_rate_end": 1e30, "max_grad_norm": 1e30}]}
    other = sweep(content, engine="ray", workers=2, out=tmp_path, quiet=True)
    ours = {name: scores for name, scores in other.scores.items() if name not in other.failures}
    assert list(ours.values()) == list(swept.scores.values())
    assert sorted(weights_of(tmp_path).values()) == sorted(weights_of(swept.path).values())
    (error,) = other.failures.values()
    assert error.startswith("learning_rate: 1e+30 is not allowed")


@needs_ray
@pytest.mark.slow
def test_a_sweep_of_24_points_on_ray_survives_the_kill_of_a_worker(tmp_path):
    """On a cluster of two workers, one killed in the middle: all points finish, equal to the local engine's."""
    local = sweep(MANY, out=tmp_path / "local", quiet=True)
    plan, killed = make_plan(read_sweep(MANY), tmp_path / "ray"), []
    killer = threading.Thread(target=kill_midway, args=(plan, 0, killed))
    killer.start()
    other = sweep(MANY, engine="ray", workers=2, out=tmp_path / "ray", quiet=True)
    killer.join()
    assert len(killed) == 1
    assert not plan.lock_file(0).exists()  # another process has held it to its end
    assert not other.failures
    assert len(other.scores) == 24
    assert other.scores == local.scores
    assert weights_of(other.path) == weights_of(local.path)
