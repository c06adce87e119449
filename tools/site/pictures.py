"""The pictures of docs/idea.md, drawn from drigm's exact solver: ``python -m tools.site.pictures`` writes them anew.

Each is an SVG file that follows the reader's light or dark scheme.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from drigm.envs.toy.tabular import detour
from drigm.exact import (
    TabularProblem,
    identification_problem,
    make_problem,
    robust_values,
    solve_counterexample,
    solve_static,
)
from drigm.report.figures.style import FAINT_INK, INK, color, drawing
from drigm.report.figures.svg import inline_svg

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "pictures"
PAGE_STYLE = ROOT / "src" / "drigm" / "report" / "assets" / "page.css"
DETOUR_GAMMA, DETOUR_RHO = 0.8, 0.5
NEAR_OR_FAR, SAFE_OR_RISKY = "near or far", "safe or risky"
SETS = {"total variation": "tv", "contamination": "contamination", "Kullback-Leibler": "kl"}
RADII = np.linspace(0.0, 0.6, 13)
STEPS = range(1, 5)
WIDTH = 4.6  # inches: on a phone its letters can still be read
MINUS = "\N{MINUS SIGN}"


class FailValue(NamedTuple):
    """Values of the detour's two choices, against the fail value m."""

    m: np.ndarray  # [M]
    going_on: np.ndarray  # [M] what a target says that puts mass rho on m
    quitting: float
    truly_going_on: float  # under nature's worst model, with the states that there are


def fail_values() -> FailValue:
    """Return what docs/idea.md shows of the fail value, for contamination of radius 0.5."""
    tables = detour()
    problem = make_problem(
        tables.transitions, tables.rewards, tables.actions, DETOUR_GAMMA, terminal=tables.terminal, fail_value=None
    )
    exact = robust_values(problem, "contamination", DETOUR_RHO)
    m = np.linspace(-6.0, 0.0, 25)
    after = exact[1].max()  # the value of having gone on
    target = tables.rewards[0, 0] + DETOUR_GAMMA * ((1 - DETOUR_RHO) * after + DETOUR_RHO * m)
    return FailValue(m, target, float(exact[0, 2]), float(exact[0, 0]))


def choice_problem(kind: str, gamma: float) -> TabularProblem:
    """Return one decision: 1 now or 1.4 a step later, without chance; or a safe 0.25 or 1 that is -1 once in four."""
    transitions, rewards = np.zeros((5, 2, 5)), np.zeros((5, 2))
    transitions[1:, :, 4] = 1.0
    if kind == NEAR_OR_FAR:
        transitions[0, 0, 1] = transitions[0, 1, 2] = 1.0
        rewards[0, 0], rewards[2] = 1.0, 1.4
    else:
        transitions[0, 0, 1] = 1.0
        transitions[0, 1, [2, 3]] = 0.75, 0.25
        rewards[1], rewards[2], rewards[3] = 0.25, 1.0, -1.0
    lowest = float(rewards.min()) - 1.0  # as a fail value must: no value is below it
    return make_problem(transitions, rewards, (2,), gamma, terminal=np.arange(5) == 4, fail_value=lowest)


def advantages(kind: str) -> dict[str, np.ndarray]:
    """Return by how much the second choice is worth more than the first, over `RADII`, by method."""

    def gap(problem: TabularProblem, uncertainty: str, rho: float) -> float:
        q = robust_values(problem, uncertainty, rho)[0]
        return float(q[1] - q[0])

    problem = choice_problem(kind, 0.95)
    found = {name: np.array([gap(problem, key, rho) for rho in RADII]) for name, key in SETS.items()}
    found["a discount gamma (1 - rho)"] = np.array(
        [gap(choice_problem(kind, 0.95 * (1 - rho)), "nominal", 0.0) for rho in RADII]
    )
    return found


def static_values() -> tuple[list[float], list[float]]:
    """Return what the per-step robust team and the team that finds out get in their worst worlds, by `STEPS`."""
    reports = [solve_static(identification_problem(), steps) for steps in STEPS]
    return [r.rectangular_policy for r in reports], [r.static for r in reports]


def draw_alone() -> Figure:
    """Draw both agents' values, each under its own worst model and both under the team's."""
    found = solve_counterexample()
    with drawing(WIDTH, 5.4) as figure:
        axes = figure.subplots(2, 1, sharey=True)
        titles = ("Each agent meets its own worst model", "Both meet the team's worst model")
        for ax, title, table, action, value in zip(
            axes,
            titles,
            (found.alone, found.shared),
            (found.alone_action, found.shared_action),
            (found.alone_value, found.shared_value),
            strict=True,
        ):
            for agent, q in enumerate(table):
                for choice, height in enumerate(q):
                    x = agent * 2.6 + choice
                    picked = choice == action[agent]
                    ax.bar(x, height, width=0.8, color=color(0 if picked else 7))
                    ax.text(x, max(height, 0) + 0.06, f"{height:.1f}".replace("-", MINUS), ha="center", color=INK)
            ax.set_title(title)
            names = ("toward", "away", "toward", "away")
            ax.set_xticks([0, 1, 2.6, 3.6], names)
            for agent, x in enumerate((0.5, 3.1)):
                ax.text(x, -1.02, f"agent {agent + 1}", ha="center", va="top", color=FAINT_INK)
            ax.axhline(0, color=FAINT_INK, lw=0.8)
            best = "the best there is" if np.isclose(value, found.robust.max()) else f"not {found.robust.max():.1f}"
            ax.set_xlabel(f"They are worth {value:.1f} to the team: {best}", labelpad=20, color=INK)
            ax.set_ylabel("value of the action")
        axes[0].set_ylim(-0.6, 2.6)
    return figure


def draw_fail_value() -> Figure:
    """Draw the detour's two choices against the fail value."""
    found = fail_values()
    with drawing(WIDTH, 3.2) as figure:
        ax = figure.subplots()
        ax.plot(found.m, found.going_on, color=color(1))
        ax.axhline(found.quitting, color=color(0), lw=1.6)
        ax.axhline(found.truly_going_on, color=color(7), lw=1.2, ls=(0, (4, 3)))
        turn = float(np.interp(found.quitting, found.going_on, found.m))
        ax.axvspan(turn, 0.0, color=color(1), alpha=0.12, lw=0)
        ax.text(turn + 0.05, -4.05, "goes\non:\nwrong", color=INK)
        ax.text(-5.9, found.quitting + 0.06, f"quitting: {MINUS}{-found.quitting:g}, whatever m is", color=color(0))
        ax.text(
            -5.9, found.truly_going_on + 0.06, f"going on, at worst: {MINUS}{-found.truly_going_on:g}", color=color(7)
        )
        ax.text(-3.75, -3.5, "going on, as the\ntarget says", color=color(1))
        ax.set_xlim(-6, 0)
        ax.set_xlabel("fail value m, in units of reward")
        ax.set_ylabel("robust value")
    return figure


def draw_discount() -> Figure:
    """Draw when a robust set changes what a discount would not."""
    with drawing(WIDTH, 5.6) as figure:
        axes = figure.subplots(2, 1)
        titles = {
            NEAR_OR_FAR: ("No chance: 1 now, or 1.4 a step later", "later"),
            SAFE_OR_RISKY: ("Chance: 0.25 for sure, or a gamble", "the gamble"),
        }
        dashes = {"total variation": "-", "contamination": (0, (5, 3)), "a discount gamma (1 - rho)": (0, (1, 2))}
        for ax, (kind, (title, better)) in zip(axes, titles.items(), strict=True):
            for i, (name, gaps) in enumerate(advantages(kind).items()):
                width = 3.2 if name == "total variation" else 1.8
                ax.plot(RADII, gaps, color=color((1, 0, 2, 7)[i]), ls=dashes.get(name, "-"), lw=width, label=name)
            ax.axhline(0, color=FAINT_INK, lw=0.8)
            ax.set_title(title)
            ax.set_xlabel("radius rho")
            ax.set_ylabel(f"value of {better},\nless that of the other")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8.5)
    return figure


def draw_static() -> Figure:
    """Draw what two teams get in their worst world, against the length of an episode."""
    per_step, static = static_values()
    with drawing(WIDTH, 3.0) as figure:
        ax = figure.subplots()
        for values, c, name, x, y in (
            (static, 2, "finds out which\nworld it is in", 3.0, 1.35),
            (per_step, 1, "robust at every step", 2.6, 0.25),
        ):
            ax.plot(STEPS, values, color=color(c), marker="o")
            ax.text(STEPS[-1], values[-1] + 0.1, f"{values[-1]:.1f}", ha="center", color=INK)
            ax.text(x, y, name, color=color(c), ha="right" if c == 2 else "left")
        ax.set_xticks(list(STEPS))
        ax.set_xlim(0.8, 4.2)
        ax.set_ylim(0, 2.4)
        ax.set_xlabel("steps of an episode")
        ax.set_ylabel("return in the team's worst world")
    return figure


def draw_rooms(page: str) -> Figure:
    """Draw the arrows of the page's mermaid block ``a --> b`` from top to bottom, narrow enough for a phone."""
    arrows = re.findall(r"^\s*(\w+) --> (\w+)$", page, re.MULTILINE)
    names = list(dict.fromkeys(name for arrow in arrows for name in arrow))
    row_of = dict.fromkeys(names, 0)
    for _ in names:
        for left, right in arrows:
            row_of[right] = max(row_of[right], row_of[left] + 1)
    rows = max(row_of.values()) + 1
    place: dict[str, tuple[float, float]] = {}
    for row in range(rows):
        here = [name for name in names if row_of[name] == row]
        place |= {name: (i - (len(here) - 1) / 2, -float(row)) for i, name in enumerate(here)}
    with drawing(3.4, 0.45 * rows) as figure:
        ax = figure.subplots()
        ax.set_axis_off()
        ax.set_xlim(-1.1, 1.1)
        ax.set_ylim(0.4 - rows, 0.4)
        for left, right in arrows:
            ax.annotate(
                "", place[right], place[left],
                arrowprops={"arrowstyle": "->", "color": FAINT_INK, "shrinkA": 9, "shrinkB": 9, "lw": 1},
            )  # fmt: skip
        for name, (x, y) in place.items():
            ax.text(x, y, name, ha="center", va="center", color=INK)
    return figure


PICTURES: dict[str, tuple[Callable[[], Figure], str]] = {
    "alone": (draw_alone, "Values of two agents under their own worst models, and under the team's"),
    "fail-value": (draw_fail_value, "Robust values of two choices against the fail value m"),
    "discount": (draw_discount, "What a choice is worth more than another, against the radius, for three sets"),
    "static": (draw_static, "Returns in the worst world of two teams, against the length of an episode"),
}


def svg_file(figure: Figure, alt: str) -> str:
    """Return ``figure`` as the text of an SVG file that is light or dark as its reader likes it."""
    variables = re.findall(r"--(?:ink|faint|rule|on|c\d): #\w+;", PAGE_STYLE.read_text(encoding="utf-8"))
    half = len(variables) // 2  # the page's light scheme, then its dark one
    light, dark = (" ".join(variables[part]) for part in (slice(half), slice(half, None)))
    style = f"<style>svg{{{light}}} @media (prefers-color-scheme: dark){{svg{{{dark}}}}} text{{font-family:sans-serif}}"
    # As a file it has a size of its own; on a page it has the page's.
    drawing = re.sub(
        r'style="width:(\d+)px;aspect-ratio:\d+/(\d+)"', r'width="\1" height="\2"', inline_svg(figure, alt)
    )
    end = drawing.index(">") + 1
    return f"{drawing[:end]}{style}</style>{drawing[end:]}\n"


def main() -> None:
    """Write every picture to docs/pictures/."""
    FOLDER.mkdir(exist_ok=True)
    for name, (draw, alt) in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(svg_file(draw(), alt), encoding="utf-8")


if __name__ == "__main__":
    main()
