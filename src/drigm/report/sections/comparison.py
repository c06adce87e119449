"""The section of statistics: aggregates of each method, and what robustness gained and cost against its baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from drigm.evaluation.statistics import (
    FEW,
    VERDICT_SEEDS,
    Interval,
    difference,
    nominal_cost,
    probability_of_improvement,
    verdict,
    worst_per_seed,
)
from drigm.report.figures.aggregates import (
    aggregate_columns,
    aggregate_rows,
    best_known,
    limit_told,
    profile_alt,
    profiles,
)
from drigm.report.html import Html, Section, escape, figure_html, interval_html, paragraph, table_html
from drigm.report.study import Method, Study


def statistics_section(study: Study, suffix: str = "") -> Section:
    """Return the aggregates of every method, and its comparison with the non-robust one where there is one."""
    scores = {method.label: method.scores for method in study.methods}
    limit = best_known(study.name, study.worlds)
    rows = aggregate_rows(scores, study.worlds, limit)
    panels = {study.name: scores}
    figure = profiles(panels, xlabel=study.score_axis)
    drawn = figure_html(
        figure, profile_alt(panels), "Performance profiles: the higher, the better; bands are pointwise 95 % intervals."
    )
    table = table_html(rows, aggregate_columns(rows))
    body = [_reading(study), paragraph(limit_told(limit)), table, drawn, *_comparisons(study)]
    return Section("Statistics", f"statistics{suffix}", "".join(body), {"profiles": figure})


def comparison_row(method: Method, baseline: Method) -> dict[str, Any]:
    """Return what a method gains and costs against its non-robust baseline, with verdicts by the intervals."""
    everywhere = probability_of_improvement(method.scores, baseline.scores, whole_seeds=True)
    worst = probability_of_improvement(worst_per_seed(method.scores), worst_per_seed(baseline.scores))
    cost = cost_of(method, baseline)
    seeds = min(len(method.seeds), len(baseline.seeds))
    shared = len({*method.seeds} & {*baseline.seeds})  # the cost is paired by them, if there are two
    return {
        "method": method.label,
        "against": baseline.label,
        "everywhere": everywhere,
        "verdict": verdict_html(everywhere, seeds=seeds),
        "worst": worst,
        "worst_verdict": verdict_html(worst, seeds=seeds),
        "cost": cost,
        "cost_verdict": verdict_html(
            Interval(-cost.estimate, -cost.high, -cost.low), 0.0, shared if shared > 1 else seeds
        ),
    }


def verdict_html(interval: Interval, level: float = 0.5, seeds: int | None = None) -> Html:
    """Return the verdict of `drigm.evaluation.statistics.verdict`, in its colour."""
    word = verdict(interval, level, seeds)
    kind = {"better": " better", "worse": " worse", "one seed": " open", "too few seeds": " open"}.get(word, "")
    return Html(f'<span class="verdict{kind}">{word}</span>')


def cost_of(method: Method, baseline: Method) -> Interval:
    """Return the nominal cost of robustness, paired where both have the same seeds."""
    seeds, others = method.seeds, baseline.seeds
    shared = sorted(set(seeds) & set(others))
    if len(shared) < 2:
        return difference(baseline.nominal, method.nominal)
    return nominal_cost(_of_seeds(method.nominal, seeds, shared), _of_seeds(baseline.nominal, others, shared))


def _of_seeds(scores: np.ndarray, seeds: Sequence[int], wanted: Sequence[int]) -> np.ndarray:
    return scores[[list(seeds).index(seed) for seed in wanted]]


def _comparisons(study: Study) -> list[Html]:
    pairs = [(method, baseline) for method in study.methods if (baseline := study.baseline_of(method)) is not None]
    if not pairs:
        text = "No comparison: there is no non-robust run with the same settings otherwise."
        return [Html("<h3>Against the non-robust team</h3>"), paragraph(text)]
    columns = {
        "method": "Method",
        "against": "Against",
        "everywhere": "P(improvement), all worlds",
        "worst": "P(improvement), worst world",
        "cost": "Nominal cost",
    }
    rows = [_with_verdicts(comparison_row(*pair)) for pair in pairs]
    note = paragraph(
        "P(improvement) is the probability that a seed of the method scores higher than one of the non-robust team;",
        "0.5 is no difference. The nominal cost is what the method scores less where nothing shifts.",
        "A verdict says better or worse only where the 95 % interval leaves out no difference,",
        f"and only of {VERDICT_SEEDS} seeds or more.",
    )
    return [Html("<h3>Against the non-robust team</h3>"), note, table_html(rows, columns)]


def _with_verdicts(row: dict[str, Any]) -> dict[str, Any]:
    """A row as it is shown: each interval under its verdict."""
    verdicts = {"everywhere": "verdict", "worst": "worst_verdict", "cost": "cost_verdict"}
    return row | {key: Html(f"{row[name]}<br>{interval_html(row[key])}") for key, name in verdicts.items()}


def _reading(study: Study) -> Html:
    few = study.fewest < FEW
    how = (
        "of Student's t with the jackknife's error over whole seeds" if few else "by a bootstrap that draws whole seeds"
    )
    text = [
        f"Over seeds and the {len(study.worlds)} worlds of suite {study.suite!r}, with 95 % intervals {how},",
        "because one trained team plays all worlds.",
    ]
    if study.fewest == 1:
        text.append("A single seed has no interval.")
    return paragraph(*map(escape, text))
