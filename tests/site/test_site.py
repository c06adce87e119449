"""The documentation site: it builds strictly, and every page is whole in a browser, wide and narrow, light and dark."""

from __future__ import annotations

import functools
import http.server
import os
import re
import threading
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.slow
DESK, PHONE = 1300, 390
LEAST_PAGES = 50


def missing(what: str) -> None:
    """Skip; on a machine that tests every commit it must be there."""
    said = f"needs {what}: apt-get install chromium, pip install 'drigm[docs,test]'"
    pytest.fail(said) if os.environ.get("CI") == "true" else pytest.skip(said)


@pytest.fixture(scope="module")
def site():
    """The folder of the built site."""
    try:
        import zensical  # noqa: F401
    except ImportError:
        missing("zensical")
    from tools.site.__main__ import HTML, main

    assert main() == 0
    return HTML


class Page(NamedTuple):
    """What a page has and where it leads."""

    ids: set[str]
    links: list[str]


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.page = Page(set(), [])

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.page.ids.add(value)
            if value and ((tag == "a" and name == "href") or (tag in ("img", "script") and name == "src")):
                self.page.links.append(value)


def read(file: Path) -> Page:
    reader = _Reader()
    reader.feed(file.read_text(encoding="utf-8"))
    return reader.page


def broken_links(folder: Path) -> list[str]:
    """A line for every link within the site that leads nowhere."""
    pages = {file.relative_to(folder): read(file) for file in folder.rglob("index.html")}
    wrong = []
    for file, page in pages.items():
        here = urllib.parse.urljoin("http://site/", file.parent.as_posix().strip(".") + "/").replace("site//", "site/")
        for link in page.links:
            url = urllib.parse.urlsplit(urllib.parse.urljoin(here, link))
            if url.netloc != "site" or url.scheme != "http":
                continue
            target = Path(urllib.parse.unquote(url.path).lstrip("/"))
            target = target / "index.html" if url.path.endswith("/") else target
            if not (folder / target).is_file():
                wrong.append(f"{file}: {link}")
            elif url.fragment and target in pages and urllib.parse.unquote(url.fragment) not in pages[target].ids:
                wrong.append(f"{file}: {link} (no such heading)")
    return wrong


def test_every_link_leads_somewhere(site):
    assert len(list(site.rglob("index.html"))) > LEAST_PAGES
    assert broken_links(site) == []


def test_the_check_sees_a_broken_link(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "index.html").write_text('<a href="a/#there">x</a><a href="a/#not">x</a><a href="b/">x</a>')
    (tmp_path / "a" / "index.html").write_text('<h1 id="there">x</h1><a href="..">x</a><img src="none.png">')
    found = broken_links(tmp_path)
    assert found == ["index.html: a/#not (no such heading)", "index.html: b/", "a/index.html: none.png"]


def test_the_references_are_those_of_the_program(site):
    import drigm
    from drigm.core.config import FIELDS

    python = read(site / "reference" / "python" / "index.html").ids
    for name in drigm.__all__:
        assert any(one == f"drigm.{name}" or one.endswith(f".{name}") for one in python), name
    settings = (site / "reference" / "settings" / "index.html").read_text()
    assert [name for name in FIELDS if f"<code>{name}</code>" not in settings] == []
    commands = read(site / "reference" / "command-line" / "index.html").ids
    assert {"drigm-train", "drigm-evaluate", "drigm-report", "drigm-list", "drigm-sweep", "drigm-tune"} <= commands


@pytest.fixture(scope="module")
def served(site):
    """The site's address: a server on this machine, as a page from a file may not search."""
    handler = functools.partial(Silent, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Silent(http.server.SimpleHTTPRequestHandler):
    """A server that says nothing on standard error."""

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_whole_in_a_browser(site, served, chromium, scheme):
    trouble: list[str] = []
    at = ["the first page"]

    def note(what: str) -> None:
        trouble.append(f"{at[0]}: {what}")

    with chromium.new_context(color_scheme=scheme) as context:
        page = context.new_page()
        page.on("console", lambda said: note(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: note(str(error)))
        ours = (served, "data:", "blob:")
        page.on("request", lambda asked: None if asked.url.startswith(ours) else note(f"asks for {asked.url}"))
        for file in sorted(site.rglob("index.html")):
            at[0] = file.relative_to(site).parent.as_posix()
            page.goto(f"{served}/{'' if at[0] == '.' else at[0] + '/'}")
            for width in (DESK, PHONE):
                page.set_viewport_size({"width": width, "height": 900})
                wide = page.evaluate("document.documentElement.scrollWidth")
                if wide > width:
                    note(f"{wide} pixels wide at {width}")
            if (brightness(page) > 128) != (scheme == "light"):
                note(f"not {scheme}")
            unseen = "[...document.images].filter(i => i.complete && i.naturalWidth === 0).map(i => i.src)"
            trouble += [f"{at[0]}: no picture {source}" for source in page.evaluate(unseen)]
    assert trouble == []


def brightness(page) -> float:
    """The mean of red, green and blue of the page's ground, from 0 to 255."""
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(float, re.findall(r"[\d.]+", color)[:3])) / 3


def test_the_search_finds_a_page(served, chromium):
    page = chromium.new_page()
    page.goto(served)
    page.locator("text=Search >> visible=true").first.click()
    page.wait_for_selector("input:focus")
    page.keyboard.type("radius")
    page.wait_for_selector("text=Choosing a radius >> visible=true")
    page.close()
