"""Is one method better than another? Probability of improvement per world, in the worst world, and on average.

python tools/comparisons.py results/building "VDN-TV 0.5" VDN     # from results/building/scores.csv
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from drigm.core.errors import UserError, check, choose
from drigm.evaluation import statistics as st
from drigm.report.figures.style import drawing, save
from drigm.report.tables import format_table, markdown_table

REPETITIONS = 10_000
Scores = dict[str, dict[str, list[float]]]  # method: world: score of every seed


class Comparison(NamedTuple):
    """Two methods and, by place, the probability that a run of the first beats one of the second."""

    method: str
    other: str
    seeds: tuple[int, int]
    probability: dict[str, st.Interval]  # every world, then "worst world" and "mean of worlds"
    difference: dict[str, st.Interval]  # of the mean scores, same places


def compare(scores: Scores, method: str, other: str) -> Comparison:
    """Return the comparison of two methods: all pairs of their runs, not paired by seed (see `drigm.statistics`)."""
    x, y = (np.array(list(scores[name].values())).T for name in (method, other))  # [K, W]
    worlds = list(scores[method])
    places = {name: (x[:, i], y[:, i]) for i, name in enumerate(worlds)}
    places["worst world"] = x.min(axis=1), y.min(axis=1)
    places["mean of worlds"] = x.mean(axis=1), y.mean(axis=1)
    probability = {name: st.probability_of_improvement(*pair, repetitions=REPETITIONS) for name, pair in places.items()}
    difference = {name: st.difference(*pair, repetitions=REPETITIONS) for name, pair in places.items()}
    return Comparison(method, other, (len(x), len(y)), probability, difference)


def rows_of(comparison: Comparison) -> list[dict[str, str]]:
    """Return one row with the probabilities and one with the differences; ``*``: the interval excludes no effect."""
    name, seeds = f"{comparison.method} over {comparison.other}", f"{comparison.seeds[0]}/{comparison.seeds[1]}"
    fewer = min(comparison.seeds)
    first = {place: _cell(interval, 0.5, 2, fewer) for place, interval in comparison.probability.items()}
    second = {place: _cell(interval, 0.0, 3, fewer) for place, interval in comparison.difference.items()}
    return [
        {"comparison": name, "seeds": seeds, "measure": "P(better)", **first},
        {"comparison": "", "seeds": "", "measure": "difference", **second},
    ]


def _cell(interval: st.Interval, level: float, digits: int, seeds: int) -> str:
    star = "*" if st.significant(interval, level, seeds) else ""
    return f"{interval.estimate:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]{star}"


def write_comparisons(found: list[Comparison], out: Path) -> None:
    """Write comparisons.md, comparisons.csv and comparisons.png into ``out``."""
    rows = [row for comparison in found for row in rows_of(comparison)]
    note = (
        "P(better): probability that a run of the first method scores higher than one of the second, with a 95 % "
        "score interval; difference: of their mean scores, with Welch's. `*`: the interval excludes no effect (0.5, "
        f"0), of {st.VERDICT_SEEDS} seeds or more; with fewer nothing is marked. Such an interval excludes it in about "
        "5 of 100 comparisons of equal methods, and there are many here. A difference between runs that are all equal "
        "has no width. Runs are not paired by seed."
    )
    (out / "comparisons.md").write_text(f"{note}\n\n{markdown_table(rows)}\n")
    with open(out / "comparisons.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "other", "place", "measure", "estimate", "low", "high"])
        for c in found:
            for measure, values in (("probability of improvement", c.probability), ("difference", c.difference)):
                for place, interval in values.items():
                    numbers = (f"{x:.5f}" for x in interval)
                    writer.writerow([c.method, c.other, place, measure, *numbers])
    _draw(found, out / "comparisons.png")


def _draw(found: list[Comparison], path: Path) -> None:
    """Draw every comparison as a row of intervals, one column per place; 0.5 is no difference."""
    places = list(found[0].probability)
    with drawing(1.9 + 1.25 * len(places), 0.9 + 0.42 * len(found)) as figure:
        axes = figure.subplots(1, len(places), sharey=True)
        heights = np.arange(len(found))[::-1]
        for ax, place in zip(axes, places, strict=True):
            ax.axvline(0.5, color="0.6", linewidth=0.8)
            for height, comparison in zip(heights, found, strict=True):
                estimate, low, high = comparison.probability[place]
                sure = st.significant(comparison.probability[place], 0.5, min(comparison.seeds))
                ax.plot([low, high], [height, height], color="#0b5d8a" if sure else "0.55", linewidth=2)
                ax.plot(estimate, height, "o", color="#0b5d8a" if sure else "0.45", markersize=5)
            ax.set(xlim=(-0.05, 1.05), title=place, xticks=[0, 0.5, 1])
            ax.set_xticklabels(["0", "½", "1"])
        axes[0].set_yticks(heights, [f"{c.method}\nover {c.other}" for c in found])
        axes[0].set_ylim(-0.6, len(found) - 0.4)
        figure.supxlabel("Probability that a run of the first beats one of the second, with 95 % interval")
        save(figure, path)


def read_scores(path: Path) -> Scores:
    """Return what results_table.py wrote."""
    check(path.is_file(), "scores", str(path), "give a directory that tools/results_table.py has written")
    scores: Scores = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            scores.setdefault(row["method"], {}).setdefault(row["world"], []).append(float(row["score"]))
    return scores


def main() -> int:
    """Print the comparison of two methods."""
    if len(sys.argv) != 4:
        print(__doc__)
        return 2
    scores = read_scores(Path(sys.argv[1]) / "scores.csv")
    names = [choose("method", name, tuple(scores)) for name in sys.argv[2:]]
    print(format_table(rows_of(compare(scores, *names))))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"comparisons: {error}", file=sys.stderr)
        sys.exit(2)
