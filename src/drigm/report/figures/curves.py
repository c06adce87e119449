"""Figures of a report with intervals: learning curves, scores by world, scores by radius."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from drigm.core.naming import spaced
from drigm.evaluation.statistics import VERDICT_SEEDS, Interval, probability_of_improvement, verdict
from drigm.report.figures.charts import step_label
from drigm.report.figures.style import FAINT_INK, PALETTE, color, drawing, label_ends, legend_above, wrapped

WIDTH = 6.4  # inches, so that text keeps a readable size where a page scales it to a phone


def leaders(
    summaries: Mapping[str, Interval],
    where: str,
    seeds: int | None = None,
    scores: Mapping[str, np.ndarray] | None = None,
) -> str:
    """Return who is ahead ``where``, as a title, and how many are not clearly below.

    Args:
        summaries: the score of each method.
        where: as the title says it.
        seeds: of the method that has fewest, if known: too few leave it open who is best.
        scores: [K] of each method's seeds: clearly below is then what the verdicts of a table call worse, by the
            probability of improvement; without them, whose interval does not overlap.
    """

    def below(name: str, other: Interval) -> bool:
        if scores is None:
            return best.low > other.high
        return verdict(probability_of_improvement(scores[label], scores[name])) == "better"

    (label, best), *others = sorted(summaries.items(), key=lambda item: -item[1].estimate)
    if not others:
        return f"{label}: {best.estimate:.3f} {where}"
    level = [name for name, i in others if i.estimate == best.estimate]
    if level:
        return f"{len(level) + 1} methods are level {where}, at {best.estimate:.3f}"
    if math.isnan(best.low):
        return f"{label} is highest {where}, at {best.estimate:.3f} (one seed: no interval)"
    if seeds is not None and seeds < VERDICT_SEEDS:
        return f"{label} is highest {where}, at {best.estimate:.3f} (too few seeds for a verdict)"
    near = [name for name, i in others if not below(name, i)]  # also where a single seed has no interval
    if not near:
        return f"{label} is best {where}, at {best.estimate:.3f}"
    reached = f"{near[0]} is" if len(near) == 1 else f"{len(near)} others are"
    return f"{label} is highest {where}, at {best.estimate:.3f}; {reached} not clearly below"


def world_name(world: str) -> str:
    """Return ``New York`` for ``NewYork`` and ``obs noise 0.1`` for ``obs_noise=0.1``."""
    return spaced(world).replace("_", " ").replace("=", " ")


class Band(NamedTuple):
    """A curve: x [P], and at each the estimate and the ends of its interval (nan where there is none)."""

    x: Sequence[float]
    intervals: Sequence[Interval]

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """x, estimate, low, high; an end that is unknown lies on the estimate."""
        estimate, low, high = np.array(self.intervals, float).reshape(-1, 3).T
        return (
            np.asarray(self.x, float),
            estimate,
            np.where(np.isnan(low), estimate, low),
            np.where(np.isnan(high), estimate, high),
        )


def learning_bands(bands: Mapping[str, Band], *, ylabel: str, title: str) -> Figure:
    """Draw each curve with its interval over environment steps, named at its end.

    The value axis leaves out what lies far below: the first third of a training may start anywhere.
    """
    with drawing(WIDTH, 3.5) as figure:
        ax = figure.add_subplot()
        ax.set_xlabel("Environment steps")
        ax.set_ylabel(ylabel)
        ax.xaxis.set_major_formatter(lambda x, _: step_label(x))
        last = max((band.x[-1] for band in bands.values()), default=1.0)
        for i, band in enumerate(bands.values()):
            draw_band(ax, band, i)
            if band.x[-1] < last:  # dots lead from a shorter training's end to its label
                end = band.intervals[-1].estimate
                ax.plot([band.x[-1], last], [end, end], color=color(i), linewidth=0.8, linestyle=":")
        ax.set_xlim(0, last)
        _settled_limits(ax, list(bands.values()), last / 3)
        ax.set_title(wrapped(title, WIDTH - 1.5, 10))
        ends = [float(band.arrays[1][-1]) for band in bands.values()]
        label_ends(figure, ax, list(bands), ends, [color(i) for i in range(len(bands))], x=last)
    return figure


def world_intervals(
    scores: Mapping[str, Sequence[Interval]],
    worlds: Sequence[str],
    *,
    nominal: str,
    strengths: Sequence[float] | None = None,
    ylabel: str,
    title: str,
) -> Figure:
    """Draw each method's mean and interval in each world.

    Args:
        scores: per method, one interval per world.
        worlds: W names.
        nominal: the one in which nothing shifts, marked where it is among them.
        strengths: where the worlds are strengths of one perturbation: curves over it instead of separate places.
        ylabel: what the scores are.
        title: of the figure.
    """
    with drawing(WIDTH, 3.7) as figure:
        ax = figure.add_subplot()
        ax.set_ylabel(ylabel)
        if strengths is None:
            _places(ax, scores, worlds, nominal)
        else:
            for i, intervals in enumerate(scores.values()):
                draw_band(ax, Band(strengths, intervals), i, marker="o")
            ax.set_xticks(list(strengths))
            ax.set_xlabel(f"Strength of {worlds[-1].partition('=')[0].replace('_', ' ')}")
        figure.suptitle(wrapped(title, WIDTH, 10), x=0.01, ha="left", fontsize=10)
        legend_above(figure, ax, keys(len(scores)), list(scores))
    return figure


def radius_curves(panels: Mapping[str, Mapping[str, Band]], *, ylabel: str, title: str) -> Figure:
    """Draw scores over the radius rho: one panel per family of methods, one curve per summary of the worlds."""
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    with drawing(WIDTH, 0.7 + 2.6 * rows) as figure:
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for ax, (family, panel) in zip(grid.flat, panels.items(), strict=False):
            radii = sorted({x for band in panel.values() for x in band.x})
            # Equal distances: radii are chosen by orders of magnitude, and 0 has no logarithm.
            for i, band in enumerate(panel.values()):
                draw_band(ax, Band([radii.index(x) for x in band.x], band.intervals), i, marker="o")
            ax.set_xticks(range(len(radii)), [f"{x:g}" for x in radii])
            ax.set_xlabel("Radius ρ (0: non-robust)")
            ax.set_title(family)
        for ax in list(grid.flat)[len(panels) :]:
            ax.set_axis_off()
        for ax in grid[:, 0]:
            ax.set_ylabel(ylabel)
        figure.legend(keys(len(names)), names, loc="outside lower left", ncols=len(names), fontsize=8.5)
        figure.suptitle(wrapped(title, WIDTH, 10), x=0.01, ha="left", fontsize=10)
    return figure


def draw_band(ax: Axes, band: Band, index: int, marker: str = "") -> None:
    """Draw a curve with its interval in colour number ``index``."""
    x, estimate, low, high = band.arrays
    marker = "o" if len(x) == 1 else marker
    ax.fill_between(x, low, high, color=color(index), alpha=0.16, linewidth=0)
    ax.plot(x, estimate, color=color(index), linestyle=_dashes(index), linewidth=1.9, marker=marker, markersize=4.5)


def _dashes(index: int) -> Literal["-", "--"]:
    """Beyond the palette's colours lines are dashed."""
    return "-" if index < len(PALETTE) else "--"


def keys(count: int) -> list[Line2D]:
    """Return what a legend shows of the first ``count`` curves."""
    return [Line2D([], [], color=color(i), linestyle=_dashes(i), marker="o", markersize=4.5) for i in range(count)]


def _places(ax: Axes, scores: Mapping[str, Sequence[Interval]], worlds: Sequence[str], nominal: str) -> None:
    """Each world a place on the axis, the methods side by side within it."""
    width = 0.72 / max(1, len(scores))
    for i, intervals in enumerate(scores.values()):
        _, estimate, low, high = Band(range(len(worlds)), intervals).arrays
        x = np.arange(len(worlds)) + width * (i - (len(scores) - 1) / 2)
        ax.vlines(x, low, high, color=color(i), linewidth=2.2, alpha=0.55)
        ax.plot(x, estimate, linestyle="", marker="o", markersize=4.5, color=color(i))
    for x in np.arange(len(worlds) - 1) + 0.5:
        ax.axvline(x, color=FAINT_INK, linewidth=0.4, alpha=0.5)
    names = [f"{world_name(world)}\n(nominal)" if world == nominal else world_name(world) for world in worlds]
    many = max((len(line) for name in names for line in name.splitlines()), default=0) * len(names) > 90
    ax.set_xticks(range(len(worlds)), names, **({"rotation": 40, "ha": "right"} if many else {}))
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-0.5, len(worlds) - 0.5)


def _settled_limits(ax: Axes, bands: Sequence[Band], settled: float) -> None:
    """End the value axis a little below what comes after ``settled`` steps."""
    ax.margins(y=0.06)
    low, high = _extremes(bands, lambda x: x >= settled)
    if math.isfinite(low) and high > low:
        ax.set_ylim(low - 0.15 * (high - low), high + 0.08 * (high - low))


def _extremes(bands: Sequence[Band], kept: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    lows = [low[kept(x)].min() for x, _, low, _ in (band.arrays for band in bands) if kept(x).any()]
    highs = [high[kept(x)].max() for x, _, _, high in (band.arrays for band in bands) if kept(x).any()]
    return min(lows, default=math.nan), max(highs, default=math.nan)
