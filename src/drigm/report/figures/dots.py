"""Rows as dots with their intervals: beside what was predicted of them, or at home beside the worst world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from drigm.evaluation.statistics import Interval
from drigm.report.figures.style import FAINT_INK, INK, RULE, color, drawing, wrapped

NARROW = 4.4  # inches: a phone shows all of it at once, with letters that can be read


class Dot(NamedTuple):
    """A row: its score, the interval of it, and the range that was predicted; nan where there is none."""

    label: str
    score: float
    low: float = float("nan")
    high: float = float("nan")
    predicted: tuple[float, float] | None = None
    learnt: bool = True


def dot_rows(rows: Sequence[Dot], *, reference: tuple[str, float], floor: float, title: str, axis: str) -> Figure:
    """Draw each row's score as a dot with its interval on top of the predicted range, best first.

    Args:
        rows: in any order.
        reference: a name and a score that a line marks.
        floor: where the axis begins; rows below it are written at the edge.
        title: what one sees.
        axis: of the scores.
    """
    rows = sorted(rows, key=lambda row: row.score, reverse=True)
    longest = max(len(row.label) for row in rows)
    with drawing(3.6 + 0.07 * longest, 1.1 + 0.27 * len(rows)) as figure:
        ax = figure.add_subplot()
        name, at = reference
        ax.axvline(at, color=INK, linewidth=1.0, linestyle=(0, (4, 3)))
        top = max(at, *(np.nanmax([row.score, row.high]) for row in rows))
        ax.set_xlim(floor, top + 0.02 * (top - floor))
        for y, row in enumerate(rows):
            fill = color(0 if row.learnt else 7)
            if row.predicted is not None:
                low, high = np.maximum(row.predicted, floor)
                ax.plot([low, high], [y, y], color=RULE, linewidth=7, solid_capstyle="butt", zorder=1)
            if row.score < floor:
                text = f"{row.score:.2f}".replace("-", "\N{MINUS SIGN}")
                at_edge = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
                ax.annotate(text, (floor, y), color=fill, **at_edge)
                continue
            if not np.isnan(row.low):
                ax.plot([max(row.low, floor), row.high], [y, y], color=fill, linewidth=1.6, zorder=2)
            ax.plot([row.score], [y], "o", color=fill, markersize=5, zorder=3)
        ax.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=8.5)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.grid(True, axis="x")
        ax.grid(False, axis="y")
        label = f"{axis}. Line: {name}, {at:.3f}. Grey: predicted before deployment."
        ax.set_xlabel(label, fontsize=8, loc="left", color=FAINT_INK)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


class Held(NamedTuple):
    """A row: its score where nothing shifts and in its worst world; ends are nan where there is no interval."""

    label: str
    home: Interval
    worst: Interval
    learnt: bool = True


def held_rows(rows: Sequence[Held], *, title: str, axis: str) -> Figure:
    """Draw each row's score at home (hollow) and in its worst world (filled) with their intervals, labels above.

    Args:
        rows: in the order in which they are shown.
        title: what one sees.
        axis: of the scores.
    """
    with drawing(NARROW, 1.25 + 0.42 * len(rows)) as figure:
        ax = figure.add_subplot()
        for y, row in enumerate(rows):
            fill = color(0 if row.learnt else 7)
            ax.plot([row.worst.estimate, row.home.estimate], [y, y], color=RULE, linewidth=5, zorder=1)
            for place, face in ((row.worst, fill), (row.home, "white")):
                if not np.isnan(place.low):
                    ax.plot([place.low, place.high], [y, y], color=fill, linewidth=1.4, zorder=2)
                ax.plot([place.estimate], [y], "o", color=fill, markerfacecolor=face, markersize=5.5, zorder=3)
            ax.annotate(
                row.label, (0, y), (0, 5), xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=9
            )
        ax.set_yticks([])
        ax.set_ylim(len(rows) - 0.6, -0.8)
        ax.spines["left"].set_visible(False)
        ax.grid(True, axis="x")
        ax.set_xlabel(wrapped(f"{axis}. Filled: worst world; hollow: where nothing shifts", NARROW, 9), loc="left")
        figure.suptitle(wrapped(title, NARROW, 10), x=0.01, ha="left", fontsize=10)
    return figure
