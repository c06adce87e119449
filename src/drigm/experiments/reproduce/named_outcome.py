"""The one number that a sweep named before it ran: compared with a correction, and against gamma (1 - rho)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from drigm.core.errors import choose
from drigm.evaluation import statistics as st
from drigm.evaluation.published import reference_method
from drigm.experiments.reproduce.compare import Pair, fewer_seeds, interval_text, matrix, worlds_of
from drigm.experiments.reproduce.figures import SETS
from drigm.experiments.reproduce.runner import Scored
from drigm.experiments.sweep.plan import differing
from drigm.report.figures.style import color, drawing, save, score_axis
from drigm.report.tables import markdown_table
from drigm.runtime.files import write_text

NOTE = (
    "Outcome: the mean of {worlds}; of every seed, then over seeds, with 95 % intervals. p: Welch's test of equal "
    "means, corrected after Holm for all {count} comparisons{run}. `*`: below 0.05, of {seeds} seeds or more; with "
    "fewer nothing is marked."
)
DRAWN = {"uncertainty", "rho", "baseline", "gamma", "seeds"}  # what points in horizon.png may differ in
LONGEST = 1e-5  # 1 - gamma (1 - rho) of the longest horizon that is drawn
STYLES: Mapping[str, dict[str, Any]] = {
    "contamination": {"marker": "o", "ls": "-"},
    "tv": {"marker": "s", "ls": "--", "mfc": "white"},
}


def write_named_outcome(
    out: Path, scored: Sequence[Scored], pairs: Sequence[Pair], worlds: Sequence[str], named: int
) -> list[Path]:
    """Write outcome.md into ``out``, and horizon.png where only sets and gammas differ; return the files.

    ``named`` comparisons were named before anything ran: the correction is for all, also while some are missing.

    Raises:
        UserError: one of ``worlds`` was not scored.
    """
    for world in worlds:
        choose("tables.outcome", world, worlds_of(scored[0]))
    run = f" that were named, {len(pairs)} of which have been run" if len(pairs) < named else ""
    text = [NOTE.format(worlds=", ".join(worlds), count=named, run=run, seeds=st.VERDICT_SEEDS)]
    rows = [_row(one, named_outcome(one, worlds)) for one in sorted(scored, key=horizon_of)]
    text += [markdown_table(rows), markdown_table(_compared(pairs, worlds, named))] if pairs else [markdown_table(rows)]
    files = [out / "outcome.md"]
    write_text(files[0], "\n\n".join(text))
    differ = differing([one.config for one in scored])
    if "gamma" in differ and DRAWN.issuperset(differ):
        files.append(save(horizons(scored, worlds), out / "horizon.png"))
    return files


def named_outcome(one: Scored, worlds: Sequence[str]) -> np.ndarray:
    """Return the mean over ``worlds`` of every seed, [K]."""
    return matrix(one)[:, [worlds_of(one).index(world) for world in worlds]].mean(axis=1)


def horizon_of(one: Scored) -> float:
    """Return gamma (1 - rho), the discount that contamination with fail value 0 is; gamma, of a set that is none."""
    return one.config.gamma * (1.0 - (one.config.rho if reference_method(one.config) in SETS else 0.0))


def _place(discount: float) -> float:
    """Return where a discount stands on the axis: decades of the horizon 1 / (1 - discount)."""
    return -float(np.log10(max(1.0 - discount, LONGEST)))


def horizons(scored: Sequence[Scored], worlds: Sequence[str]) -> Figure:
    """Draw the outcome against gamma (1 - rho), a colour for each gamma and a line for each set.

    Where the curves of all gammas coincide, a best radius is a best discount.
    """
    gammas = sorted({one.config.gamma for one in scored})
    with drawing(6.8, 4.6) as figure:
        ax = figure.subplots()
        for (index, gamma), name in itertools.product(enumerate(gammas), ("contamination", "tv")):
            shown = [o for o in scored if o.config.gamma == gamma and reference_method(o.config) in ("nominal", name)]
            shown = sorted(shown, key=horizon_of)
            found = [st.interval(named_outcome(one, worlds)[:, None], st.mean) for one in shown]
            aside = 0.012 * (name == "tv")  # so that intervals do not hide each other
            x = [_place(horizon_of(one)) + aside for one in shown]
            label = f"gamma {gamma:g}, {SETS[name]}"
            ax.plot(x, [i.estimate for i in found], ms=4, color=color(index), label=label, **STYLES[name])
            ax.vlines(x, [i.low for i in found], [i.high for i in found], color=color(index), alpha=0.35, linewidth=1.2)
        ticks = [g for g in (0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999) if g <= max(gammas)]
        ticks = [g for g in ticks if g >= min(map(horizon_of, scored)) - 0.005]
        ax.set_xticks([_place(g) for g in ticks], [f"{g:g}" for g in ticks])
        ax.set(xlabel="gamma (1 - rho)", ylabel=score_axis(scored[0].config.env, when="under the named shifts"))
        title = "the point furthest to the right of each line: radius 0"
        legend: dict[str, Any] = {"ncols": len(gammas), "fontsize": 8, "title_fontsize": 8, "handlelength": 3.2}
        figure.legend(loc="outside lower center", title=title, **legend)
    return figure


def _row(one: Scored, found: np.ndarray) -> dict[str, object]:
    shown = interval_text(st.interval(found[:, None], st.mean))
    return {"method": one.title, "seeds": len(found), "gamma (1 - rho)": f"{horizon_of(one):.5g}", "outcome": shown}


def _compared(pairs: Sequence[Pair], worlds: Sequence[str], named: int) -> list[dict[str, object]]:
    both = [(named_outcome(a, worlds), named_outcome(b, worlds)) for a, b in pairs]
    corrected = st.holm([*(st.welch_p(x, y) for x, y in both), *[1.0] * (named - len(pairs))])
    return [
        {
            "comparison": f"{pair[0].title} over {pair[1].title}",
            "seeds": f"{len(x)}/{len(y)}",
            "difference": interval_text(st.difference(x, y)),
            "p (Holm)": f"{p:.3f}{'*' if p < 0.05 and fewer_seeds(pair) >= st.VERDICT_SEEDS else ''}",
        }
        for pair, (x, y), p in zip(pairs, both, corrected[: len(pairs)], strict=True)
    ]
