"""`drigm reproduce paper`: what it plans, what it puts beside the paper's numbers, and what it says of them.

The runs here are invented: their scores are chosen so that the answers are known.
"""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from invented import CITIES, invented, invented_study

from drigm.cli.main import main
from drigm.core.errors import UserError
from drigm.core.naming import method_name
from drigm.evaluation.controllers import TITLES
from drigm.evaluation.published import CONTROLLERS, authors_score, paper_score, reference_method
from drigm.evaluation.scores import Evaluation, shift_score
from drigm.evaluation.statistics import marl_eval_json
from drigm.experiments import reproduce
from drigm.experiments.reproduce import PARTS, SCALES, plan, plan_text
from drigm.experiments.reproduce.compare import beside_paper, every_world
from drigm.experiments.reproduce.page import page_sections, records, table_time, write_outcome
from drigm.experiments.reproduce.runner import Outcome
from drigm.experiments.reproduce.studies import CONTAMINATION_GRID, FACTORIZATIONS, TV_GRID
from drigm.experiments.reproduce.verdicts import (
    PLACES,
    against,
    authors_sets,
    counted,
    note,
    question_rows,
    questions,
    sets_compared,
    untrained,
    world_rows,
)
from drigm.experiments.sweep.spec import read_sweep
from drigm.runtime import devices

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture
def outcome():
    return invented_study()


def test_the_plan_trains_everything_that_the_paper_did_and_nothing_twice():
    configs = [config for group in plan() for config in group.configs]
    assert len({method_name(c) + c.env for c in configs}) == len(configs)
    table = [c for group in plan(parts=["table"]) for c in group.configs]
    assert all(c.seeds == 5 and c.steps == 172_800 for c in table)
    asked = {(c.factorization, c.uncertainty, c.baseline, c.rho) for c in table}
    for factorization, radii in (("vdn", (0.008, 0.5)), ("qmix", (0.012, 0.2)), ("qtran", (0.02, 0.2))):
        assert (factorization, "nominal", "none", 0.0) in asked
        assert (factorization, "nominal", "groupdr", 0.0) in asked
        assert (factorization, "contamination", "none", radii[0]) in asked
        assert (factorization, "tv", "none", radii[1]) in asked
        assert (factorization, "nominal", "short_horizon", radii[1]) in asked
    varied = {(c.uncertainty, c.rho) for c in configs if c.factorization == "qmix" and c.baseline == "none"}
    assert varied >= {("contamination", r) for r in CONTAMINATION_GRID} | {("tv", r) for r in TV_GRID}
    assert {c.uncertainty for c in configs if c.env.startswith("smax")} == {"nominal", "tv", "contamination"}


def test_runs_of_a_group_share_a_program():
    from drigm.training.loop import check_together

    for group in plan():
        check_together(group.configs)


def test_the_plan_says_what_and_how_long(tmp_path):
    groups = plan("paper", ["table"], 2)
    text = plan_text(groups, tmp_path)
    assert "30 runs" in text.splitlines()[0]
    assert len(text.splitlines()) == 1 + len(groups)
    assert "vdn-tv" in text
    assert "rho 0.5" in text


def test_an_accelerator_has_one_shard_of_every_run(monkeypatch):
    assert {config.shards for group in plan() for config in group.configs} == {2}
    monkeypatch.setattr(devices, "runs_in_turn", lambda: False)
    assert {config.shards for group in plan() for config in group.configs} == {1}


@pytest.mark.parametrize("change", [{"scale": "huge"}, {"parts": ["tables"]}, {"seeds": 0}])
def test_bad_requests_are_refused(change):
    with pytest.raises(UserError, match=next(iter(change))):
        plan(**change)


def test_what_would_end_a_study_after_hours_ends_it_at_once(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    assert main(["reproduce", "paper", "--parts", "table", "--out", str(tmp_path / "file")]) == 2
    assert "out: " in capsys.readouterr().err
    # As if the extra were not installed: its modules may have been imported by another test of this process.
    for name in ("jaxmarl", *(name for name in sys.modules if name.startswith("jaxmarl."))):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(reproduce, "train_groups", lambda *_: pytest.fail("the study began"))
    assert main(["reproduce", "paper", "--parts", "table,battles", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "smax" in said
    assert "[1/" not in said  # before anything was trained
    assert not list((tmp_path / "out").glob("runs/*"))


def test_a_small_study_of_radii_has_its_figure():
    """Radius 0 of one set is the non-robust team of both."""
    scored = {g.name: [invented(c, g.suite) for c in g.configs] for g in plan("paper", ["radii"])}
    scored["qmix-non-robust"] = [invented(plan("paper", ["table"])[5].configs[0], "climate")]
    sections = page_sections(Outcome(scored, []), None)
    assert "radii-qmix" in [section.id for section in sections]


def test_the_tables_time_is_that_of_its_runs(outcome):
    assert table_time(outcome) == {"runs": 60, "minutes": pytest.approx(60 * 12 / 60)}  # 12 s a run


def test_every_number_of_the_papers_table_has_its_row(outcome):
    rows = beside_paper(outcome.of("climate"))
    methods = ("nominal", "groupdr", "tv", "contamination")
    keys = itertools.product(FACTORIZATIONS, methods, ("Tucson", "NewYork"))
    cells = {(f, m, city): paper_score(city, f, m) for f, m, city in keys}
    assert len(rows) == len(cells)
    for row, (key, published) in zip(rows, cells.items(), strict=True):
        if published is not None:
            assert row["paper"].mean == published.mean, key
            assert row["drigm - paper"] == f"{row['drigm'].estimate - published.mean:+.3f}"
        assert row["authors' networks"].mean == authors_score(key[2], key[0], key[1]).mean
        assert row["drigm"].low <= row["drigm"].estimate <= row["drigm"].high
    tv = next(row for row in rows if row["factorization"] == "QMIX" and row["method"] == "TV 0.2")
    assert tv["drigm"].estimate == pytest.approx(0.9 + 0.002)


def test_a_method_that_was_not_trained_is_missing_and_not_made_up(outcome):
    some = [one for one in outcome.of("climate") if one.config.baseline != "groupdr"]
    rows = [row for row in beside_paper(some) if row["method"] == "GroupDR"]
    assert len(rows) == 6
    assert all("drigm" not in row for row in rows)


def test_verdicts_follow_the_intervals(outcome):
    asked = {(a.first, a.second): a for a in questions(outcome.of("climate"))}
    found = asked["QMIX-TV 0.2", "QMIX"]
    assert [found.verdict(place) for place in PLACES] == ["better"] * 3
    assert found.worst.estimate == pytest.approx(0.05)
    assert list(found.worlds) == list(CITIES)
    assert all(interval.estimate == pytest.approx(0.05) for interval in found.worlds.values())
    assert ("QMIX-TV 0.2", "QMIX, gamma (1 - 0.2)") in asked
    assert ("QMIX-TV 0.2", "QMIX, GroupDR") in asked
    config = plan()[0].configs[0]
    low, same, high = (invented(config, "climate", level) for level in (0.5, 0.9, 0.9))
    assert against(low, high).verdict("worst") == "worse"
    assert against(same, high).verdict("nominal") == "no clear difference"
    assert against(same, high).probability.estimate == 0.5


def test_what_is_said_of_the_verdicts(outcome):
    scored = outcome.of("climate")
    asked = questions(scored)
    places = "; ".join(f"{place}: 2 better, 0 no clear difference, 0 worse" for place in PLACES.values())
    assert counted(asked[:2]) == f"Robust methods against non-robust teams, {places}."
    assert counted(asked).count("Robust methods against ") == 3
    assert f"about {0.05 * len(asked):.2g} of the {len(asked)} verdicts" in note(asked)
    few = [a._replace(seeds=4) for a in asked[:2]]
    assert counted(few).count("0 better, 0 no clear difference, 0 worse, 2 too few seeds") == 3
    assert "were all equal" not in note(few)
    assert not any("*" in cell or "better" in cell for row in world_rows(few) for cell in row.values())
    assert "QMIX-contamination 0.012" in untrained(scored)
    assert "QMIX-TV 0.2" not in untrained(scored)
    battles = outcome.of("noise")
    assert untrained(battles) == []  # contamination is the plain discount there
    assert ("VDN-TV 0.01", "VDN-contamination 0.01") in {(a.first, a.second) for a in questions(battles)}
    assert world_rows(asked)[0]["Tucson"].endswith("*")
    alone = [invented(c.replace(seeds=1), "climate") for c in plan("smoke", ["table"])[0].configs]
    (single,) = questions(alone)
    assert counted([single]).count("1 one seed") == 3
    assert question_rows([single])[0]["worst world"] == "+0.000 one seed"
    assert "were all equal" not in note([single])


def test_controllers_and_authors_stand_below_ours(outcome):
    rows = every_world(outcome.of("climate"))
    names = [row["method"] for row in rows]
    assert names[-5:] == [TITLES[name] for name in CONTROLLERS]
    assert "authors' QMIX tv" in names
    assert all(set(CITIES) <= set(row) for row in rows)


def test_everything_is_written(outcome, tmp_path):
    files = write_outcome(tmp_path / "out", "paper", outcome, None)
    page = files.page.read_text()
    for section in page_sections(outcome, None):
        assert f'id="{section.id}"' in page
    assert "The radius, QMIX" in page
    assert "://" not in page.replace("http://www.w3.org", "")  # it opens offline
    with open(files.scores, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(c.seeds * (6 if g.suite == "climate" else 5) for g in plan() for c in g.configs)
    assert len(list((tmp_path / "out" / "figures").glob("*.svg"))) == 7
    assert json.loads(files.marl_eval.read_text()) == marl_eval_json(
        records(outcome.of("climate") + outcome.of("noise"))
    )
    assert "drigm - paper" in files.table.read_text()


def test_comparisons_have_equal_radii(outcome):
    """A plain discount stands beside robust methods of its own radius; TV and contamination of the table's are told."""
    for scored in (outcome.of("climate"), outcome.of("noise")):
        rho = {one.title: one.config.rho for one in scored}
        kinds = {method_name(one.config): reference_method(one.config) for one in scored}
        for asked in questions(scored):
            assert rho[asked.second] in (0.0, rho[asked.first]) or kinds[asked.second] == "groupdr"
    found = sets_compared(outcome.of("climate"))
    assert [(a.first, a.second) for a in found] == [
        ("VDN-TV 0.5", "VDN-contamination 0.008"),
        ("QMIX-TV 0.2", "QMIX-contamination 0.012"),
        ("QTRAN-TV 0.2", "QTRAN-contamination 0.02"),
    ]
    assert all(list(a.worlds) == list(CITIES) for a in found)


def test_the_authors_tv_against_their_contamination():
    """Welch's interval by SciPy from means and standard errors; theirs is the population deviation / sqrt(seeds)."""
    (row,) = [row for row in authors_sets(["NewYork"]) if row["method"] == "authors' QTRAN tv"]
    tv, other = (authors_score("NewYork", "qtran", name) for name in ("tv", "contamination"))
    std = [score.se * np.sqrt(5 * 5 / 4) for score in (tv, other)]
    v, w = (s**2 / 5 for s in std)
    df = (v + w) ** 2 / (v**2 / 4 + w**2 / 4)
    low, high = scipy.stats.t.interval(0.95, df, tv.mean - other.mean, np.sqrt(v + w))
    assert row["NewYork"] == f"{tv.mean - other.mean:+.3f} [{low:+.3f}, {high:+.3f}]"


@pytest.mark.slow
def test_a_finished_study_is_written_anew_from_its_scores(outcome, tmp_path):
    first = write_outcome(tmp_path, "paper", outcome, None)
    before = {path: path.read_bytes() for path in (first.scores, first.timing, first.marl_eval, first.table)}
    first.table.write_text(first.table.read_text() + "\n## The counterexample\n\n```\nIt holds.\n```")
    first.page.unlink()
    assert main(["reproduce", "tables", str(tmp_path)]) == 0
    assert {path: path.read_bytes() for path in before if path != first.table} == {
        path: text for path, text in before.items() if path != first.table
    }
    assert first.table.read_text().startswith(before[first.table].decode())
    assert first.table.read_text().count("It holds.") == first.page.read_text().count("It holds.") == 1


@pytest.mark.parametrize(
    "file", sorted(set(RESULTS.glob("*/*.toml")) - set(RESULTS.glob("pays/*"))), ids=lambda file: file.stem
)
def test_the_committed_tables_are_those_of_their_scores(file, tmp_path):
    """Of every method table; the comparisons, which take seconds in the others, of the smallest."""
    if "[tables]" not in file.read_text() or not (file.parent / "scores.csv").exists():
        waiting = ("season", "ablations")
        assert file.stem in waiting  # no table, or not run yet
        return
    whole = file.stem in ("spread", "battles", "sweet-spot")
    folder = shutil.copytree(file.parent, tmp_path / file.stem, ignore=shutil.ignore_patterns("*.md", "*.png"))
    if not whole:
        (folder / file.name).write_text(file.read_text().partition("[tables]")[0] + "[tables]\n")
    assert main(["reproduce", "tables", str(folder)]) == 0
    for name in ("table.md", "comparisons.md", "comparisons.csv", "outcome.md") if whole else ("table.md",):
        committed = file.parent / name
        assert committed.exists() == (folder / name).exists()
        assert not committed.exists() or committed.read_bytes() == (folder / name).read_bytes()


@pytest.mark.skipif(not RESULTS.is_dir(), reason="the repository's results are not here")
def test_rows_that_stand_twice_are_not_twice_as_many_seeds(tmp_path, capsys):
    folder = shutil.copytree(RESULTS / "spread", tmp_path / "spread")
    head, *rows = (folder / "scores.csv").read_text().splitlines()
    (folder / "scores.csv").write_text("\n".join([head, *rows, *rows]) + "\n")
    assert main(["reproduce", "tables", str(folder)]) == 2
    assert "once for a method and a world" in capsys.readouterr().err


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*/full/*.toml")), ids=lambda file: file.stem)
def test_a_study_that_has_not_been_run_can_be(file):
    assert len(read_sweep(file).configs) == 45


def test_what_was_named_before_a_sweep_decides(tmp_path, capsys):
    """The mean of two worlds, by hand from the scores of three seeds; and the picture of two gammas."""
    folder = shutil.copytree(RESULTS / "starcraft", tmp_path / "starcraft")
    file, more = folder / "starcraft.toml", '[tables]\noutcome = ["obs_noise=0.05", "obs_noise=0.1"]\n'
    file.write_text(file.read_text().replace("[tables]\n", more))
    assert main(["reproduce", "tables", str(folder)]) == 0
    text = (folder / "outcome.md").read_text()
    assert not (folder / "horizon.png").exists()  # of one gamma
    assert "corrected after Holm for all 8 comparisons" in text
    seeds: dict[str, np.ndarray] = {}  # by method, half of each world's score
    for row in csv.DictReader((folder / "scores.csv").read_text().splitlines()):
        if row["world"] in ("obs_noise=0.05", "obs_noise=0.1"):
            seeds.setdefault(row["method"], np.zeros(3))[int(row["seed"])] += float(row["score"]) / 2
    p = {
        (a, b): scipy.stats.ttest_ind(seeds[a], seeds[b], equal_var=False).pvalue
        for a, b in tomllib.loads(file.read_text())["tables"]["compare"]
    }
    a, b = min(p, key=lambda pair: p[pair])  # Holm multiplies the smallest by all 8
    row = next(line for line in text.splitlines() if line.startswith(f"| {a} over {b} "))
    assert f"| {seeds[a].mean() - seeds[b].mean():.3f} [" in row
    assert f"| {8 * p[a, b]:.3f} " in row  # three seeds: not marked
    other = next(name for pair in p for name in pair[:1] if name not in (a, b))  # has not been run yet
    rows, scores = [row for row in p if other in row], folder / "scores.csv"
    whole = scores.read_text()
    scores.write_text("".join(row for row in whole.splitlines(True) if not row.startswith(f"{other},")))
    assert main(["reproduce", "tables", str(folder)]) == 0
    text = (folder / "outcome.md").read_text()
    assert f"all 8 comparisons that were named, {8 - len(rows)} of which have been run" in text
    assert f"| {8 * p[a, b]:.3f} " in next(line for line in text.splitlines() if line.startswith(f"| {a} over {b} "))
    scores.write_text(whole)
    file.write_text(file.read_text().replace('"TV 0.01" = {', '"TV 0.01" = { gamma = 0.997,'))
    assert main(["reproduce", "tables", str(folder)]) == 0
    assert (folder / "horizon.png").exists()
    file.write_text(file.read_text().replace('["obs_noise=0.05", ', '["obs_noise=3", '))
    capsys.readouterr()
    assert main(["reproduce", "tables", str(folder)]) == 2
    assert "tables.outcome: 'obs_noise=3' is not allowed; choose one of obs_noise=0, " in capsys.readouterr().err


def test_scores_of_another_sweep_are_refused(tmp_path, capsys):
    folder = shutil.copytree(RESULTS / "battles", tmp_path / "battles")
    with open(folder / "scores.csv", "a") as file:
        file.write("COMA,nominal,0,0.5\n")
    assert main(["reproduce", "tables", str(folder)]) == 2
    assert "scores: 'COMA' is not allowed; choose one of VDN, QMIX, QTRAN" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (None, "cannot be read"),
        ("VDN,vdn,nominal,none,0,climate,Tucson,0,high", "is not what drigm reproduce paper writes"),
        ("V" * 200_000 + ",vdn,nominal,none,0,climate,Tucson,0,0.5", "is not what drigm reproduce paper writes"),
        ("Mine,vdn,nominal,none,0,climate,Tucson,0,0.5", "no such method"),
        (
            "VDN,vdn,nominal,none,0,climate,Tucson,0,0.5\nVDN,vdn,nominal,none,0,climate,Tucson,2,0.5",
            "follow each other",
        ),
    ],
)
def test_scores_that_no_study_has_written_are_refused(row, said, tmp_path, capsys):
    if row is not None:
        head = "method,factorization,uncertainty,baseline,rho,suite,world,seed,score"
        (tmp_path / "scores.csv").write_text(f"{head}\n{row}\n")
        (tmp_path / "timing.csv").write_text("group,runs,seconds,seconds_per_run,cores\n")
    assert main(["reproduce", "tables", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_the_papers_seasonal_is_told_from_the_seasons(outcome, tmp_path):
    assert all(group.more == ("season",) for group in plan("paper", ["table"]))
    assert not any(group.more for group in plan("smoke"))
    text = write_outcome(tmp_path / "without", "paper", outcome, None).table.read_text()
    assert "is no shift" in text
    assert "were not scored in it" in text
    seasons = [shift_score(name, np.full(5, 0.875)) for name in ("winter", "spring", "summer", "autumn")]
    with_seasons = {
        name: [*found, *(one._replace(evaluation=Evaluation("season", seasons)) for one in found)]
        for name, found in outcome.scored.items()
        if found[0].evaluation.suite == "climate"
    }
    text = write_outcome(tmp_path / "with", "paper", Outcome(with_seasons, outcome.timings), None).table.read_text()
    assert "were not scored in it" not in text
    assert text.count("0.875 ± 0.000 | 0.875 ± 0.000 | 0.875 ± 0.000 | 0.875 ± 0.000") == len(outcome.of("climate"))


def test_the_command_line_plans_and_refuses(capsys, tmp_path):
    assert main(["reproduce", "paper", "--plan", "--scale", "smoke", "--out", str(tmp_path)]) == 0
    assert "battles-contamination" in capsys.readouterr().out
    assert main(["reproduce", "paper", "--parts", "tables", "--out", str(tmp_path)]) == 2
    assert f"choose one of {', '.join(PARTS)}" in capsys.readouterr().err
    assert main(["reproduce", "authors", str(tmp_path)]) == 2
    assert "holds no network" in capsys.readouterr().err
    (tmp_path / "net.pth").write_bytes(b"")
    assert main(["reproduce", "authors", str(tmp_path)]) == 2
    assert "--torch-python" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs"))


def test_smoke_runs_both_kinds_of_worlds_in_one_program_each():
    methods = {(c.env.partition(":")[0], c.uncertainty, c.baseline) for g in plan("smoke") for c in g.configs}
    # Of radius 0: the non-robust team.
    assert {m[1:] for m in methods if m[0] == "building"} == {("tv", "none")}
    assert {m[1] for m in methods if m[0] == "smax"} == {"contamination"}
    assert {method_name(c) for g in plan("smoke", ["battles"]) for c in g.configs} == {"VDN", "VDN-contamination 0.01"}
    assert "VDN" in {method_name(c) for g in plan("smoke", ["table"]) for c in g.configs}
    assert SCALES["paper"].seeds >= 5
