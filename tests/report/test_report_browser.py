"""The report in a real browser: headless Chromium opens a page from a file and uses it."""

from pathlib import Path

import numpy as np
import pytest
from invented import invented_study, plot, small_battle, small_chain, small_day, small_log

from drigm.envs.building.dataset import zones
from drigm.evaluation.statistics import Interval
from drigm.experiments.reproduce.page import write_outcome
from drigm.report.figures.floor_plan import floors, zone_names
from drigm.report.html import Html, Section, figure_html, table_html, write_page
from drigm.report.sections.battle import SCRIPTS as BATTLE_SCRIPTS
from drigm.report.sections.battle import battles_html
from drigm.report.sections.building_day import SCRIPTS as DAY_SCRIPTS
from drigm.report.sections.building_day import day_data, day_html
from drigm.report.sections.closed_loop import SCRIPTS as LOOP_SCRIPTS
from drigm.report.sections.closed_loop import loop_data, loop_html
from drigm.report.sections.supply_chain import SCRIPTS as SUPPLY_SCRIPTS
from drigm.report.sections.supply_chain import supply_data, year_html

PHONE, DESK = {"width": 375, "height": 700}, {"width": 1200, "height": 800}


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A page with every kind of part, of made-up numbers."""
    folder = tmp_path_factory.mktemp("page")
    geometry, day = zones("OfficeSmall")[0], small_day()
    other = day._replace(title="Elsewhere, day 2", outdoor=day.outdoor + 20)
    data = day_data([day, other], np.full(6, 22.0), floors(geometry), zone_names(geometry.names), 12)
    wide = [{"": f"method {i}", **{f"world {w}": Interval(0.9, 0.8, 1.0) for w in range(12)}} for i in range(3)]
    sections = [
        Section("Numbers", "numbers", table_html(wide) + figure_html(plot(), "a rising line")),
        Section("As printed", "printed", Html(f"<pre>{'a long line ' * 30}</pre>")),
        Section("A day", "day", day_html(data), {}, DAY_SCRIPTS),
        Section("A battle", "battle", battles_html([small_battle(), small_battle(won=False)]), {}, BATTLE_SCRIPTS),
        Section("The loop", "loop", loop_html(loop_data(small_log("pi", 2))), {}, LOOP_SCRIPTS),
        Section("A year", "supply", year_html(supply_data([small_chain()], ("shop", "factory"))), {}, SUPPLY_SCRIPTS),
    ]
    title = "Robust teams in building:OfficeSmall/PortAngeles"
    return write_page(folder / "page.html", title, "A lead.", sections)


class Visit:
    """An opened page, and everything it complained about or asked for."""

    def __init__(self, browser, file: Path, **options):
        self.trouble, self.asked = [], []
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.on("console", lambda m: self.trouble.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.resolve().as_uri())

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.context.close()
        if kind is None:
            assert self.trouble == []
            assert [url for url in self.asked if not url.startswith(("file:", "data:"))] == []

    def fills(self):
        return self.page.eval_on_selector_all("#day .room", "rooms => rooms.map(r => r.getAttribute('fill'))")

    def background(self):
        return self.page.evaluate("getComputedStyle(document.body).backgroundColor")

    def slide(self, section, frame):
        """Move the slider as a person does: focus and keys, which send input events."""
        slider = self.page.locator(f"#{section} input[type=range]")
        slider.focus()
        slider.press("Home")
        for _ in range(frame):
            slider.press("ArrowRight")


def test_everything_is_shown_and_nothing_fetched(chromium, page_file):
    with Visit(chromium, page_file, viewport=DESK) as visit:
        page = visit.page
        assert page.title() == page.inner_text("h1")
        for picture in page.query_selector_all("svg[role=img]"):
            assert picture.get_attribute("aria-label")
            box = picture.bounding_box()
            assert min(box["width"], box["height"]) > 5
        assert page.locator("#day .room").count() == 12  # six zones, two policies
        assert page.locator("#battle .unit").count() == 4


def test_the_slider_moves_the_floor_plan_and_the_time(chromium, page_file):
    with Visit(chromium, page_file, viewport=DESK) as visit:
        label = visit.page.locator("#day output")
        assert label.inner_text().startswith("06:00")  # the representative still
        before = visit.fills()
        visit.slide("day", 3)
        assert label.inner_text().startswith("01:30")
        after = visit.fills()
        assert before[:6] != after[:6]
        assert before[6:] == after[6:]  # the calm policy stays at its target


def test_policies_and_days_can_be_chosen(chromium, page_file):
    with Visit(chromium, page_file, viewport=DESK) as visit:
        visit.slide("day", 0)
        day, left, _ = visit.page.query_selector_all("#day select")
        wild = visit.fills()[:6]
        left.select_option("1")
        assert visit.fills()[:6] != wild
        label = visit.page.locator("#day output")
        assert "\N{MINUS SIGN}5.0 °C" in label.inner_text()
        day.select_option("1")
        assert "15.0 °C" in label.inner_text()


@pytest.mark.parametrize("section", ["day", "battle", "supply", "loop"])
def test_play_goes_on_by_itself_and_stops(chromium, page_file, section):
    with Visit(chromium, page_file, viewport=DESK) as visit:
        page = visit.page
        visit.slide(section, 0)
        start = page.inner_text(f"#{section} output")
        button = page.locator(f"#{section} button")
        button.click()
        page.wait_for_function(
            "([section, start]) => document.querySelector(`#${section} output`).textContent !== start",
            arg=[section, start],
            timeout=10_000,
        )
        # In one go: a short replay may end between a look at the button and a click, which would start it again.
        stop = "button => { if (button.textContent.includes('Pause')) button.click(); return button.textContent; }"
        assert "Play" in button.evaluate(stop)
        rested = page.inner_text(f"#{section} output")
        page.wait_for_timeout(500)
        assert page.inner_text(f"#{section} output") == rested


def test_a_battle_is_told_to_its_end(chromium, page_file):
    with Visit(chromium, page_file, viewport=DESK) as visit:
        visit.slide("battle", 4)
        assert "Team 2 of 2, enemy 0 of 2 · battle won" in visit.page.inner_text("#battle .readout")
        visit.page.query_selector("#battle select").select_option("1")
        visit.slide("battle", 4)
        assert "battle lost" in visit.page.inner_text("#battle .readout")


def test_a_year_is_stepped_through_week_by_week(chromium, page_file):
    with Visit(chromium, page_file, viewport=DESK) as visit:
        visit.slide("supply", 3)
        assert visit.page.inner_text("#supply output") == "week 4"
        label = visit.page.locator("#supply .label").first
        assert (
            "on hand 3 (blue), owes 0 (orange); orders 4 (green), asked for 3 (grey), bullwhip 1.5"
            in label.inner_text()
        )
        assert visit.page.locator("#supply .policy").count() == 2


def test_a_log_is_stepped_through(chromium, page_file):
    """Agents and episodes can be chosen, and flags are said where they were raised."""
    with Visit(chromium, page_file) as visit:
        own = visit.page.locator("#loop .flags .label").first
        assert visit.page.inner_text("#loop output") == "step 0 · 00:00:00"
        assert own.inner_text() == "left: \N{MINUS SIGN}1 · nan of sun, fallback"
        visit.slide("loop", 3)
        assert visit.page.inner_text("#loop output") == "step 3 · 00:15:00"
        assert own.inner_text() == "left: 1"
        assert visit.page.locator("#loop .flags .label").nth(1).inner_text() == "right: has left"
        assert "score 0.5" in visit.page.inner_text("#loop .readout")
        assert "zone temperature 23 C" in visit.page.inner_text("#loop")
        visit.page.select_option("#loop select >> nth=1", "1")
        assert "right: action of pi" in visit.page.inner_text("#loop")
        visit.page.select_option("#loop select >> nth=0", "1")
        assert visit.page.inner_text("#loop output") == "step 0 · 00:00:00"
        visit.slide("loop", 1)
        assert "broken off here" in visit.page.inner_text("#loop .readout")


def test_a_phone_needs_no_sideways_scrolling(chromium, page_file):
    with Visit(chromium, page_file, viewport=PHONE) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert visit.page.locator("pre").bounding_box()["width"] < PHONE["width"]
        table, figure = visit.page.query_selector_all("#numbers .scroll")
        for wide in (table, figure):  # each scrolls by itself, and the cursor keys reach it
            assert wide.get_attribute("tabindex") == "0"
            assert "gradient" in wide.evaluate("e => getComputedStyle(e).backgroundImage")
        assert table.evaluate("e => e.scrollWidth > e.clientWidth")
        smallest = "e => Math.min(...[...e.querySelectorAll('text')].map(t => t.getBoundingClientRect().height))"
        assert figure.evaluate(smallest) >= 9


def test_light_and_dark(chromium, page_file):
    seen = {}
    for scheme in ("light", "dark"):
        with Visit(chromium, page_file, viewport=DESK, color_scheme=scheme) as visit:
            ink = visit.page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
            seen[scheme] = visit.background(), ink
    assert seen["light"][0] != seen["dark"][0]
    assert seen["light"][1] != seen["dark"][1]


def test_print_hides_the_controls_and_keeps_a_still(chromium, page_file):
    with Visit(chromium, page_file, viewport=DESK, color_scheme="dark") as visit:
        visit.page.emulate_media(media="print")
        assert not visit.page.locator("#day input[type=range]").is_visible()
        assert not visit.page.locator("#day select").first.is_visible()
        assert visit.page.locator("#day .room").first.is_visible()
        assert visit.page.locator("#day output").inner_text().startswith("06:00")
        assert visit.background() == "rgb(255, 255, 255)"  # paper is white, whatever the screen
        assert visit.page.pdf(format="A4").startswith(b"%PDF")


@pytest.fixture(scope="module")
def study_page(tmp_path_factory):
    """The page of `drigm reproduce paper`, of invented scores."""
    folder = tmp_path_factory.mktemp("study")
    return write_outcome(folder, "paper", invented_study(), None).page


@pytest.mark.parametrize("viewport", [DESK, PHONE])
@pytest.mark.slow
def test_the_papers_page_opens_whole(chromium, study_page, viewport):
    with Visit(chromium, study_page, viewport=viewport) as visit:
        page = visit.page
        sections = page.eval_on_selector_all("section", "all => all.map(s => s.id)")
        buildings = ["summary", "paper", "environments", "verdicts-buildings", "sets", "season", "statistics-buildings"]
        asked = [*buildings, "radii-qmix", "battles", "verdicts-battles", "statistics-battles", "timing"]
        assert sections == asked
        for link in page.query_selector_all("nav a"):
            assert page.locator(link.get_attribute("href")).count() == 1
        # 3 factorizations, 4 methods, 2 cities: every number of the paper's table has its row.
        assert page.locator("#paper table").first.locator("tbody tr").count() == 24
        for name in ("environments", "statistics-buildings", "radii-qmix", "battles", "statistics-battles"):
            box = page.locator(f"#{name} svg[role=img]").first.bounding_box()
            assert min(box["width"], box["height"]) > 100
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
