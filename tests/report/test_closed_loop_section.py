"""A log of drigm deploy on a page: what is drawn of it, and what is said where something is left out."""

import json
import re

import pytest
from deployed import BUILDING, CONFIGS, finished_run
from invented import small_log

from drigm.cli.main import main
from drigm.core.errors import UserError
from drigm.deployment.closed_loop import run_loop
from drigm.deployment.guard import Flag
from drigm.report.report import write_log_report
from drigm.report.sections import closed_loop
from drigm.report.sections.closed_loop import loop_data, loop_html, loop_sections


def test_what_the_page_is_told():
    data = loop_data(small_log())
    first, second = data["episodes"]
    assert data["agents"][0]["readings"] == [
        {"name": "zone temperature", "unit": "C", "setpoint": 22.0},
        {"name": "sun", "unit": "", "setpoint": None},
    ]
    assert data["agents"][0]["words"] == {"0": "-1", "2": "1"}
    assert first["title"] == "Episode 0: 4 steps, score 0.5"
    assert second["outcome"] == "broken off here"
    assert first["reward"] == [-1.0, -1.0, -1.0, -1.0]
    assert first["sum"] == [-1.0, -2.0, -3.0, -4.0]
    left, right = first["agents"]
    assert left["readings"] == [[20.0, 21.0, 22.0, 23.0], [None, 0.5, 0.5, 0.5]]
    assert left["action"] == [-1.0, 1.0, -1.0, 1.0]
    assert left["number"] == [0, 2, 0, 2]
    assert left["flags"] == [(0, "nan of sun, fallback", True)]
    assert right["number"] == [0, 2, 0, None]  # it leaves
    assert left["would"] is None
    assert data["gaps"]
    found = re.search(r'id="loop-data">(.*?)</script>', loop_html(data)).group(1)
    assert json.loads(found)["episodes"][0]["title"] == first["title"]


def test_shadow_mode_draws_both():
    data = loop_data(small_log(controller="pi", would=2))
    assert data["controller"] == "pi"
    assert data["episodes"][0]["agents"][0]["would"] == [1.0] * 4
    body = loop_sections(small_log(controller="pi", would=2), "log")[0].body
    assert "pi drove" in body
    assert "50 %" in body


def test_long_logs_are_thinned_and_no_flag_is_lost(monkeypatch):
    monkeypatch.setattr(closed_loop, "MOST_NUMBERS", 40)
    log = small_log()
    log.steps[1].agents["left"] = log.steps[1].agents["left"]._replace(flags=(Flag("late", None, 1),))
    data = loop_data(log)
    assert data["every"] == 2
    assert data["episodes"][0]["reward"] == [-2.0, -2.0]
    assert data["episodes"][0]["sum"] == [-2.0, -4.0]
    assert data["episodes"][0]["agents"][0]["flags"] == [(0, "nan of sun, fallback, late", True)]
    assert "One in 2 steps is shown" in loop_html(data)
    monkeypatch.setattr(closed_loop, "MOST_EPISODES", 1)
    assert "The first 1 episodes are shown" in loop_html(loop_data(log))


def test_a_page_of_logs(tmp_path, capsys):
    run = finished_run(tmp_path / "run", CONFIGS["linear"])
    logs = [run_loop(run, run.env, tmp_path / f"{n}.jsonl", episodes=2, quiet=True).log for n in range(2)]
    page = tmp_path / "page.html"
    assert main(["report", *map(str, logs), "-o", str(page)]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    text = page.read_text()
    assert "Step by step: 0.jsonl" in text
    assert 'id="loop-1"' in text
    assert "probe:recall" in text
    for arguments in ([logs[0], run.path], [logs[0], "--figures", tmp_path], [logs[0], "-o", "page.txt"]):
        assert main(["report", *map(str, arguments)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(UserError):
        write_log_report([tmp_path / "missing"], page)


@pytest.mark.slow
def test_a_building_has_its_day(tmp_path):
    run = finished_run(tmp_path / "run", BUILDING)
    log = run_loop(run, run.env, tmp_path / "log.jsonl", shadow="pi", quiet=True).log
    page = write_log_report([log], tmp_path / "page.html").read_text()
    data = json.loads(re.search(r'id="day-data">(.*?)</script>', page).group(1))
    (policy,) = data["days"][0]["policies"]
    assert policy["label"] == "pi"
    assert len(policy["t"]) == len(data["zones"]) == 6
    assert len(policy["t"][0]) == 288
    assert data["hours"] == pytest.approx(24 / 288)
    assert data["target"] == 22.0
    assert policy["score"] > 0.9
    short = run_loop(run, run.env, tmp_path / "short.jsonl", steps=5, quiet=True).log
    assert "The days" not in write_log_report([short], tmp_path / "page.html").read_text()
