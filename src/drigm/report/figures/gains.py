"""Gains over controls as intervals around zero: the picture of whether robustness pays."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from drigm.evaluation.statistics import Interval, verdict
from drigm.report.figures.dots import NARROW
from drigm.report.figures.style import INK, ON_DARK, ON_LIGHT, PALETTE, color, drawing, wrapped

LINE = 0.22  # inches for each interval
ROW = 0.24  # and for each row of the grid


class Gain(NamedTuple):
    """A method of a domain, what it gains over each control, and what is said of it beside the grid."""

    domain: str
    method: str
    over: Mapping[str, Interval]
    seeds: int
    said: str = ""

    def verdict(self, control: str) -> str:
        """Return ``gains`` or ``loses`` where that is clear; else ``no clear difference`` or ``too few seeds``."""
        clear = {"better": "gains", "worse": "loses", "one seed": "too few seeds"}
        word = verdict(self.over[control], 0.0, self.seeds)
        return clear.get(word, word)


VERDICTS: dict[str, dict[str, Any]] = {
    "gains": {"color": PALETTE[0]},
    "no clear difference": {"color": "#D9D9D9"},
    "loses": {"color": PALETTE[1]},
    "too few seeds": {"facecolor": "white", "edgecolor": "#B0B0B0", "hatch": "////", "linewidth": 0.0},
}


def verdict_grid(gains: Sequence[Gain], *, title: str) -> Figure:
    """Draw a row for every method and a column for every control, filled by whether it gains over it or loses.

    Args:
        gains: in the order in which they are shown; those of a domain follow each other.
        title: what one sees.
    """
    domains, controls = _domains(gains), _controls(gains)
    lines = list[str | Gain]()  # every domain's title, in as many as it needs, and its methods
    for domain in domains:
        lines += [*textwrap.wrap(domain, 60), *(gain for gain in gains if gain.domain == domain)]
    with drawing(NARROW, 1.15 + ROW * len(lines)) as figure:
        ax, left = figure.subplots(), len(controls) + 0.3
        for y, line in enumerate(lines):
            if isinstance(line, str):
                ax.text(0.04, y, line, fontsize=8.5, fontweight="bold", va="center")
                continue
            for name, gain in line.over.items():
                k, word = controls.index(name), line.verdict(name)
                ax.add_patch(Rectangle((k + 0.04, y - 0.44), 0.92, 0.88, **VERDICTS[word]))
                ink = ON_DARK if word in ("gains", "loses") else ON_LIGHT
                ax.text(k + 0.5, y, f"{gain.estimate:+.3f}", fontsize=7, ha="center", va="center", color=ink)
            ax.text(left, y, line.method + (f": {line.said}" if line.said else ""), fontsize=8.5, va="center")
        ax.set_xlim(0, left + 3.6)
        ax.set_ylim(len(lines) - 0.4, -0.7)
        heads = ["\n".join(textwrap.wrap(c, 9, break_long_words=False, break_on_hyphens=False)) for c in controls]
        ax.set_xticks([k + 0.5 for k in range(len(controls))], heads)
        ax.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, labelsize=7, length=0)
        ax.set_yticks([])
        ax.grid(False)
        for spine in ax.spines.values():
            spine.set_visible(False)
        marks = [Rectangle((0, 0), 1, 1, label=name, **look) for name, look in VERDICTS.items()]
        figure.legend(handles=marks, loc="outside lower left", ncols=2, fontsize=8)
        figure.suptitle(wrapped(title, NARROW, 10), x=0.01, ha="left", fontsize=10)
    return figure


def gain_rows(gains: Sequence[Gain], *, title: str) -> Figure:
    """Draw the gains of every method, an interval for each control, domains one below the other with their own axis.

    Args:
        gains: in the order in which they are shown; those of a domain follow each other.
        title: what one sees.
    """
    domains, controls = _domains(gains), _controls(gains)
    heights = [0.75 + sum(LINE * (len(g.over) + 1.2) for g in gains if g.domain == domain) for domain in domains]
    at = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "fontsize": 9}
    with drawing(NARROW, 1.0 + sum(heights)) as figure:
        axes = figure.subplots(len(domains), 1, squeeze=False, height_ratios=heights)[:, 0]
        for ax, domain in zip(axes, domains, strict=True):
            y, mine = 0.0, [gain for gain in gains if gain.domain == domain]
            ax.axvline(0.0, color=INK, linewidth=1.0)
            for gain in mine:
                ax.annotate(gain.method, (0, y), (2, -2), **at)
                for name, interval in gain.over.items():
                    y, hue = y + 1.0, color(controls.index(name))
                    if not np.isnan(interval.low):
                        ax.plot([interval.low, interval.high], [y, y], color=hue, linewidth=2.0)
                    ax.plot([interval.estimate], [y], "o", color=hue, markersize=4.5)
                y += 1.2
            ax.set_ylim(y - 0.4, -0.9)
            ax.set_yticks([])
            ax.spines["left"].set_visible(False)
            ax.grid(True, axis="x")
            ax.locator_params(axis="x", nbins=5)
            ax.set_title(wrapped(domain, NARROW, 10), fontsize=9.5, fontweight="bold")
        axes[-1].set_xlabel("Gain in score; right of zero the robust team is better", loc="left")
        marks = [axes[0].plot([], [], "o-", color=color(i), label=name)[0] for i, name in enumerate(controls)]
        figure.legend(handles=marks, loc="outside lower left", ncols=1, fontsize=8.5)
        figure.suptitle(wrapped(title, NARROW, 10), x=0.01, ha="left", fontsize=10)
    return figure


def _domains(gains: Sequence[Gain]) -> list[str]:
    return list(dict.fromkeys(gain.domain for gain in gains))


def _controls(gains: Sequence[Gain]) -> list[str]:
    return list(dict.fromkeys(name for gain in gains for name in gain.over))
