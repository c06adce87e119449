"""Pictures of a noise study: battles won against the noise, and against the radius of the uncertainty set."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from drigm.evaluation import statistics as st
from drigm.report.figures.style import color, drawing, save

Scores = dict[str, dict[str, list[float]]]  # method: world: score of every seed
REPETITIONS = 10_000
NON_ROBUST = "non-robust"


def intervals(worlds: dict[str, list[float]]) -> list[st.Interval]:
    """The mean of each world with its 95 % interval over seeds."""
    return st.per_world(np.array(list(worlds.values())).T, repetitions=REPETITIONS)


def strength_of(world: str) -> float:
    """The strength in ``obs_noise=0.1``."""
    return float(world.partition("=")[2])


def radius_of(method: str) -> tuple[str, float] | None:
    """``TV 0.03`` -> ("TV", 0.03), and ``gamma (1 - 0.03)`` -> ("gamma (1 - rho)", 0.03)."""
    plain = re.fullmatch(r"gamma \(1 - ([0-9.]+)\)", method)
    if plain:
        return "gamma (1 - rho)", float(plain[1])
    name, _, radius = method.rpartition(" ")
    return (name, float(radius)) if re.fullmatch(r"[0-9.]+", radius) else None


def draw(scores: Scores, out: Path) -> None:
    """Write noise.png, a curve for each method, and radius.png, a panel for each strength of the noise."""
    save(_against_noise(scores), out / "noise.png")
    save(_against_radius(scores), out / "radius.png")


def _against_noise(scores: Scores):
    families = [NON_ROBUST, *dict.fromkeys(found[0] for found in map(radius_of, scores) if found)]
    with drawing(9.0, 3.4) as figure:
        panels = figure.subplots(1, max(1, len(families) - 1), sharey=True, squeeze=False)[0]
        for ax, family in zip(panels, families[1:], strict=False):
            shown = [name for name in scores if name == NON_ROBUST or (radius_of(name) or ("",))[0] == family]
            for index, name in enumerate(shown):
                strengths = [strength_of(world) for world in scores[name]]
                found, hue = intervals(scores[name]), color(index)
                ax.plot(strengths, [i.estimate for i in found], "o-", ms=3.5, color=hue, label=name)
                ax.fill_between(strengths, [i.low for i in found], [i.high for i in found], color=hue, alpha=0.15)
            ax.set(xlabel="Noise on observations (std)", ylim=(-0.02, 1.02), title=family)
            ax.legend(fontsize=8)
        panels[0].set_ylabel("Battles won")
        return figure


def _against_radius(scores: Scores):
    worlds = list(next(iter(scores.values())))
    families = dict.fromkeys(found[0] for found in map(radius_of, scores) if found)
    radii = sorted({0.0, *_radii(scores)})
    with drawing(10.0, 3.0) as figure:
        panels = figure.subplots(1, len(worlds), sharey=True, squeeze=False)[0]
        for ax, world in zip(panels, worlds, strict=True):
            for index, family in enumerate(families):
                points = {0.0: NON_ROBUST} if NON_ROBUST in scores else {}
                points |= {found[1]: name for name in scores if (found := radius_of(name)) and found[0] == family}
                at = {radius: intervals({world: scores[name][world]})[0] for radius, name in sorted(points.items())}
                places = [radii.index(radius) + 0.08 * (index - 1) for radius in at]
                means = np.array([i.estimate for i in at.values()])
                spread = np.array([[i.estimate - i.low, i.high - i.estimate] for i in at.values()]).T
                style = {"fmt": "o-", "ms": 3.5, "capsize": 2, "color": color(index), "label": family}
                ax.errorbar(places, means, np.maximum(spread, 0.0), **style)
            ax.set_xticks(range(len(radii)), [f"{r:g}" for r in radii])
            ax.set(xlabel="Radius rho", title=f"noise {strength_of(world):g}", ylim=(-0.02, 1.02))
        panels[0].set_ylabel("Battles won")
        panels[0].legend(fontsize=7, loc="lower left")
        return figure


def _radii(scores: Scores) -> list[float]:
    return [found[1] for found in map(radius_of, scores) if found]
