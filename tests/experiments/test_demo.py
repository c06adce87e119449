"""The demo's parts: its table, its files, its sweep. The trainings themselves are for `make demo SMOKE=1`."""

import json
from pathlib import Path

from invented import plot

from drigm.evaluation.controllers import TITLES
from drigm.evaluation.scores import Evaluation, ShiftScore
from drigm.experiments import demo
from drigm.experiments.sweep.results import Swept
from drigm.experiments.sweep.spec import read_sweep
from drigm.report.html import Section
from drigm.report.tables import Score
from drigm.training.settings import settle


def evaluations():
    """Made-up scores: 0.9 and less, by 0.01 per city."""
    scores = [ShiftScore(city, 0.9 - 0.01 * i, 0.0, [0.9 - 0.01 * i]) for i, city in enumerate(demo.CITIES)]
    return {team.label: Evaluation("climate", scores) for team in demo.TEAMS}


def test_table_puts_the_teams_above_the_paper_and_the_references():
    rows = {row[""]: row for row in demo.table_rows(evaluations())}
    assert list(rows) == [
        "QMIX-TV, this demo",
        "QMIX, this demo",
        "QMIX-TV, paper",
        "QMIX, paper",
        "QMIX-TV, authors' networks",
        "QMIX, authors' networks",
        *TITLES.values(),
    ]
    assert str(rows["QMIX, this demo"]["Tampa"]) == "0.890"  # of one seed: no standard error
    assert rows["QMIX-TV, paper"].keys() == {"", "Tucson", "NewYork"}
    assert rows["QMIX-TV, paper"]["NewYork"] == Score(0.520, 0.048)
    assert str(rows["QMIX, authors' networks"]["Honolulu"]) == "0.863 ± 0.013"
    assert str(rows["Doing nothing"]["NewYork"]) == "-3.621"


def test_table_fits_a_narrow_terminal():
    rows = demo.table_rows(evaluations())
    assert "0.520 ± 0.048" in demo.fitting_table(rows, None)
    narrow = demo.fitting_table(rows, 100)
    assert "0.520" in narrow
    assert "±" not in narrow
    assert max(map(len, narrow.splitlines())) <= 100


def test_report_files(tmp_path):
    day = Section("A day in the building", "day", "as it was", {"day": plot()})
    files = demo.write_report(tmp_path, evaluations(), day, smoke=True)
    assert files.day.read_bytes().startswith(b"\x89PNG")
    assert files.bars.read_bytes().startswith(b"\x89PNG")
    saved = json.loads(files.scores.read_text())
    assert saved["smoke"] is True
    assert saved["rows"][0]["Tucson"] == {"mean": 0.9, "se": None}
    page = files.page.read_text()
    for part in ("Score of each team in Tucson, ", "as it was", "0.520 ± 0.048", "smoke"):
        assert part in page


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


def test_the_sweep_leaves_the_rest_to_the_defaults():
    robust, plain = read_sweep(demo.plan(640)).configs
    named = {"env": "building:OfficeSmall/Tucson", "factorization": "qmix", "steps": 640}
    assert plain == settle(named)
    assert robust == settle(named | {"uncertainty": "tv", "rho": 0.2})


def test_a_failed_training_is_said(monkeypatch, tmp_path, capsys):
    failed = Swept(tmp_path, {}, {}, {"qmix": "learning_rate: it diverged."})
    monkeypatch.setattr(demo, "sweep", lambda *_, **__: failed)
    assert demo.main(["--smoke", "--out", str(tmp_path)]) == 2
    assert "drigm demo: qmix: learning_rate: it diverged." in capsys.readouterr().err
