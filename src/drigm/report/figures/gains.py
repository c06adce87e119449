"""Gains over controls as intervals around zero: the picture of whether robustness pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from drigm.evaluation.statistics import Interval
from drigm.report.figures.dots import NARROW
from drigm.report.figures.style import INK, color, drawing, wrapped

LINE = 0.22  # inches for each interval


class Gain(NamedTuple):
    """A method of a domain, and what it gains over each control."""

    domain: str
    method: str
    over: Mapping[str, Interval]


def gain_rows(gains: Sequence[Gain], *, title: str) -> Figure:
    """Draw the gains of every method, an interval for each control, domains one below the other with their own axis.

    Args:
        gains: in the order in which they are shown; those of a domain follow each other.
        title: what one sees.
    """
    domains = list(dict.fromkeys(gain.domain for gain in gains))
    controls = list(dict.fromkeys(name for gain in gains for name in gain.over))
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
