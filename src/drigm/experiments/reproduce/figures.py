"""The pictures of the paper's study: six environments, the radius, battles under noise; each with 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from drigm.core.naming import spaced
from drigm.evaluation import statistics as st
from drigm.evaluation.published import authors_radii, authors_score, reference_method
from drigm.experiments.reproduce.compare import factorizations_of, find, matrix, worlds_of
from drigm.experiments.reproduce.runner import Scored
from drigm.report.figures.style import FAINT_INK, color, drawing, score_axis

# The paper's figure numbers its environments in this order.
PAPER_ORDER = ("Tucson", "Tampa", "Honolulu", "ElPaso", "PortAngeles", "NewYork")
SHOWN = ("nominal", "contamination", "tv", "short_horizon", "groupdr")
FLOOR = -0.3  # below it, a team has learnt nothing that is worth looking at
SETS = {"contamination": "contamination", "tv": "TV", "short_horizon": "gamma (1 - rho)"}


def environments(scored: Sequence[Scored]) -> Figure:
    """Draw the scores in environments 1 to 6, a column of panels for each factorization.

    Above everything, the authors' networks dashed; below the same without them, from where our teams are.
    """
    names = factorizations_of(scored)
    with drawing(1.2 + 3.3 * len(names), 6.4) as figure:
        panels = figure.subplots(2, len(names), sharey="row", squeeze=False)
        handles = {}
        for column, factorization in enumerate(names):
            for index, method in enumerate(SHOWN):
                one = find(scored, factorization, method, _radius(scored, factorization, method))
                if one is None:
                    continue
                order = [worlds_of(one).index(city) for city in PAPER_ORDER]
                for ax in panels[:, column]:
                    label = _called(method)
                    handles[label] = _curve(ax, range(6), matrix(one)[:, order], color(index), label)
                _authors(panels[0, column], factorization, method, color(index), handles)
            for ax in panels[:, column]:
                ax.set(title=factorization.upper(), xlim=(-0.2, 5.2))
                places = [f"{i} {spaced(city)}".replace(" ", "\n") for i, city in enumerate(PAPER_ORDER, 1)]
                ax.set_xticks(range(6), places, fontsize=7)
        _limit(panels, scored)
        for ax in panels[:, 0]:
            ax.set_ylabel(score_axis(scored[0].config.env))
        legend = handles.values(), handles
        figure.legend(*legend, loc="outside lower center", ncols=2 * len(names), fontsize=8, frameon=False)
    return figure


def _limit(panels: np.ndarray, scored: Sequence[Scored]) -> None:
    """End the axes below what is to be seen: everything above, our teams without GroupDR below."""
    means = {id(one): float(matrix(one).mean(axis=0).min()) for one in scored}
    theirs = [score for name in factorizations_of(scored) for m in SHOWN for score in _authors_means(name, m)]
    ours = [means[id(one)] for one in scored if reference_method(one.config) != "groupdr"] or [*means.values()]
    panels[0, 0].set_ylim(max(FLOOR, min([*means.values(), *theirs]) - 0.03), 1.02)
    panels[1, 0].set_ylim(max(FLOOR, min(ours) - 0.02), 1.0)


def radii(scored: Sequence[Scored], factorization: str, about: Mapping[str, int | None]) -> Figure:
    """Draw the score against the radius, a panel for each uncertainty set; below, the authors' networks.

    Args:
        scored: the runs; radius 0 is the non-robust team.
        factorization: whose runs.
        about: what is drawn, by label: a world's number, or None for the worst world of each seed.
    """
    sets = [name for name, count in radii_of(scored, factorization).items() if count > 2]
    with drawing(1.2 + 3.8 * len(sets), 5.8) as figure:
        panels = figure.subplots(2, len(sets), sharey="row", sharex="col", squeeze=False)
        for (ax, below), name in zip(panels.T, sets, strict=True):
            points = _curve_points(scored, factorization, name)
            for index, (label, world) in enumerate(about.items()):
                values = [m.min(axis=1) if world is None else m[:, world] for m in points.values()]
                _curve(ax, list(points), np.stack(values, axis=1), color(index), label)
                if world is not None:
                    theirs = authors_radii(worlds_of(scored[0])[world], factorization, name)
                    x, means, errors = list(theirs), [s.mean for s in theirs.values()], [s.se for s in theirs.values()]
                    below.errorbar(x, means, errors, fmt="o--", color=color(index), linewidth=1.2, ms=3.5)
            ax.set_title(f"{factorization.upper()}, {SETS[name]}")
            below.set(xlabel="Radius rho (0: non-robust)", title="Authors' networks, mean and standard error")
            below.set_xticks(list(points), [f"{rho:g}" for rho in points])
        for ax in panels[:, 0]:
            ax.set_ylabel(score_axis(scored[0].config.env))
        legend = panels[0, 0].get_legend_handles_labels()
        figure.legend(*legend, loc="outside lower center", ncols=len(about), fontsize=8)
    return figure


def radii_of(scored: Sequence[Scored], factorization: str) -> dict[str, int]:
    """Return how many radii each uncertainty set was trained with, the non-robust team's 0 included."""
    return {name: len(_curve_points(scored, factorization, name)) for name in SETS}


def noise(scored: Sequence[Scored]) -> Figure:
    """Draw the battles won against the noise on observations, a panel for each uncertainty set."""
    plain = find(scored, "vdn", "nominal", 0.0)
    sets = [name for name in SETS if any(reference_method(one.config) == name for one in scored)]
    with drawing(1.2 + 3.0 * len(sets), 3.6) as figure:
        panels = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
        for ax, name in zip(panels, sets, strict=True):
            shown = [*([plain] if plain else []), *(one for one in scored if reference_method(one.config) == name)]
            for index, one in enumerate(shown):
                label = f"rho {one.config.rho:g}" if one.config.rho else "non-robust"
                _curve(ax, strengths_of(one), matrix(one), color(index), label)
            ax.set(xlabel="Noise on observations (std)", ylim=(-0.02, 1.02), title=SETS[name])
            ax.legend(fontsize=8)
        panels[0].set_ylabel("Battles won (share)")
    return figure


def battle_radii(scored: Sequence[Scored]) -> Figure:
    """Draw the battles won against the radius, a panel for each strength of the noise: is there a sweet spot?"""
    strengths = strengths_of(scored[0])
    sets = [name for name in SETS if len(_curve_points(scored, "vdn", name)) > 1]
    with drawing(1.4 + 1.9 * len(strengths), 3.4) as figure:
        panels = figure.subplots(1, len(strengths), sharey=True, squeeze=False)[0]
        all_radii = sorted({r for name in sets for r in _curve_points(scored, "vdn", name)})
        for world, (ax, strength) in enumerate(zip(panels, strengths, strict=True)):
            for index, name in enumerate(sets):
                points = _curve_points(scored, "vdn", name)
                places = [all_radii.index(r) for r in points]
                _curve(ax, places, np.stack([m[:, world] for m in points.values()], axis=1), color(index), SETS[name])
            ax.set_xticks(range(len(all_radii)), [f"{r:g}" for r in all_radii])
            ax.set(xlabel="Radius rho", ylim=(-0.02, 1.02), title=f"noise {strength:g}")
        panels[0].set_ylabel("Battles won (share)")
        panels[-1].legend(fontsize=7)
    return figure


def profile_panels(scored: Sequence[Scored]) -> dict[str, dict[str, np.ndarray]]:
    """Return the scores [K, W] by method, by factorization: those of the paper's radii, of battles all of them."""
    if scored[0].evaluation.suite == "noise":
        return {"Battles": {one.title: matrix(one) for one in scored}}
    panels = {}
    for factorization in factorizations_of(scored):
        found = {m: find(scored, factorization, m, _radius(scored, factorization, m)) for m in SHOWN}
        panels[factorization.upper()] = {_called(m): matrix(one) for m, one in found.items() if one is not None}
    return panels


def strengths_of(one: Scored) -> list[float]:
    """Return the strengths in worlds named like ``obs_noise=0.1``."""
    return [float(name.partition("=")[2]) for name in worlds_of(one)]


def _curve_points(scored: Sequence[Scored], factorization: str, method: str) -> dict[float, np.ndarray]:
    """The scores [K, W] at each radius, the non-robust team at 0; empty where no radius was trained."""
    found = {
        one.config.rho: matrix(one)
        for one in scored
        if one.config.factorization == factorization and reference_method(one.config) == method
    }
    plain = find(scored, factorization, "nominal", 0.0)
    return (
        dict(sorted(({0.0: matrix(plain)} | found).items()))
        if plain is not None and found
        else dict(sorted(found.items()))
    )


def _curve(ax: Axes, x, scores: np.ndarray, hue: str, label: str):
    """Draw the mean over seeds of ``scores`` [K, X] with its interval; returns the line."""
    found = st.per_world(scores)
    (line,) = ax.plot(x, [i.estimate for i in found], "o-", ms=3.5, color=hue, label=label)
    if len(scores) > 1:
        ax.fill_between(x, [i.low for i in found], [i.high for i in found], color=hue, alpha=0.15, linewidth=0)
    return line


def _authors(ax: Axes, factorization: str, method: str, hue: str, handles: dict) -> None:
    means = _authors_means(factorization, method)
    if len(means) == len(PAPER_ORDER):
        ax.plot(range(6), means, "--", color=hue, linewidth=1.0, alpha=0.8)
        if "authors' networks" not in handles:
            handles["authors' networks"] = ax.plot([], [], "--", color=FAINT_INK, linewidth=1.0)[0]


def _authors_means(factorization: str, method: str) -> list[float]:
    found = [authors_score(city, factorization, method) for city in PAPER_ORDER]
    return [score.mean for score in found if score is not None]


def _radius(scored: Sequence[Scored], factorization: str, method: str) -> float | None:
    """The radius that is drawn: the paper's, or the discount's own."""
    if method != "short_horizon":
        return None
    found = [
        o.config.rho for o in scored if o.config.factorization == factorization and reference_method(o.config) == method
    ]
    return found[0] if found else None


def _called(method: str) -> str:
    return {"nominal": "non-robust", "groupdr": "GroupDR"}.get(method) or SETS[method]
