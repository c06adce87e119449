"""Gains over the controls, from the scores of finished studies."""

import csv
from pathlib import Path

import pytest

from drigm.core.errors import UserError
from drigm.evaluation import statistics as st
from drigm.experiments.reproduce.pays import claim_of, read_domains, read_study, reproduce_pays

DOMAINS = """
[[domains]]
title = "Tanks"
study = "scores.csv"
command = "drigm sweep tanks.toml"
home = ["still"]
worlds = ["leak", "flood"]
plain = "plain"
discount = ["discount 0.1", "discount 0.2"]
randomized = []
robust = ["TV", "KL"]
controller = "PI"
columns = { world = "place" }
where = { suite = "all" }
"""
# Mean scores at home, with a leak and in a flood. KL gains on all controls; TV on the non-robust team alone.
MEANS = {
    "plain": (0.9, 0.5, 0.3),
    "discount 0.1": (0.8, 0.5, 0.5),
    "discount 0.2": (0.8, 0.6, 0.6),
    "TV": (0.88, 0.6, 0.6),
    "KL": (0.85, 0.8, 0.8),
}
SPREAD = (-0.02, -0.01, 0.0, 0.01, 0.02)


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
        for place in ("still", "leak", "flood"):
            write.writerow(["PI", place, "all", 0, 0.75])
    path = tmp_path / "domains.toml"
    path.write_text(DOMAINS)
    return path


def test_gains_are_over_the_best_of_each_control(file):
    (domain,) = read_domains(file)
    claim = claim_of(domain, "KL", read_study(domain, file.parent))
    assert claim.controls == {"plain": "plain", "discount": "discount 0.2"}
    assert claim.score == pytest.approx(0.8)
    assert claim.gains["plain"].estimate == pytest.approx(0.4)
    assert claim.gains["discount"].estimate == pytest.approx(0.2)
    assert claim.price.estimate == pytest.approx(-0.05)
    x, y = ([mean + more for more in SPREAD] for mean in (0.8, 0.6))
    assert claim.gains["discount"] == pytest.approx(st.difference(x, y))
    assert claim.pays


def test_what_gains_over_the_plain_team_alone_does_not_pay(file):
    (domain,) = read_domains(file)
    claim = claim_of(domain, "TV", read_study(domain, file.parent))
    assert claim.gains["plain"].low > 0
    assert not claim.pays


def test_of_the_worst_world_of_every_run_where_the_domain_says_so(file):
    file.write_text(DOMAINS + 'measure = "worst"\n')
    (domain,) = read_domains(file)
    claim = claim_of(domain, "KL", read_study(domain, file.parent))
    assert claim.gains["plain"].estimate == pytest.approx(0.5)
    assert claim.controls["discount"] == "discount 0.2"


def test_the_page_says_which_methods_pay(file):
    table, page, *figures = reproduce_pays(file)
    text = table.read_text()
    assert text.startswith("Of 2 robust methods in 1 domain, 1 gains clearly")
    for part in ("KL (Tanks)", "| PI", "0.750"):
        assert part in text
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
        ("[[domains]]", "[[domain]]", "give one table"),
        ('controller = "PI"', 'measure = "best"', "measure"),
        ('home = ["still"]', "home = [", "cannot be read as TOML"),
    ],
)
def test_a_mistake_is_one_sentence(file, old, new, message):
    file.write_text(DOMAINS.replace(old, new))
    with pytest.raises(UserError, match=message) as raised:
        reproduce_pays(file)
    assert "\n" not in str(raised.value)


COMMITTED = Path(__file__).parents[2] / "results" / "pays"


@pytest.mark.long  # it plays the controllers of every field
@pytest.mark.skipif(not COMMITTED.is_dir(), reason="the repository's results are not here")
def test_the_committed_table_is_that_of_its_studies(tmp_path):
    table, *_ = reproduce_pays(COMMITTED / "pays.toml", tmp_path)
    assert table.read_text() == (COMMITTED / "table.md").read_text()
