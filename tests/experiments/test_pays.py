"""Gains over the controls, from the scores of finished studies."""

import csv
from pathlib import Path

import pytest

from drigm.core.errors import UserError
from drigm.evaluation import statistics as st
from drigm.experiments.reproduce.domains import read_domains, read_study
from drigm.experiments.reproduce.pays import claim_of, reproduce_pays

DOMAINS = """
[[domains]]
title = "Tanks"
study = "scores.csv"
command = "drigm sweep tanks.toml"
home = ["still"]
worlds = ["leak", "flood"]
plain = "plain"
discount = ["discount 0.1", "discount 0.2"]
randomized = ["wild"]
robust = ["TV", "KL"]
controller = "PI"
columns = { world = "place" }
where = { suite = "all" }
why = "By the sea."
"""
# Mean scores at home, with a leak and in a flood. KL gains on all controls; TV on the non-robust team alone.
MEANS = {
    "plain": (0.9, 0.5, 0.3),
    "discount 0.1": (0.8, 0.5, 0.5),
    "discount 0.2": (0.8, 0.6, 0.6),
    "wild": (0.8, 0.6, 0.5),
    "TV": (0.88, 0.6, 0.6),
    "KL": (0.85, 0.8, 0.8),
}
SPREAD = (-0.02, -0.01, 0.0, 0.01, 0.02) * 2


@pytest.fixture
def file(tmp_path):
    with open(tmp_path / "scores.csv", "w", newline="") as opened:
        write = csv.writer(opened)
        write.writerow(["method", "place", "suite", "seed", "score"])
        for name, means in MEANS.items():
            for seed, more in enumerate(SPREAD):
                for place, mean in zip(("still", "leak", "flood"), means, strict=True):
                    write.writerow([name, place, "all", seed, mean + more])
                    write.writerow([name, place, "other", seed, 7.0])
                    few = {"five": 5, "four": 4} if name == "wild" else {"five": 10, "four": 10}  # of one method
                    for suite in (suite for suite, seeds in few.items() if seed < seeds):
                        write.writerow([name, place, suite, seed, mean + more])
        for place in ("still", "leak", "flood"):
            write.writerows(["PI", place, suite, 0, 0.75] for suite in ("all", "five", "four"))
    path = tmp_path / "domains.toml"
    path.write_text(DOMAINS)
    return path


def claim(file, method, text=DOMAINS):
    file.write_text(text)
    (domain,), budget = read_domains(file)
    return claim_of(domain, method, read_study(domain, file.parent), budget)


def test_gains_are_over_the_best_of_each_control(file):
    found = claim(file, "KL")
    assert found.controls == {"plain": "plain", "discount": "discount 0.2", "randomized": "wild"}
    assert found.score == pytest.approx(0.8)
    assert found.gains["plain"].estimate == pytest.approx(0.4)
    assert found.gains["discount"].estimate == pytest.approx(0.2)
    assert found.price.estimate == pytest.approx(-0.05)
    x, y = ([mean + more for more in SPREAD] for mean in (0.8, 0.6))
    assert found.gains["discount"] == pytest.approx(st.difference(x, y))
    assert found.verdict == "yes"


def test_what_gains_over_the_plain_team_alone_does_not_pay(file):
    found = claim(file, "TV")
    assert found.gains["plain"].low > 0
    assert found.verdict == "no"


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ("[[domains]]", "budget = 0.04\n[[domains]]", "no: its price"),
        ('randomized = ["wild"]', "randomized = []", "open: no randomization"),
        ('home = ["still"]', "home = []", "open: no price"),
        ('suite = "all"', 'suite = "five"', "open: seeds"),
        ('suite = "all"', 'suite = "four"', "too few seeds"),
    ],
)
def test_what_keeps_a_gain_from_being_a_claim(file, old, new, verdict):
    assert claim(file, "KL", DOMAINS.replace(old, new)).verdict == verdict


def test_of_the_worst_world_of_every_run_where_the_domain_says_so(file):
    found = claim(file, "KL", DOMAINS + 'measure = "worst"\n')
    assert found.gains["plain"].estimate == pytest.approx(0.5)
    assert found.controls["discount"] == "discount 0.2"


def test_the_page_says_which_methods_pay(file):
    table, page, *figures = reproduce_pays(file)
    text = table.read_text()
    assert text.startswith("Of 2 robust methods in 1 domain, 1 gains clearly")
    for part in (
        "KL (Tanks)",
        "| PI",
        "0.750",
        "for 0.1 of score",
        "The others: 1 without a clear gain",
        "By the sea.",
    ):
        assert part in text
    rows = {line.split("|")[2].strip(): [cell.strip() for cell in line.split("|")] for line in text.splitlines()[4:12]}
    assert rows["discount 0.2"][3:6] == ["discount, the best", "10", "0.600"]
    assert rows["discount 0.1"][3] == "discount"
    assert rows["discount 0.1"][-3].startswith("-0.100")  # what the control costs at home
    assert "drigm sweep tanks.toml" in page.read_text()
    assert {figure.suffix for figure in figures} == {".svg", ".png"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"leak"', '"leaks"', "leaks"),
        ('"KL"]', '"KLL"]', "KLL"),
        ("title =", "tittle =", "tittle"),
        ('plain = "plain"\n', "", "plain must be given"),
        ('"scores.csv"', '"none.csv"', "none.csv"),
        ("[[domains]]", "[[domain]]", "did you mean domains"),
        ('controller = "PI"', 'measure = "best"', "measure"),
        ('home = ["still"]', "home = [", "cannot be read as TOML"),
        (DOMAINS, "domains = [1]", "give one table"),
        (DOMAINS, "", "give one table"),
        ("[[domains]]", "budgets = 1\n[[domains]]", "budgets"),
        ("[[domains]]", "budget = -1\n[[domains]]", "budget: -1"),
        ('worlds = ["leak", "flood"]', "worlds = []", "worlds of domain Tanks"),
        ('worlds = ["leak", "flood"]', 'worlds = "leak"', "give a list of texts"),
        ('["TV", "KL"]', '["TV", 1]', "give a list of texts"),
        ('plain = "plain"', "plain = 1", "give a text"),
        ('suite = "all"', 'suit = "all"', "column of domain Tanks: 'suit'"),
        ('controller = "PI"', 'controller = "PID"', "controller of domain Tanks: 'PID'"),
        (
            'controller = "PI"',
            'controller = "pi"\nenv = "supply:serial4"\nsuite = "demand"',
            "controller of domain Tanks",
        ),
        ('controller = "PI"', 'controller = "base_stock"\nenv = "supply:serial4"\nsuite = "deman"', "suite of domain"),
    ],
)
def test_a_mistake_is_one_sentence(file, old, new, message):
    file.write_text(DOMAINS.replace(old, new))
    with pytest.raises(UserError, match=message) as raised:
        reproduce_pays(file)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows, rows[3]], "seed of plain in flood, domain Tanks: 0 is not allowed; once"),
        (lambda rows: [*rows[:3], *rows[4:]], "seeds of plain in flood, domain Tanks: .* those of still"),
    ],
)
def test_a_seed_counts_once_and_in_every_world(file, change, message):
    study = file.parent / "scores.csv"
    lines = study.read_text().splitlines()
    rows = [lines[0], *(line for line in lines if ",all," in line)]
    assert rows[3].startswith("plain,flood,all,0,")
    study.write_text("\n".join(change(rows)) + "\n")
    with pytest.raises(UserError, match=message):
        claim(file, "KL")


def test_runs_are_paired_by_seed_whatever_the_order_of_rows(file):
    """The worst world of a run that is low in both is another than of runs that are paired by their rows."""
    study, text = file.parent / "scores.csv", DOMAINS + 'measure = "worst"\n'
    whole = claim(file, "KL", text)
    head, *rows = study.read_text().splitlines()
    flooded = [row for row in rows if ",flood," in row]
    study.write_text("\n".join([head, *(row for row in rows if row not in flooded), *reversed(flooded)]) + "\n")
    assert claim(file, "KL", text) == whole


COMMITTED = Path(__file__).parents[2] / "results" / "pays"


@pytest.mark.long  # it plays the controllers of every field
@pytest.mark.skipif(not COMMITTED.is_dir(), reason="the repository's results are not here")
def test_the_committed_table_is_that_of_its_studies(tmp_path):
    table, *_ = reproduce_pays(COMMITTED / "pays.toml", tmp_path)
    assert table.read_text() == (COMMITTED / "table.md").read_text()
