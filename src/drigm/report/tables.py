"""Tables of results as text: ruled or aligned for a terminal, Markdown for a page."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, SupportsFloat, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from drigm.evaluation.scores import ShiftScore
from drigm.runtime.files import write_text

Row = Mapping[str, object]
Columns = Sequence[str] | Mapping[str, str] | None

MISSING = "-"


class Score(NamedTuple):
    """A mean over seeds with its standard error, nan for a single seed."""

    mean: float
    se: float = math.nan

    def __str__(self) -> str:
        """Return ``0.936 ± 0.003``, without the ``±`` part for a single seed."""
        return _number(self.mean) if math.isnan(self.se) else f"{self.mean:.3f} ± {self.se:.3f}"


def scores_by_world(scores: Iterable[ShiftScore]) -> dict[str, Score]:
    """Return the cells of a row: one seed has no standard error."""
    return {s.name: Score(s.mean, s.se) if len(s.per_seed) > 1 else Score(s.mean) for s in scores}


def format_table(rows: Sequence[Row], columns: Columns = None, *, title: str = "", stream: TextIO | None = None) -> str:
    """Return ``rows`` as a table for ``stream`` (default: standard output), without a newline at its end.

    A terminal gets a rule and bold headings; anything else gets plain columns two spaces apart, which a diff
    and `awk` can read. Columns of numbers stand right-aligned.

    Args:
        rows: one mapping per row; a missing or ``None`` cell reads ``-``.
        columns: the keys to show, in order, or a mapping from key to heading; by default every key of the rows.
        title: a line above the table.
        stream: where the text will be printed.
    """
    out: TextIO = sys.stdout if stream is None else stream
    headings, cells, right = layout(rows, columns)
    if _is_terminal(out):
        text = _ruled(headings, cells, right, out)
    else:
        widths = _widths(headings, cells)
        text = "\n".join("  ".join(_pad(line, widths, right)).rstrip() for line in [headings, *cells])
    return _encodable(f"{title}\n{text}" if title else text, out)


def markdown_table(rows: Sequence[Row], columns: Columns = None) -> str:
    """Return ``rows`` as a Markdown table, padded so that its source reads well too; arguments as `format_table`."""
    headings, cells, right = layout(rows, columns)
    headings, *cells = [[cell.replace("|", r"\|") for cell in line] for line in [headings, *cells]]
    widths = [max(3, width) for width in _widths(headings, cells)]
    rule = ["-" * (width - 1) + (":" if r else "-") for width, r in zip(widths, right, strict=True)]
    return "\n".join(f"| {' | '.join(_pad(line, widths, right))} |" for line in [headings, rule, *cells])


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write ``rows`` as CSV; `drigm.runtime.files.FileError` where that cannot be."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    write_text(path, text.getvalue().removesuffix("\n"))


def layout(rows: Sequence[Row], columns: Columns = None) -> tuple[list[str], list[list[str]], list[bool]]:
    """Return headings, cells as text, and which columns hold numbers only (and so stand right-aligned)."""
    if columns is None:
        columns = list(dict.fromkeys(key for row in rows for key in row))
    headings = dict(columns) if isinstance(columns, Mapping) else {key: key for key in columns}
    cells = [[_cell(row.get(key)) for key in headings] for row in rows]
    right = [all(_is_number(row[key]) for row in rows if row.get(key) is not None) for key in headings]
    return list(headings.values()), cells, right


def _is_number(value: object) -> bool:
    return isinstance(value, Score) or (isinstance(value, SupportsFloat) and not isinstance(value, bool))


def _cell(value: object) -> str:
    if value is None:
        return MISSING
    if isinstance(value, Score | int) or not _is_number(value):
        return value if isinstance(value, str) else str(value)  # as it is: a page marks its own texts by their type
    return _number(float(value))  # pyright: ignore[reportArgumentType]  (a float, or a scalar of NumPy or JAX)


def _number(x: float) -> str:
    """Return ``x`` with three decimals while it is small: a score keeps its third decimal, a return needs none."""
    if math.isnan(x):
        return MISSING
    return f"{x:.3f}" if abs(x) < 100 else f"{x:.1f}" if abs(x) < 10_000 else f"{x:.0f}"


def _widths(headings: list[str], cells: list[list[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(headings, *cells, strict=True)]


def _pad(line: list[str], widths: list[int], right: list[bool]) -> list[str]:
    return [cell.rjust(width) if r else cell.ljust(width) for cell, width, r in zip(line, widths, right, strict=True)]


def _is_terminal(stream: TextIO) -> bool:
    # Not left to rich alone: it takes a log file for a terminal where FORCE_COLOR is set, as on many CI machines.
    return stream.isatty() and not Console(file=stream).is_dumb_terminal


def _ruled(headings: list[str], cells: list[list[str]], right: list[bool], stream: TextIO) -> str:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading, r in zip(headings, right, strict=True):
        table.add_column(Text(heading), justify="right" if r else "left")
    for line in cells:
        table.add_row(*map(Text, line))  # Text, so that brackets in a cell are not read as markup
    console = Console(file=stream, force_terminal=True)
    with console.capture() as capture:
        console.print(table)
    return capture.get().strip("\n")


def _encodable(text: str, stream: TextIO) -> str:
    """Return ``text`` such that ``stream`` can print it: a C locale has no ``±``."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.replace("±", "+-").encode(encoding, errors="replace").decode(encoding)
    return text
