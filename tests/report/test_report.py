"""The report's parts: pages and tables as HTML, runs as methods, verdicts, floor plans; and a page of small runs."""

import json
import math
import re

import jax.numpy as jnp
import numpy as np
import pytest
from invented import plot, small_battle, small_day
from small import SMALL, assert_one_sentence, make_spec

from drigm.cli.main import main
from drigm.core.config import TrainConfig
from drigm.core.errors import UserError
from drigm.core.naming import duration
from drigm.envs import make_env
from drigm.envs.building.dataset import building_names, zones
from drigm.evaluation.cache import cached_evaluation
from drigm.evaluation.controllers import TITLES
from drigm.evaluation.published import CONTROLLERS, controller_score
from drigm.evaluation.statistics import Interval, interval, mean, probability_of_improvement, verdict
from drigm.report.figures.aggregates import (
    aggregate_columns,
    aggregate_rows,
    best_known,
    limit_told,
    profile_alt,
    profiles,
    strengths,
)
from drigm.report.figures.curves import Band, leaders, learning_bands, world_name
from drigm.report.figures.floor_plan import floors, outline, zone_names
from drigm.report.figures.style import score_axis
from drigm.report.html import (
    Html,
    Section,
    data_html,
    escape,
    figure_html,
    interval_html,
    save_figures,
    slug,
    table_html,
    write_page,
)
from drigm.report.report import command, write_report
from drigm.report.sections.against_paper import paper_section
from drigm.report.sections.battle import attacked, battle_data, battle_figure
from drigm.report.sections.building_day import day_data, extreme_episode, still_step
from drigm.report.sections.comparison import comparison_row, cost_of, verdict_html
from drigm.report.sections.overview import runs_section, training_time
from drigm.report.sections.robustness import radius_section, shifts_section
from drigm.report.sections.summary import summary_section
from drigm.report.study import Method, Study, changed, labels, nominal_world, ordered, pooled
from drigm.storage.run_directory import RunDirectory
from drigm.training.runs import Run, load_run, train_run

CITY = "building:OfficeSmall/Tucson"


def run_of(env=None, path="runs/x", **changes):
    config = TrainConfig(**{"env": CITY, **changes})
    return Run(RunDirectory(path), config, env)


def method_of(scores, label="m", **changes):
    scores = np.asarray(scores, float)
    run = run_of(seeds=len(scores), **changes)
    return Method(label, run.config, [run], scores, scores[:, 0])


def study_of(methods, worlds=("a", "b"), name="probe:chain", wins=False):
    env = type(
        "Env",
        (),
        {"spec": make_spec(has_wins=wins), "shifts": {}, "num_eval_episodes": 32, "eval_seeds": (), "parameters": {}},
    )()
    return Study(env, name, "climate", list(worlds), worlds[0], methods)


# Pages


def test_a_page_holds_everything_it_shows(tmp_path):
    sections = [Section("One & only", "one", figure_html(plot(), "a line", "what it means")), Section("Two", "two", "")]
    path = write_page(tmp_path / "deep" / "page.html", "A <title>", "Lead & more.", sections)
    page = path.read_text(encoding="utf-8")
    assert "<title>A &lt;title&gt;</title>" in page
    assert 'href="#one">One &amp; only</a>' in page
    assert "Lead &amp; more." in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    assert "url(" not in re.sub(r"url\(#", "", page)
    assert "@media print" in page
    assert 'aria-label="a line"' in page


def test_scripts_stand_in_the_page_once(tmp_path):
    sections = [Section(str(i), f"s{i}", "", {}, ("player.js", "day.js")) for i in range(2)]
    page = write_page(tmp_path / "page.html", "t", "l", sections).read_text()
    assert page.count("const drigm =") == 1


def test_a_page_refuses_what_it_cannot_do(tmp_path):
    with pytest.raises(UserError, match="two sections") as found:
        write_page(tmp_path / "p.html", "t", "l", [Section("a", "same", ""), Section("b", "same", "")])
    assert_one_sentence(str(found.value))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written") as found:
        write_page(tmp_path / "file" / "p.html", "t", "l", [])
    assert_one_sentence(str(found.value))


def test_figures_follow_the_scheme_and_have_ids_of_their_own():
    one, other = figure_html(plot(), "a"), figure_html(plot("#0072B2"), "b")
    for picture in (one, other):
        assert "#222222" not in picture
        assert "var(--ink)" in picture
        assert "<metadata" not in picture
        assert "A &lt;title&gt; &amp; more" in picture
    assert "var(--c0)" in other
    ids = [set(re.findall(r'\bid="([^"]*)"', picture)) for picture in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for picture, own in zip((one, other), ids, strict=True):
        assert set(re.findall(r"url\(#([^)]*)\)", picture)) <= own


def test_tables_escape_align_and_show_intervals():
    rows = [{"name": "<b>", "n": 3, "i": Interval(0.5, 0.25, 0.75), "h": Html("<i>x</i>")}, {"name": "z", "n": None}]
    table = table_html(rows, {"name": "Name", "n": "N", "i": "I", "h": "H"}, caption="C")
    assert '<th scope="row">&lt;b&gt;</th><td class="number">3</td>' in table
    assert '<span class="value">0.500</span> <span class="ends">[0.250, 0.750]</span>' in table
    assert "<td><i>x</i></td>" in table
    assert '<td class="number">-</td>' in table
    assert "<caption>C</caption>" in table
    assert "ends" not in interval_html(Interval(-1.0, math.nan, math.nan))
    assert "\N{MINUS SIGN}1.000" in interval_html(Interval(-1.0, math.nan, math.nan))


def test_data_cannot_end_its_script():
    inside = data_html("d", {"x": "</script><b>"})
    assert inside.count("</script>") == 1
    text = inside.removeprefix('<script type="application/json" id="d">').removesuffix("</script>")
    assert json.loads(text) == {"x": "</script><b>"}


def test_small_helpers(tmp_path):
    assert escape(Html("<a>")) == "<a>"
    assert slug("smax:3s_vs_5z") == "smax-3s-vs-5z"
    assert slug("--") == "part"
    files = save_figures([Section("t", "id", "", {"f": plot()})], tmp_path / "figures")
    assert [file.name for file in files] == ["id-f.svg", "id-f.png"]
    assert all(file.stat().st_size > 1000 for file in files)
    assert [duration(s) for s in (5, 65, 3661, math.nan)] == ["5 s", "1 min 5 s", "1 h 1 min", "-"]
    seconds, rate = training_time([{"step": 100.0, "steps_per_s": 10.0}, {"step": 300.0, "steps_per_s": 20.0}])
    assert (seconds, rate) == (20.0, 15.0)
    assert math.isnan(training_time([])[0])


# Runs and methods


def test_runs_that_differ_in_seeds_are_one_method():
    one, two = run_of(seeds=2), run_of(seeds=3, first_seed=2)
    other = run_of(seeds=2, gamma=0.9)
    assert pooled([one, other, two]) == [[one, two], [other]]
    again = run_of(path="runs/y", first_seed=1)
    with pytest.raises(UserError, match="seed 1 is also in 'runs/x'") as found:
        pooled([one, again])
    assert_one_sentence(str(found.value))


def test_labels_tell_what_differs():
    configs = [
        run_of(factorization="vdn").config,
        run_of(factorization="vdn", gamma=0.0).config,
        run_of(factorization="vdn", steps=1_200_000).config,
        run_of(uncertainty="tv", rho=0.2, dual_updates=2).config,
        run_of(factorization="vdn", baseline="short_horizon", rho=0.5).config,
    ]
    assert labels(configs) == [
        "VDN",
        "VDN, gamma 0",
        "VDN, 1.2M steps",
        "QMIX-TV 0.2, dual_updates 2",
        "VDN, gamma (1 - 0.5)",
    ]
    assert changed(configs[1]) == {"gamma": 0.0}


def test_methods_without_robustness_come_first():
    pools = [[run_of(uncertainty="tv", rho=r)] for r in (0.2, 0.1)] + [[run_of(factorization="vdn")], [run_of()]]
    assert [(p[0].config.factorization, p[0].config.rho) for p in ordered(pools)] == [
        ("qmix", 0.0),
        ("qmix", 0.1),
        ("qmix", 0.2),
        ("vdn", 0.0),
    ]


def test_the_baseline_differs_in_robustness_only():
    plain, other = method_of([[0.1, 0.1]]), method_of([[0.1, 0.1]], gamma=0.5)
    robust = method_of([[0.1, 0.1]], uncertainty="tv", rho=0.2, dual_updates=3, fail_value=0.0)
    lonely = method_of([[0.1, 0.1]], factorization="vdn", uncertainty="tv", rho=0.2)
    study = study_of([other, plain, robust, lonely])
    assert study.baseline_of(robust) is plain
    assert study.baseline_of(plain) is None
    assert study.baseline_of(lonely) is None
    # The preset paper updates as often with TV as without, but four times in a row.
    plain, robust = (
        method_of(
            [[0.1, 0.1]], **{"preset": "paper", "update_every": 2 * k, "updates": k, "uncertainty": name, "rho": rho}
        )
        for k, name, rho in ((1, "nominal", 0.0), (4, "tv", 0.2))
    )
    assert study_of([plain, robust]).baseline_of(robust) is plain


def test_the_median_seed_is_found_in_its_run():
    one, two = run_of(seeds=2), run_of(seeds=1, first_seed=2)
    scores = np.array([[0.1], [0.9], [0.5]])
    assert Method("m", one.config, [one, two], scores, scores[:, 0]).median_seed == (two, 0)
    assert Method("m", one.config, [one], scores[:2], scores[:2, 0]).median_seed == (one, 0)


@pytest.mark.parametrize(
    ("env", "suite", "name"),
    [
        (CITY, "climate", "Tucson"),
        ("building:OfficeSmall/PortAngeles", "climate", None),  # the suite's stands on Seattle's ground
        (CITY, "noise", "obs_noise=0"),
        ("probe:coordinate", "nominal", "nominal"),
    ],
)
def test_nominal_world(env, suite, name):
    assert nominal_world(make_env(env), suite) == name


# What is said of scores


def test_verdicts_follow_the_intervals():
    assert "better" in verdict_html(Interval(0.8, 0.6, 1.0))
    assert "worse" in verdict_html(Interval(0.2, 0.0, 0.4))
    assert "no clear difference" in verdict_html(Interval(0.8, 0.5, 1.0))
    assert "one seed" in verdict_html(Interval(0.8, math.nan, math.nan))
    assert "too few seeds" in verdict_html(Interval(0.8, 0.6, 1.0), seeds=4)


def test_a_method_that_does_not_beat_its_baseline_is_said_to_be_worse():
    seeds = np.linspace(0.0, 0.02, 5)[:, None]
    plain, robust = method_of(0.9 + seeds + [0, 0]), method_of(0.7 + seeds + [0, 0.25], uncertainty="tv", rho=0.2)
    row = comparison_row(robust, plain)
    assert row["cost"].estimate == pytest.approx(0.2)
    assert "worse" in row["cost_verdict"]
    assert "no clear difference" in row["verdict"]  # worse in one world, better in the other
    assert "worse" in row["worst_verdict"]
    few = [
        one._replace(scores=one.scores[:4], nominal=one.nominal[:4], runs=[run_of(seeds=4)]) for one in (robust, plain)
    ]
    row = comparison_row(*few)
    assert all("too few seeds" in row[name] for name in ("verdict", "worst_verdict", "cost_verdict"))


def test_cost_is_paired_by_the_seeds_that_both_have():
    one = method_of([[0.5], [0.6], [0.7]])
    other = one._replace(scores=np.array([[0.1], [0.2]]), nominal=np.array([0.1, 0.2]), runs=[run_of(seeds=2)])
    cost = cost_of(other, one)
    np.testing.assert_allclose(cost, (0.4, 0.4, 0.4), rtol=1e-6)
    few = one._replace(scores=np.array([[0.1]]), nominal=np.array([0.1]), runs=[run_of(seeds=1)])
    assert math.isnan(cost_of(few, one).low)


def test_titles_claim_no_more_than_intervals_allow():
    high, near, low = Interval(0.9, 0.85, 0.95), Interval(0.88, 0.8, 0.92), Interval(0.5, 0.4, 0.6)
    assert leaders({"a": high, "b": low}, "there") == "a is best there, at 0.900"
    assert leaders({"b": near, "a": high}, "there") == "a is highest there, at 0.900; b is not clearly below"
    assert leaders({"a": low, "b": low, "c": low}, "there") == "3 methods are level there, at 0.500"
    assert leaders({"a": high}, "there") == "a: 0.900 there"
    assert leaders({"a": high, "b": low}, "there", 4) == "a is highest there, at 0.900 (too few seeds for a verdict)"
    alone = Interval(0.9, math.nan, math.nan)
    assert leaders({"a": alone, "b": low}, "there") == "a is highest there, at 0.900 (one seed: no interval)"


def test_strengths_of_one_perturbation():
    assert strengths(["obs_noise=0", "obs_noise=0.1"]) == [0.0, 0.1]
    assert strengths(["obs_noise=0", "delay=1"]) is None
    assert strengths(["Tucson", "Tampa"]) is None
    assert strengths(["obs_noise=0.4", "obs_noise=0.1"]) is None  # no curve goes backwards
    assert world_name("obs_noise=0.1") == "obs noise 0.1"
    assert world_name("NewYork") == "New York"


def test_aggregates_by_hand():
    """Two seeds, three worlds: nothing is trimmed of six scores but the highest and the lowest."""
    scores = {"one": np.array([[0.0, 0.4, 0.8], [0.2, 0.6, 1.0]])}
    worlds = ["obs_noise=0", "obs_noise=1", "obs_noise=3"]
    (row,) = aggregate_rows(scores, worlds, [1.0, 1.0, 1.0])
    found = {name: row[name].estimate for name in ("iqm", "mean", "median", "gap", "worst", "cvar", "area")}
    # area: widths 1 and 2 of mean heights (0.3, 0.7), over 3
    expected = {"iqm": 0.5, "mean": 0.5, "median": 0.5, "gap": 0.5, "worst": 0.1, "cvar": 0.1, "area": 1.7 / 3}
    assert found == pytest.approx(expected)
    assert list(aggregate_columns([row])) == ["method", "seeds", *expected]
    (plain,) = aggregate_rows(scores, ["Tucson", "Tampa", "ElPaso"], None)
    assert {"gap", "area"}.isdisjoint(plain)
    assert {"gap", "area"}.isdisjoint(aggregate_columns([plain]))


def test_the_gap_is_to_the_best_known_score():
    cities = best_known("building:OfficeSmall/Tucson", ["Tucson", "PortAngeles"])
    assert cities == [controller_score(city, "one_step_optimum") for city in ("Tucson", "PortAngeles")]
    assert limit_told(cities) == (
        "The optimality gap is to the one-step optimum with full knowledge, 0.993 to 0.994 by city."
    )
    (row,) = aggregate_rows({"one": np.tile(cities, (3, 1))}, ["Tucson", "PortAngeles"], cities)
    assert row["gap"].estimate == 0.0
    assert best_known("building:OfficeSmall/Tucson", ["winter"]) == [1.0]
    assert best_known("smax:3m", ["nominal"]) == [1.0]
    assert best_known("mpe:simple_spread_v3", ["nominal"]) is None


def test_profiles_start_where_every_score_lies_above():
    scores = np.array([[-6.0, 0.97, 0.98], [0.96, 0.97, 0.99]])
    for line in profiles({"": {"one": scores, "two": scores + 1}}, xlabel="").axes[0].lines:
        assert line.get_ydata()[0] == 1.0


def test_a_title_calls_clearly_below_what_the_verdict_calls_worse():
    """Intervals may overlap where the probability of improvement is clear, and the other way round."""
    a, b = np.array([0.5, 0.51, 0.52, 0.53, 0.9]), np.array([0.49, 0.48, 0.47, 0.46, 0.45])
    section = shifts_section(study_of([method_of(a[:, None] + [0, 0], "a"), method_of(b[:, None] + [0, 0], "b")]))
    word = verdict(probability_of_improvement(a, b), seeds=5)
    intervals = [interval(x[:, None], mean) for x in (a, b)]
    assert intervals[0].low < intervals[1].high
    assert word == "better"
    assert section.figures["worlds"].get_suptitle() == "a is best in the worst world, at 0.592"


@pytest.mark.parametrize(
    ("better", "seeds", "said"),
    [
        (0.1, 5, "tv against the non-robust team: better in the worst world, better where nothing shifts."),
        (0.0, 5, "tv against the non-robust team: no clear difference in the worst world, no clear difference where"),
        (0.1, 4, "is open: a verdict needs 5 seeds of each team, and one has 4."),
    ],
)
def test_a_summary_says_whether_robustness_paid(better, seeds, said):
    scores = 0.5 + 0.01 * np.random.default_rng(0).random((seeds, 2))
    methods = [method_of(scores, "plain"), method_of(scores + better, "tv", uncertainty="tv", rho=0.2)]
    study = study_of(methods)._replace(controllers={"pi": [0.9, 0.8], "one_step_optimum": [1.0, 1.0]})
    section = summary_section(study)
    assert said in section.body
    assert f"plain ({seeds} seeds) and tv ({seeds} seeds) trained for 172,800 steps a seed" in section.body
    assert "32 episodes in each of the 2 worlds" in section.body
    assert "PI, which learns nothing, reaches 0.800." in section.body
    alone = summary_section(study_of(methods[:1]))
    assert "no non-robust run has the same settings otherwise" in alone.body


def test_numbers_stand_right_with_true_minus_signs():
    rows = [{"": "QMIX-2", "x": Interval(-0.5, -1, 0), "y": "-0.0004", "z": "left"}, {"": "PI", "x": -2.5, "y": None}]
    page = table_html(rows)
    assert page.count('class="number"') == 6  # two columns, with their headings
    assert "\N{MINUS SIGN}2.500" in page
    assert "QMIX-2" in page
    assert escape("is -0.000 at gains=-0.1:0.1, [-1, -2]") == (
        "is 0.000 at gains=-0.1:0.1, [\N{MINUS SIGN}1, \N{MINUS SIGN}2]"
    )


def test_a_page_says_the_command_that_made_it(tmp_path):
    made = command([run_of(path="runs/a b")], "page.html", "noise", None, True, {"leak": [0, 0.1]})
    assert made == "drigm report 'runs/a b' -o page.html --shifts noise --perturb leak=0,0.1 --trim"
    page = write_page(tmp_path / "page.html", "A", "Lead.", [], made).read_text(encoding="utf-8")
    assert "Made by drigm with <code>drigm report &#x27;runs/a b&#x27; -o page.html" in page


def test_axes_say_what_a_score_is():
    assert score_axis(CITY) == "Score (1 is best)"
    assert score_axis("mpe:spread", when="while exploring") == "Score while exploring (return of an episode)"
    assert score_axis("smax:3m", wins=True) == "Win rate (share of battles)"


def test_profiles_draw_the_share_above_each_threshold():
    scores = np.array([[0.0, 0.4, 0.8], [0.2, 0.6, 1.0]])
    panels = {"VDN": {"one": scores, "two": scores + 1}, "QMIX": {"two": scores}}
    figure = profiles(panels, xlabel="Score")
    first, second = figure.axes[:2]
    assert [ax.get_title(loc="left") for ax in (first, second)] == ["VDN", "QMIX"]
    x, y = first.lines[0].get_data()
    np.testing.assert_allclose(y, [(scores > tau).mean() for tau in x])
    assert first.lines[1].get_color() == second.lines[0].get_color() != first.lines[0].get_color()
    assert profile_alt(panels).endswith("one 0.500, two 1.500, two 0.500.")


def test_radii_need_several_and_compare_with_zero():
    rng = np.random.default_rng(0)
    methods = [method_of(0.5 + 0.01 * rng.random((5, 2)), label="plain")]
    assert radius_section(study_of(methods)) is None
    for rho, level in ((0.1, 0.6), (0.2, 0.4)):
        methods.append(method_of(level + 0.01 * rng.random((5, 2)), f"tv {rho}", uncertainty="tv", rho=rho))
    section = radius_section(study_of(methods))
    assert section is not None
    title = section.figures["rho"].get_suptitle()
    assert title == "QMIX-TV: highest in the worst world at ρ = 0.1"
    methods[1] = methods[1]._replace(scores=methods[2].scores)
    section = radius_section(study_of(methods))
    assert "no radius is clearly above ρ = 0" in section.figures["rho"].get_suptitle().replace("\n", " ")


def test_a_curve_over_a_perturbation_says_what_its_strength_is():
    section = shifts_section(study_of([method_of([[0.9, 0.3], [0.8, 0.4]])], ("obs_noise=0", "obs_noise=0.1")))
    assert "Greedy play of 32 episodes a world" in section.body
    assert "Strength: standard deviation of Gaussian noise, in units of the scale." in section.body


def test_shifts_show_every_world_and_the_worst():
    study = study_of([method_of([[0.9, 0.3], [0.8, 0.4]])])
    section = shifts_section(study)
    assert "0.350" in section.body
    assert "a (nominal)" in section.body
    assert section.figures.keys() == {"worlds"}


def test_paper_rows_stand_under_ours():
    cities = ("Tucson", "Tampa", "Honolulu", "ElPaso", "PortAngeles", "NewYork")
    methods = [method_of(np.full((2, 6), 0.9), label="QMIX-TV 0.3", uncertainty="tv", rho=0.3)]
    section = paper_section(study_of(methods, cities, CITY))
    names = re.findall(r'<th scope="row">([^<]*)', section.body)
    assert names == ["QMIX-TV 0.3", "QMIX-TV 0.2", "QMIX-TV 0.2", *(TITLES[name] for name in CONTROLLERS)]
    assert "0.520" in section.body
    assert paper_section(study_of(methods, cities, "building:OfficeSmall/Denver")) is None


def test_learning_curves_zoom_on_what_follows_the_start():
    steps = list(range(10, 100, 10))
    values = [-50.0, -5.0, *[0.9] * 7]
    figure = learning_bands({"a": Band(steps, [Interval(v, v - 0.1, v) for v in values])}, ylabel="y", title="t")
    low, high = figure.axes[0].get_ylim()
    assert 0.7 < low < 0.8
    assert high < 1.0


# Floor plans and days


def test_perimeter_zones_are_mitred():
    (ground, attic) = floors(zones("OfficeSmall")[0])
    assert (ground.title, attic.title) == ("Ground floor", "Attic")
    rooms = {room.zone: room for room in ground.rooms}
    south = [(0, 18.46), (27.69, 18.46), (22.69, 13.46), (5.0, 13.46)]
    np.testing.assert_allclose(rooms[1].points, south, atol=0.02)
    areas = {zone: area(room.points) for zone, room in rooms.items()}
    np.testing.assert_allclose([areas[i] for i in range(5)], zones("OfficeSmall")[0].floor_area[:5], rtol=5e-3)
    assert all(room.size > 0 for room in ground.rooms)


def area(points):
    x, y = np.array(points).T
    return abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2


def test_a_box_without_overlap_stays_a_box():
    assert outline((0, 0, 2, 1), [(2, 0, 3, 1)]) == [(0, 0), (2, 0), (2, 1), (0, 1)]


@pytest.mark.parametrize("building", building_names())
def test_every_building_has_a_plan(building):
    geometry = zones(building)[0]
    plan = floors(geometry)
    assert sorted(room.zone for floor in plan for room in floor.rooms) == list(range(len(geometry.names)))
    for floor in plan:
        for room in floor.rooms:
            x, y = np.array(room.points).T
            assert -1e-6 <= x.min() < x.max() <= floor.width + 1e-6
            assert -1e-6 <= y.min() < y.max() <= floor.height + 1e-6


def test_day_data():
    day, targets = small_day(), np.full(6, 22.0)
    geometry = zones("OfficeSmall")[0]
    data = day_data([day], targets, floors(geometry), zone_names(geometry.names), still_step(day, targets))
    assert data["zones"][1] == "Perimeter 1"
    assert data["hours"] == 0.5
    assert data["spread"] == 2.0
    assert data["power"] == 0.3
    assert data["still"] in (2, 47)  # the farthest from the target, after the first hour
    assert len(data["days"][0]["policies"][0]["t"]) == 6
    json.dumps(data, allow_nan=False)


def test_extreme_days():
    temperature = np.concatenate([np.full(288, 10.0), np.full(288, -3.0), np.full(288 * 363, 20.0)])
    days = np.array([0, 1, 2], np.int32)
    assert extreme_episode(temperature, days, coldest=True)[0] == 1
    assert extreme_episode(temperature, days, coldest=False)[0] == 2


# Battles


def test_targets_count_from_the_front_for_allies_and_backwards_for_enemies():
    actions = np.array([[5, 7, 4, 5, 6, 0]])  # two allies against four enemies
    np.testing.assert_array_equal(attacked(actions, 2), [[2, 4, -1, 1, 0, -1]])


def test_battle_data():
    data = battle_data(small_battle())
    assert data["label"] == "VDN: battle 1, won"
    assert [unit["type"] for unit in data["units"]] == ["Stalker", "Stalker", "Zealot", "Zealot"]
    assert data["frames"][1]["a"] == [2, -1, -1, -1]
    assert data["frames"][-1]["h"] == [5.0, 4.0, 0.0, 0.0]
    json.dumps(data, allow_nan=False)
    assert small_battle(won=False).outcome == "lost"
    assert len(battle_figure(small_battle()).axes) == 4


# A whole page


@pytest.fixture(scope="module")
def small_runs(tmp_path_factory):
    """Two seeds without robustness, and the same with total variation."""
    folder = tmp_path_factory.mktemp("runs")
    plain = train_run(SMALL.replace(seeds=2), folder / "plain", quiet=True)
    robust = SMALL.replace(seeds=2, uncertainty="tv", rho=0.2)
    return plain, train_run(robust, folder / "robust", quiet=True)


@pytest.mark.slow
def test_report_of_small_runs(small_runs, tmp_path, capfd):
    page = tmp_path / "report.html"
    arguments = ["report", *(str(run.path) for run in small_runs), "-o", str(page), "--figures", str(tmp_path / "f")]
    assert main(arguments) == 0
    assert capfd.readouterr().out.strip() == str(page)
    text = page.read_text(encoding="utf-8")
    for part in ("QMIX-TV 0.2", "What was run", "Robustness to shifts", "Against the non-robust team", "Learning"):
        assert part in text
    assert "A day in the building" not in text
    assert {file.suffix for file in (tmp_path / "f").iterdir()} == {".svg", ".png"}
    for run in small_runs:
        assert (run.path / "scores" / "noise.json").exists()
        assert (run.path / "scores" / "alignment.json").exists()


@pytest.mark.slow
def test_nothing_is_computed_twice(small_runs, tmp_path, monkeypatch):
    for run in small_runs:
        cached_evaluation(run, "nominal", quiet=True)
    write_report(small_runs, tmp_path / "one.html", "nominal")
    monkeypatch.setattr("drigm.evaluation.cache.evaluate_together", lambda *_: pytest.fail("scored again"))
    monkeypatch.setattr("drigm.verification.greedy_alignment.verify_run", lambda *_: pytest.fail("verified again"))
    write_report(small_runs, tmp_path / "two.html", "nominal")
    assert (tmp_path / "one.html").read_text().replace("one.html", "two.html") == (tmp_path / "two.html").read_text()


def test_alignment_says_where_it_cannot_look(monkeypatch):
    from drigm.report.sections import overview

    def refuse(run):
        raise UserError("run: 'x' is not allowed; its environment lives in another process.")

    monkeypatch.setattr(overview, "cached_alignment", refuse)
    section = overview.alignment_section([study_of([method_of([[0.5, 0.5]])])])
    assert "its environment lives in another process." in section.body


def test_runs_table_tells_what_is_common_once():
    section = runs_section(
        [study_of([method_of([[0.5]], path="runs/a"), method_of([[0.5]], path="runs/b", gamma=0.5)])]
    )
    assert "Steps per seed: 172,800." in section.body
    assert "gamma 0.5" in section.body


def test_bad_input_is_one_sentence(tmp_path, capsys):
    for arguments, said in (
        ([str(tmp_path)], "no config.json"),
        ([str(tmp_path), "-o", str(tmp_path / "x.pdf")], "no config.json"),
    ):
        assert main(["report", *arguments]) == 2
        message = capsys.readouterr().err
        assert said in message
        assert message.count("\n") == 1
    with pytest.raises(UserError, match=r"\.html") as found:
        write_report([], tmp_path / "x.pdf")
    assert_one_sentence(str(found.value))
    with pytest.raises(UserError, match="none given") as found:
        write_report([], tmp_path / "x.html")
    assert_one_sentence(str(found.value))


def test_worlds_are_named_by_what_differs_in_them():
    worlds = "lag=0:0.5,power=0.7:2,gains=-0.1:0.1@3h"
    plain = SMALL.replace(env=CITY)
    assert labels([plain, plain.replace(worlds=worlds)])[1].endswith("worlds by lag, power, gains")


@pytest.mark.slow
def test_report_of_a_building(tmp_path):
    config = SMALL.replace(env=CITY, steps=640, num_envs=4)
    run = train_run(config, tmp_path / "run", quiet=True)
    page = write_report([load_run(run.path)], tmp_path / "page.html").read_text(encoding="utf-8")
    for part in ("Beside the paper", "A day in the building", "One-step optimum", "no non-robust run"):
        assert part in page
    text = re.search(r'id="day-data">(.*?)</script>', page)[1]
    data = json.loads(text)
    assert [policy["label"] for policy in data["days"][0]["policies"]] == [
        "QMIX",
        "PI, tuned by SIMC",
        "One-step optimum",
        "Doing nothing",
    ]
    best, idle = (data["days"][0]["policies"][i]["score"] for i in (2, 3))
    assert best > 0.95 > idle
    again = write_report([load_run(run.path)], tmp_path / "trim.html", trim=True).read_text(encoding="utf-8")
    assert "QMIX + trim" in again
    assert "QMIX + trim" not in page
    assert jnp.isfinite(jnp.asarray(data["days"][0]["outdoor"])).all()
