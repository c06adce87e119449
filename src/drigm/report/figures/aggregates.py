"""Methods summed up over seeds and worlds: one table of aggregates, one figure of performance profiles."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from drigm.envs.building.dataset import PROTOCOL_CITIES
from drigm.evaluation.published import controller_score
from drigm.evaluation.statistics import (
    Interval,
    area_under_curve,
    cvar,
    interval,
    iqm,
    mean,
    median,
    optimality_gap,
    performance_profile,
    worst_world,
)
from drigm.report.figures.curves import WIDTH, Band, draw_band, keys
from drigm.report.figures.style import drawing
from drigm.report.sections.against_paper import PROTOCOL

TAIL = 1 / 3  # the share of worlds whose mean is the CVaR
BEST = 1.0  # a perfect score, of buildings and of battles
BOUNDED = ("building", "energyplus", "smax", "smac")
POINTS = 161  # thresholds of a profile


def aggregate_rows(
    scores: Mapping[str, np.ndarray], worlds: Sequence[str], limit: Sequence[float] | None
) -> list[dict[str, object]]:
    """Return a row of intervals for each method: whole seeds are drawn, because one trained team plays all worlds.

    Args:
        scores: [K seeds, W worlds] by method.
        worlds: W names; where they are strengths of one perturbation, the area under its curve is a column too.
        limit: the best known score of each world, for the optimality gap; None if nothing is known.
    """
    rising = strengths(worlds)
    rows = []
    for label, found in scores.items():
        whole = functools.partial(interval, found, whole_seeds=True)
        row: dict[str, object] = {"method": label, "seeds": len(found)}
        row |= {"iqm": whole(iqm), "mean": whole(mean), "median": whole(median)}
        if limit is not None:
            row["gap"] = whole(functools.partial(optimality_gap, limit=limit))
        row |= {"worst": worst_world(found), "cvar": cvar(found, TAIL)}
        if rising:
            row["area"] = area_under_curve(rising, found)
        rows.append(row)
    return rows


def best_known(env: str, worlds: Sequence[str]) -> list[float] | None:
    """Return the best known score of each world, or None: what the one-step optimum reaches where it was computed.

    Elsewhere in buildings, and in battles (`env` starts with ``smax`` or ``smac``), it is 1, which no team exceeds.
    """
    kind = env.partition(":")[0]
    if env == PROTOCOL and set(worlds) <= set(PROTOCOL_CITIES):
        return [controller_score(world, "one_step_optimum") for world in worlds]
    return [BEST] * len(worlds) if kind in BOUNDED else None


def limit_told(limit: Sequence[float] | None) -> str:
    """Return what the optimality gap is measured to, in a sentence."""
    if limit is None:
        return ""
    low, high = min(limit), max(limit)
    if low == high:
        return f"The optimality gap is to {high:g}."
    return f"The optimality gap is to the one-step optimum with full knowledge, {low:.3f} to {high:.3f} by city."


def aggregate_columns(rows: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Return the headings of what `aggregate_rows` has found."""
    titles = {
        "method": "Method",
        "seeds": "Seeds",
        "iqm": "IQM",
        "mean": "Mean",
        "median": "Median",
        "gap": "Optimality gap",
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
    # From just below the lowest score, where every share is 1; dense where scores lie close together.
    low, high = everything.min(), everything.max()
    start = low - 0.02 * ((high - low) or abs(low) or 1.0)
    taus = np.union1d(np.linspace(start, high, POINTS // 4), np.quantile(everything, np.linspace(0, 1, POINTS)))
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
