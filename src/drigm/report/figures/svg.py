"""Matplotlib figures as SVG inside a page: text stays text, colours follow the page's light or dark scheme."""

from __future__ import annotations

import hashlib
import html
import io
import re

from matplotlib.figure import Figure

from drigm.report.figures.style import FAINT_INK, INK, ON_DARK, PALETTE, RULE, write_svg

# The colours of `style` by the names that page.css gives them.
_NAMES = {INK: "ink", FAINT_INK: "faint", RULE: "rule", ON_DARK: "on"} | {
    color: f"c{i}" for i, color in enumerate(PALETTE)
}
PIXELS = 115  # per inch, of a screen wide enough; figures are drawn for 72 to 96
LEAST = 0.72  # of that, on any screen: the smallest letters stay at about 9 pixels, and the figure scrolls
_COLORS = re.compile("|".join(_NAMES), re.IGNORECASE)
_BY_HEX = {color.lower(): f"var(--{name})" for color, name in _NAMES.items()}


def inline_svg(figure: Figure, alt: str) -> str:
    """Return ``figure`` as an SVG element without background, named ``alt`` to those who cannot see it."""
    text = io.StringIO()
    write_svg(figure, text)
    drawing = text.getvalue()
    drawing = re.sub(r"\s*<metadata>.*?</metadata>", "", drawing[drawing.index("<svg") :], flags=re.DOTALL)
    drawing = _COLORS.sub(lambda found: _BY_HEX[found[0].lower()], drawing)
    drawing = _own_ids(drawing)
    width, height = (inches * PIXELS for inches in figure.get_size_inches())
    box = re.search(r'viewBox="[^"]*"', drawing)
    start = f'<svg {box[0] if box else ""} role="img" aria-label="{html.escape(alt)}"'
    start += f' style="width:{width:.0f}px;min-width:{width * LEAST:.0f}px;aspect-ratio:{width:.0f}/{height:.0f}"'
    start += ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return start + drawing[drawing.index(">") + 1 :].strip()


def _own_ids(drawing: str) -> str:
    """Ids are shared by a whole page, and matplotlib's begin at figure_1 in every drawing."""
    mine = "f" + hashlib.sha1(drawing.encode(), usedforsecurity=False).hexdigest()[:8]
    drawing = re.sub(r'\bid="', f'id="{mine}-', drawing)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{mine}-", drawing)
