"""What a radius costs at home and gains elsewhere, point by point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from drigm.evaluation.statistics import Interval
from drigm.report.figures.curves import WIDTH, Band, draw_band, keys
from drigm.report.figures.style import FAINT_INK, INK, drawing, legend_above, wrapped


def gain_curves(
    curves: Mapping[str, Sequence[Interval]], points: Sequence[str], *, chosen: int, budget: float, title: str
) -> Figure:
    """Draw what every point gains over the first, in percent, with intervals over seeds.

    Args:
        curves: of every point the gain as a share, by where that is; a price is a gain below 0.
        points: their names, in order.
        chosen: the place of the one that is marked.
        budget: the share by which a point may be worse at home: a line.
        title: what one sees.
    """
    with drawing(WIDTH, 3.7) as figure:
        ax = figure.add_subplot()
        ax.axhline(0.0, color=FAINT_INK, linewidth=0.8)
        ax.axhline(-100 * budget, color=INK, linewidth=1.0, linestyle=(0, (4, 3)))
        ax.axvline(chosen, color=INK, linewidth=6, alpha=0.12)
        places = range(len(points))
        for i, gains in enumerate(curves.values()):
            percent = [Interval(*(100 * x for x in gain)) for gain in gains]
            draw_band(ax, Band(places, percent), i, marker="o")
        longest = max(map(len, points))
        ax.set_xticks(list(places), points, **({"rotation": 40, "ha": "right"} if longest * len(points) > 80 else {}))
        ax.set_xlim(-0.4, len(points) - 0.6)
        ax.set_ylabel("Gain over the non-robust team (%)")
        ax.set_xlabel(f"Shaded: chosen. Dashed: the budget at home, {100 * budget:g} %", fontsize=8, loc="left")
        figure.suptitle(wrapped(title, WIDTH, 10), x=0.01, ha="left", fontsize=10)
        legend_above(figure, ax, keys(len(curves)), list(curves))
    return figure
