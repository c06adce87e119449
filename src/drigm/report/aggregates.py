"""Methods summed up over seeds and worlds: one table of aggregates, one figure of performance profiles."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from drigm.report.curves import WIDTH, Band, draw_band, keys
from drigm.report.style import drawing
from drigm.statistics import (
    Interval,
    area_under_curve,
    cvar,
    iqm,
    mean,
    median,
    optimality_gap,
    performance_profile,
    stratified_bootstrap,
    worst_world,
)

TAIL = 1 / 3  # the share of worlds whose mean is the CVaR
BEST = 1.0  # a perfect score, of buildings and of battles
POINTS = 161  # thresholds of a profile
CUT = 0.02  # of all scores, at most so many lie left of a profile's first threshold


def aggregate_rows(
    scores: Mapping[str, np.ndarray], worlds: Sequence[str], *, with_gap: bool
) -> list[dict[str, object]]:
    """Return a row of intervals for each method: whole seeds are drawn, because one trained team plays all worlds.

    Args:
        scores: [K seeds, W worlds] by method.
        worlds: W names; where they are strengths of one perturbation, the area under its curve is a column too.
        with_gap: whether `BEST` is the highest score, so that the gap to it means something.
    """
    rising = strengths(worlds)
    rows = []
    for label, found in scores.items():
        whole = functools.partial(stratified_bootstrap, found, whole_seeds=True)
        row: dict[str, object] = {"method": label, "seeds": len(found)}
        row |= {"iqm": whole(iqm), "mean": whole(mean), "median": whole(median)}
        if with_gap:
            row["gap"] = whole(functools.partial(optimality_gap, limit=BEST))
        row |= {"worst": worst_world(found), "cvar": cvar(found, TAIL)}
        if rising:
            row["area"] = area_under_curve(rising, found)
        rows.append(row)
    return rows


def aggregate_columns(rows: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Return the headings of what `aggregate_rows` has found."""
    titles = {
        "method": "Method",
        "seeds": "Seeds",
        "iqm": "IQM",
        "mean": "Mean",
        "median": "Median",
        "gap": f"Optimality gap to {BEST:g}",
        "worst": "Worst world",
        "cvar": "Worst third of worlds (CVaR)",
        "area": "Area under the perturbation curve",
    }
    return {key: title for key, title in titles.items() if any(key in row for row in rows)}


def profiles(panels: Mapping[str, Mapping[str, np.ndarray]], *, xlabel: str) -> Figure:
    """Draw performance profiles: the share of all seeds and worlds that score above each threshold.

    Args:
        panels: scores [K, W] by method, by title of the panel; a method has one colour in all of them.
        xlabel: what the scores are.
    """
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    everything = np.concatenate([found.ravel() for panel in panels.values() for found in panel.values()])
    taus = np.linspace(np.quantile(everything, CUT), everything.max(), POINTS)
    wide = WIDTH if columns == 1 else 1.2 + 3.0 * columns
    with drawing(wide, 0.7 + 2.7 * rows) as figure:
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for ax, (title, panel) in zip(grid.flat, panels.items(), strict=False):
            for name, found in panel.items():
                _, *ends = performance_profile(found, taus, whole_seeds=True)
                intervals = [Interval(*map(float, at)) for at in zip(*ends, strict=True)]
                draw_band(ax, Band(list(taus), intervals), names.index(name))
            ax.set(xlabel=xlabel, ylim=(-0.02, 1.02), title=title if len(panels) > 1 else "")
        for ax in list(grid.flat)[len(panels) :]:
            ax.set_axis_off()
        for ax in grid[:, 0]:
            ax.set_ylabel("Share of scores above")
        figure.legend(keys(len(names)), names, loc="outside lower left", ncols=2 * columns, fontsize=8)
    return figure


def profile_alt(panels: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """Return what `profiles` shows, in words: the score that half of each method's seeds and worlds exceed."""
    halves = [f"{name} {np.median(found):.3f}" for panel in panels.values() for name, found in panel.items()]
    return f"Performance profiles. Half of all scores lie above: {', '.join(halves)}."


def strengths(worlds: Sequence[str]) -> list[float] | None:
    """Return the strengths of worlds such as ``obs_noise=0.1``, None where they are not one perturbation's, rising."""
    pairs = [world.split("=") for world in worlds]
    if any(len(pair) != 2 for pair in pairs) or len({name for name, _ in pairs}) != 1 or len(pairs) < 2:
        return None
    try:
        found = [float(value) for _, value in pairs]
    except ValueError:
        return None
    return found if all(a < b for a, b in itertools.pairwise(found)) else None
