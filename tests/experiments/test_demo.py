"""The demo's parts: its table, its files, its sweep. The trainings themselves are for `make demo SMOKE=1`."""

import json
from pathlib import Path

from invented import plot

from drigm.evaluation.controllers import TITLES
from drigm.evaluation.published import CONTROLLERS
from drigm.evaluation.scores import ShiftScore
from drigm.experiments import demo
from drigm.experiments.sweep.results import Swept
from drigm.experiments.sweep.spec import read_sweep
from drigm.report.html import Section
from drigm.report.tables import Score
from drigm.training.settings import settle


def scores():
    """Made-up scores: 0.9 and less, by 0.01 per city, and a tenth less with heat."""
    found = []
    for i, city in enumerate(demo.CITIES):
        for strength, less in (("0", 0.0), (f"{demo.HEAT:g}", 0.1)):
            mean = 0.9 - 0.01 * i - less
            found.append(ShiftScore(f"{city}, gains={strength}", mean, 0.0, [mean]))
    return {team.label: found for team in demo.TEAMS}


def rows():
    heated = {name: dict.fromkeys(demo.CITIES, 0.97) for name in demo.BESIDE}
    return demo.table_rows(scores(), heated, {"VDN": 0.75})


def test_table_has_every_team_as_simulated_with_heat_and_in_energyplus():
    found = {row[""]: row for row in rows()}
    assert list(found) == [
        "VDN",
        "VDN, adapting",
        "VDN-TV, the paper's",
        *(TITLES[name] for name in CONTROLLERS),
        "VDN, with heat",
        "VDN, adapting, with heat",
        "PI, with heat",
        "PI, tuned by SIMC, with heat",
        "VDN, EnergyPlus",
    ]
    assert str(found["VDN"]["Tampa"]) == "0.890"  # of one seed: no standard error
    assert str(found["VDN, with heat"]["Tampa"]) == "0.790"
    assert found["VDN-TV, the paper's"].keys() == {"", "Tucson", "NewYork"}
    assert found["PI, with heat"]["NewYork"] == Score(0.97)
    assert found["VDN, EnergyPlus"].keys() == {"", "Tucson"}
    assert str(found["Doing nothing"]["NewYork"]) == "-3.621"


def test_table_fits_a_narrow_terminal():
    wide = demo.fitting_table(rows(), None)
    assert "±" in wide
    narrow = demo.fitting_table(rows(), max(map(len, wide.splitlines())) - 1)
    assert "±" not in narrow
    assert max(map(len, narrow.splitlines()[:-1])) < max(map(len, wide.splitlines()))


def test_report_files(tmp_path):
    day = Section("A day in the building", "day", "as it was", {"day": plot()})
    files = demo.write_report(tmp_path, scores(), rows(), day, smoke=True)
    assert files.day.read_bytes().startswith(b"\x89PNG")
    assert files.bars.read_bytes().startswith(b"\x89PNG")
    saved = json.loads(files.scores.read_text())
    assert saved["smoke"] is True
    assert saved["rows"][0]["Tucson"] == {"mean": 0.9, "se": None}
    page = files.page.read_text()
    for part in (
        "Score with heat of each team and of PI in Tucson, ",
        "as it was",
        "with heat",
        "smoke",
        "demo --smoke",
    ):
        assert part in page


def test_the_demo_shows_both_teams_and_pi_in_the_heat():
    heated = {label: demo._by_city(found, f"{demo.HEAT:g}") for label, found in scores().items()}
    heated |= {"PI": demo._heated(rows())}
    compared, held, paid = demo.summary(scores(), heated, smoke=False)
    assert "172,800 steps in Tucson, one seed each, and PI" in compared
    assert held.endswith("VDN from 0.875 to 0.775; VDN, adapting from 0.875 to 0.775; PI 0.970 with it.")
    assert paid.startswith("VDN, adapting did not hold better than VDN and is below PI;")


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
    plain, adapting = read_sweep(demo.plan(640)).configs
    named = {"env": "building:OfficeSmall/Tucson", "factorization": "vdn", "steps": 640}
    assert plain == settle(named)
    assert adapting == settle(named | {"preset": "adapting"})
    assert adapting.worlds
    assert adapting.head == "velocity"


def test_a_failed_training_is_said(monkeypatch, tmp_path, capsys):
    failed = Swept(tmp_path, {}, {}, {"qmix": "learning_rate: it diverged."})
    monkeypatch.setattr(demo, "sweep", lambda *_, **__: failed)
    assert demo.main(["--smoke", "--out", str(tmp_path)]) == 2
    assert "drigm demo: qmix: learning_rate: it diverged." in capsys.readouterr().err
