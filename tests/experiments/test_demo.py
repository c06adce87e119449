"""The demo's parts: its table, its pictures, its processes. The trainings themselves are for `make demo SMOKE=1`."""

import io
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from drigm.envs import make_env
from drigm.envs.building.simulator import PROTOCOL_DAYS
from drigm.envs.shifts import shift_suite
from drigm.evaluation.evaluate import Evaluation, ShiftScore
from drigm.experiments import demo, processes
from drigm.experiments.processes import Task, TaskError, train_side_by_side
from drigm.report.figures.style import save
from drigm.report.tables import Score
from drigm.runtime.devices import usable_cores


def evaluations():
    """Made-up scores: 0.9 and less, by 0.01 per city."""
    scores = [ShiftScore(city, 0.9 - 0.01 * i, 0.0, [0.9 - 0.01 * i]) for i, city in enumerate(demo.CITIES)]
    return {team.label: Evaluation("climate", scores) for team in demo.TEAMS}


@pytest.fixture
def child(monkeypatch, tmp_path):
    """A function that makes children run ``source`` in place of drigm; it finds its arguments in sys.argv[1:]."""

    def use(source):
        script = tmp_path / "child.py"
        script.write_text("import os, sys, time\n" + textwrap.dedent(source))
        monkeypatch.setattr(processes, "COMMAND", (sys.executable, str(script)))

    return use


def test_table_puts_the_teams_above_the_paper_and_the_references():
    rows = {row[""]: row for row in demo.table_rows(evaluations())}
    assert list(rows) == [
        "QMIX-TV, this demo",
        "QMIX, this demo",
        "QMIX-TV, paper",
        "QMIX, paper",
        "QMIX-TV, authors' networks",
        "QMIX, authors' networks",
        "do nothing",
        "one-step optimum",
    ]
    assert str(rows["QMIX, this demo"]["Tampa"]) == "0.890"  # of one seed: no standard error
    assert rows["QMIX-TV, paper"].keys() == {"", "Tucson", "NewYork"}
    assert rows["QMIX-TV, paper"]["NewYork"] == Score(0.520, 0.048, math.nan, math.nan)
    assert str(rows["QMIX, authors' networks"]["Honolulu"]) == "0.863 ± 0.013"
    assert str(rows["do nothing"]["NewYork"]) == "-3.621"


def test_table_fits_a_narrow_terminal():
    rows = demo.table_rows(evaluations())
    assert "0.520 ± 0.048" in demo.fitting_table(rows, None)
    narrow = demo.fitting_table(rows, 100)
    assert "0.520" in narrow
    assert "±" not in narrow
    assert max(map(len, narrow.splitlines())) <= 100


def test_report_files(tmp_path):
    day = tmp_path / "day.png"
    day.write_bytes(b"\x89PNG")
    files = demo.write_report(tmp_path, evaluations(), day, smoke=True)
    assert files.bars.read_bytes().startswith(b"\x89PNG")
    saved = json.loads(files.scores.read_text())
    assert saved["smoke"] is True
    assert saved["rows"][0]["Tucson"] == {"mean": 0.9, "se": None}
    page = files.page.read_text()
    for part in ("Score of each team in Tucson, ", "data:image/png;base64,", "0.520 ± 0.048", "smoke"):
        assert part in page


def test_the_day_is_the_coldest(tmp_path):
    env = make_env("building:OfficeSmall/Tucson")
    params = {shift.name: shift.params for shift in shift_suite(env, "climate")}[demo.DAY_CITY]
    episode, outdoor = demo.coldest_day(np.asarray(params.out_temp))
    assert outdoor.shape == (288,)
    everyday = [np.asarray(params.out_temp)[day * 288 : (day + 1) * 288].mean() for day in PROTOCOL_DAYS]
    assert np.argmin(everyday) == episode

    lived = {"still": (np.full((288, 6), 20.0), np.zeros((288, 6)))}
    figure = demo.day_figure(env.spec.agents, episode, outdoor, lived)
    assert f"Day {PROTOCOL_DAYS[episode] + 1} of the year in New York" in figure.get_suptitle()
    assert save(figure, tmp_path / "day.png").stat().st_size > 10_000


def test_fresh_directory(tmp_path, capsys, monkeypatch):
    assert demo.fresh_directory(tmp_path / "new") == tmp_path / "new"
    (tmp_path / "empty").mkdir()
    assert demo.fresh_directory(tmp_path / "empty") == tmp_path / "empty"
    assert capsys.readouterr().out == ""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    other = demo.fresh_directory(tmp_path / "taken")
    assert not other.exists()
    assert other.name.startswith("taken-")
    assert str(other) in capsys.readouterr().out
    assert demo.fresh_directory(None).parent == Path("runs")
    monkeypatch.chdir(tmp_path / "taken")
    assert demo.fresh_directory(Path()).parent == tmp_path
    assert demo.main(["--smoke", "--out", ""]) == 2
    assert (
        capsys.readouterr().err
        == "drigm demo: out: '' is not allowed; give a path; the folder that you are in is '.'.\n"
    )


def test_arguments_leave_the_rest_to_the_defaults():
    robust, plain = (demo.train_arguments(team, Path("d"), 640) for team in demo.TEAMS)
    assert robust[-4:] == ["--uncertainty", "tv", "--rho", "0.2"]
    assert "--rho" not in plain


def test_lines_of_all_children_reach_a_pipe(child):
    child("""
        print("nobody reads this")
        for line in ("# qmix tv: 64 steps", "step=64/64 loss=0.1 steps_per_s=9 elapsed_s=7"):
            print(line, file=sys.stderr)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "all"
        print("cores", cores, sys.argv[1:], file=sys.stderr)
    """)
    out = io.StringIO()
    train_side_by_side([Task("A", ["x"]), Task("B", ["y"])], out)
    lines = out.getvalue().splitlines()
    share = max(1, usable_cores() // 2) if hasattr(os, "sched_getaffinity") else "all"
    for label, argument in (("A", "x"), ("B", "y")):
        assert [line for line in lines if line.startswith(f"{label}: ")] == [
            f"{label}: # qmix tv: 64 steps",
            f"{label}: step=64/64 loss=0.1 steps_per_s=9 elapsed_s=7",
            f"{label}: cores {share} ['{argument}']",
        ]


def test_terminal_gets_one_line_per_child(child, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    child("""
        print("step=32/64 score=0.5 steps_per_s=9 eta_s=7", file=sys.stderr, flush=True)
        time.sleep(0.5)
        print("step=64/64 score=0.9 steps_per_s=9 elapsed_s=7", file=sys.stderr)
    """)
    out = Terminal()
    train_side_by_side([Task("A", []), Task("B", [])], out)
    assert "50%" in out.getvalue()
    first, second = [line for line in out.getvalue().splitlines() if "100%" in line][-2:]
    for label, line in (("A", first), ("B", second)):
        assert label in line
        assert "in all" in line
        assert "score 0.9" in line


def test_a_failed_child_stops_the_others_and_says_why(child):
    child("""
        if sys.argv[1] == "bad":
            print("# note\\nstep=1/2 loss=1\\ndrigm: rho: 7 is not allowed.", file=sys.stderr)
            sys.exit(2)
        time.sleep(60)
    """)
    began = time.monotonic()
    with pytest.raises(TaskError, match=r"^B: drigm: rho: 7 is not allowed\.$") as failure:
        train_side_by_side([Task("A", ["good"]), Task("B", ["bad"])], io.StringIO())
    assert failure.value.code == 2
    assert time.monotonic() - began < 30


def test_a_silent_failure_tells_its_code(child):
    child("sys.exit(3)")
    with pytest.raises(TaskError, match="A: ended with exit code 3"):
        train_side_by_side([Task("A", [])], io.StringIO())


@pytest.mark.parametrize(("code", "exit_code"), [(2, 2), (1, 1), (-9, 1)])
def test_exit_code_of_a_failed_training(monkeypatch, tmp_path, capsys, code, exit_code):
    def fail(tasks):
        raise TaskError("QMIX", code, "said so")

    monkeypatch.setattr(demo, "train_side_by_side", fail)
    assert demo.main(["--smoke", "--out", str(tmp_path)]) == exit_code
    assert "QMIX: said so" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
def test_termination_takes_the_children_along(tmp_path):
    beat = tmp_path / "beat"
    child = tmp_path / "child.py"
    child.write_text(
        f"import time\nfor i in range(600):\n    open({str(beat)!r}, 'w').write(str(i))\n    time.sleep(0.05)\n"
    )
    parent = tmp_path / "parent.py"
    parent.write_text(
        "import sys\nfrom drigm.experiments import processes as s\n"
        f"s.COMMAND = (sys.executable, {str(child)!r})\n"
        "try:\n    s.train_side_by_side([s.Task('A', [])])\nexcept KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    process = subprocess.Popen([sys.executable, str(parent)])
    deadline = time.monotonic() + 60
    while not beat.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130
    last = beat.read_text()
    time.sleep(0.3)
    assert beat.read_text() == last
