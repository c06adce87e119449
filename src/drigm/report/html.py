"""One self-contained HTML page out of sections: styles, scripts, figures and data are all inside, nothing is fetched.

::

    sections = [Section("Scores", "scores", table_html(rows) + figure_html(figure, "what one sees", "what it means"))]
    write_page(path, "Title", "One sentence.", sections)
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from drigm.core.errors import UserError
from drigm.evaluation.statistics import Interval
from drigm.report.tables import MISSING, Columns, Row, layout
from drigm.runtime.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What a page may load: nothing but what it brings along.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_NUMBER = re.compile(r'(<span class="value">)?[+\N{MINUS SIGN}-]?\d')
_HYPHEN = re.compile(r"(?<![\w.)\]=:,-])-(?=\d)")
_NEGATIVE_ZERO = re.compile(r"\N{MINUS SIGN}(?=0\.0+(?!\d))")


class Html(str):
    """Text that is markup already; every other text is escaped."""


class Section(NamedTuple):
    """A part of a page.

    ``body`` is HTML. ``figures`` are those within it, by the file name that `save_figures` gives them. ``scripts`` are
    files of ``data/report`` that the body needs, each put into the page once.
    """

    title: str
    id: str
    body: str
    figures: Mapping[str, Figure] = {}
    scripts: tuple[str, ...] = ()


def write_page(path: str | Path, title: str, lead: str, sections: Sequence[Section], command: str = "") -> Path:
    """Write one page that opens offline, with a table of contents, and return its path.

    Args:
        path: the file; its folder is made if needed.
        title: plain text.
        lead: what the page says, in a sentence or two; plain text or `Html`.
        sections: in the order in which they are shown; their ids must differ.
        command: that makes this page, said at its foot.

    Raises:
        UserError: two sections have the same id, or the file cannot be written.
    """
    path = Path(path)
    twice = [s.id for i, s in enumerate(sections) if s.id in {other.id for other in sections[:i]}]
    if twice:
        raise UserError(f"section: {twice[0]!r} is the id of two sections; give each its own.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, _page(title, lead, sections, command))
    except OSError as error:
        raise UserError(f"page: {str(path)!r} cannot be written ({error.strerror}).") from None
    return path


def save_figures(sections: Iterable[Section], folder: str | Path) -> list[Path]:
    """Write every figure of the sections into ``folder``, each as SVG and as PNG; return the files."""
    from drigm.report.figures.style import save

    named = [(f"{section.id}-{name}", f) for section in sections for name, f in section.figures.items()]
    try:
        return [save(figure, Path(folder) / f"{name}{end}") for name, figure in named for end in (".svg", ".png")]
    except OSError as error:
        raise UserError(f"figures: {str(folder)!r} cannot be written to ({error.strerror}).") from None


def escape(text: object) -> Html:
    """Return ``text`` as HTML, with true minus signs; `Html` stays what it is."""
    return text if isinstance(text, Html) else Html(html.escape(signed(str(text))))


def signed(text: str) -> str:
    """Return ``text`` with minus signs for hyphens before numbers, and no sign before a zero to three decimals.

    What can be typed again stays as it is: names such as ``QMIX-2``, and settings such as ``gains=-0.1:0.1``.
    """
    return _NEGATIVE_ZERO.sub("", _HYPHEN.sub("\N{MINUS SIGN}", text))


def paragraph(*sentences: object) -> Html:
    """Return the sentences as one paragraph."""
    return Html(f"<p>{' '.join(map(escape, sentences))}</p>")


def figure_html(figure: Figure, alt: str, caption: object = "") -> Html:
    """Return a figure as inline SVG in the page's colours, light or dark, with its alternative text and a caption."""
    from drigm.report.figures.svg import inline_svg  # matplotlib takes a while to load

    note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return Html(f'<figure><div class="scroll" tabindex="0">{inline_svg(figure, alt)}</div>{note}</figure>')


def table_html(rows: Sequence[Row], columns: Columns = None, caption: object = "") -> Html:
    """Return a table; rows and columns as `drigm.report.tables.format_table`, cells may be `Html` or `Interval`.

    The first column names the row. On a narrow screen the table scrolls, the page does not.
    """
    headings, cells, _ = layout([_shown(row) for row in rows], columns)
    align = [
        ' class="number"' if i and _is_numbers(column) else "" for i, column in enumerate(zip(*cells, strict=True))
    ]
    align = align or [""] * len(headings)
    head = "".join(f'<th scope="col"{a}>{escape(cell)}</th>' for cell, a in zip(headings, align, strict=True))
    body = "".join(_table_row(line, align) for line in cells)
    note = f"<caption>{escape(caption)}</caption>" if caption else ""
    dense = ' class="dense"' if len(headings) > 6 else ""
    inside = f"<table{dense}>{note}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return Html(f'<div class="scroll" tabindex="0">{inside}</div>')


def interval_html(interval: Interval, digits: int = 3) -> Html:
    """Return ``0.936 [0.931, 0.940]``, without the brackets where one seed allows no interval."""
    estimate, low, high = (signed(f"{x:.{digits}f}") for x in interval)
    ends = "" if interval.low != interval.low else f' <span class="ends">[{low}, {high}]</span>'  # nan: no interval
    return Html(f'<span class="value">{estimate}</span>{ends}')


def data_html(name: str, data: Any) -> Html:
    """Return ``data`` as JSON that a script of the page finds under the id ``name``."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", r"\u003c")
    return Html(f'<script type="application/json" id="{html.escape(name)}">{text}</script>')


def slug(text: str) -> str:
    """Return ``text`` as an id: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "part"


def _page(title: str, lead: str, sections: Sequence[Section], command: str) -> str:
    links = "".join(f'<a href="#{escape(s.id)}">{escape(s.title)}</a>' for s in sections)
    body = "\n".join(_section(s) for s in sections)
    scripts = dict.fromkeys(name for s in sections for name in s.scripts)
    breakable = re.sub("([/:])", r"\1<wbr>", escape(title))
    made = f" with <code>{html.escape(command)}</code>" if command else ""
    code = "\n".join(f"<script>\n{_asset(name)}</script>" for name in scripts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{_asset("page.css")}</style>
</head>
<body>
<header><h1>{breakable}</h1><p class="lead">{escape(lead)}</p><nav aria-label="Contents">{links}</nav></header>
<main>
{body}
</main>
<footer>Made by drigm{made}. This file holds everything it shows.</footer>
{code}
</body>
</html>"""


def _section(section: Section) -> str:
    heading = f"<h2>{escape(section.title)}</h2>"
    return f'<section id="{escape(section.id)}">\n{heading}\n{section.body}\n</section>'


def _asset(name: str) -> str:
    return (resources.files("drigm.report") / "assets" / name).read_text(encoding="utf-8")


def _shown(row: Row) -> Row:
    return {key: interval_html(cell) if isinstance(cell, Interval) else cell for key, cell in row.items()}


def _is_numbers(cells: Sequence[str]) -> bool:
    """Whether a column holds numbers alone, with what belongs to them behind, such as an interval or a unit."""
    found = [cell for cell in cells if cell != MISSING]
    return bool(found) and all(map(_NUMBER.match, found))


def _table_row(cells: Sequence[object], align: Sequence[str]) -> str:
    first, *rest = cells
    others = "".join(f"<td{a}>{escape(cell)}</td>" for cell, a in zip(rest, align[1:], strict=True))
    return f'<tr><th scope="row">{escape(first)}</th>{others}</tr>'
