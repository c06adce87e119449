"""Did robustness pay? Each robust method against what it must beat, by intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from drigm.core.naming import method_name
from drigm.evaluation import statistics as st
from drigm.evaluation.published import Reference, authors_score, reference_method
from drigm.evaluation.statistics.student import student_ends
from drigm.experiments.reproduce.compare import factorizations_of, find, matrix, worlds_of
from drigm.experiments.reproduce.runner import Scored
from drigm.report.html import Html, interval_html
from drigm.report.sections.comparison import verdict_html

AUTHORS_SEEDS = 5
KINDS = {"nominal": "non-robust teams", "short_horizon": "the plain discount", "groupdr": "GroupDR"}
PLACES = {"worst": "worst world", "mean": "mean of worlds", "nominal": "nominal world"}


class Against(NamedTuple):
    """One method against another over the worlds that both were scored in; differences are first minus second.

    Attributes:
        first, second: what the tables call them.
        kind: of baseline the second is, a value of `KINDS`.
        seeds: of the one that has fewer.
        worst, mean, nominal: difference of the scores: of each seed's worst world, of its mean over the worlds, in the
            training world.
        worlds: difference in each world.
        probability: that a run of the first beats one of the second, in the worst world.
    """

    first: str
    second: str
    kind: str
    seeds: int
    worst: st.Interval
    mean: st.Interval
    nominal: st.Interval
    worlds: dict[str, st.Interval]
    probability: st.Interval

    def verdict(self, place: str) -> str:
        """Return the verdict on the difference in ``place``, a name in `PLACES`."""
        return st.verdict(getattr(self, place), 0.0, self.seeds)


def questions(scored: Sequence[Scored]) -> list[Against]:
    """Return each robust method against its non-robust team, the plain discount and GroupDR, where trained."""
    asked = []
    for kind, called in KINDS.items():
        for one in filter(_robust, scored):
            other = discount_of(scored, one) if kind == "short_horizon" else _plain(scored, one, kind)
            if other is not None and other is not one:
                asked.append(against(one, other)._replace(kind=called))
    return asked


def sets_compared(scored: Sequence[Scored]) -> list[Against]:
    """Return TV against contamination for each factorization, each at its radius in the paper's table, where trained.

    The radii differ, as in the paper: this compares its two methods, not two sets of one size.
    """
    found = []
    for factorization in factorizations_of(scored):
        pair = [find(scored, factorization, method) for method in ("tv", "contamination")]
        if pair[0] is not None and pair[1] is not None:
            found.append(against(pair[0], pair[1]))
    return found


def authors_sets(cities: Sequence[str]) -> list[dict[str, Any]]:
    """Return TV against contamination of the authors' networks, by mean and standard error, as rows of a table."""
    rows = []
    for factorization in ("vdn", "qmix", "qtran"):
        row: dict[str, Any] = {"method": f"authors' {factorization.upper()} tv", "against": "contamination"}
        for city in cities:
            tv, other = (authors_score(city, factorization, method) for method in ("tv", "contamination"))
            if tv is not None and other is not None:
                row[city] = _world_cell(_welch(tv, other), AUTHORS_SEEDS)
        rows.append(row)
    return rows


def _welch(first: Reference, second: Reference) -> st.Interval:
    """Welch's interval of a difference; a reference's error is the population deviation / sqrt(seeds)."""
    freedom = AUTHORS_SEEDS - 1
    spreads = [(np.asarray(one.se**2 * AUTHORS_SEEDS / freedom), freedom) for one in (first, second)]
    estimate = np.asarray(first.mean - second.mean)
    return st.Interval(float(estimate), *map(float, student_ends(estimate, spreads, 0.95)))


def discount_of(scored: Sequence[Scored], one: Scored) -> Scored | None:
    """Return the plain discount gamma (1 - rho) of a method's radius, if it was trained.

    In battles it is contamination: rewards are positive, so its fail value is 0 and its target gamma (1 - rho) V'.
    """
    config = one.config
    name = "contamination" if one.evaluation.suite == "noise" else "short_horizon"
    return find(scored, config.factorization, name, config.rho)


def _plain(scored: Sequence[Scored], one: Scored, kind: str) -> Scored | None:
    return find(scored, one.config.factorization, kind, 0.0)


def _robust(one: Scored) -> bool:
    config = one.config
    return config.baseline == "none" and reference_method(config) != "nominal"


def against(first: Scored, second: Scored) -> Against:
    """Compare two methods; runs are not paired by seed, whole teams are drawn (see `drigm.evaluation.statistics`)."""
    x, y = matrix(first), matrix(second)
    return Against(
        first.title,
        second.title,
        KINDS.get(reference_method(second.config), ""),
        seeds=min(len(x), len(y)),
        worst=st.difference(x.min(axis=1), y.min(axis=1)),
        mean=st.difference(x.mean(axis=1), y.mean(axis=1)),
        nominal=st.difference(x[:, 0], y[:, 0]),
        worlds={world: st.difference(x[:, w], y[:, w]) for w, world in enumerate(worlds_of(first))},
        probability=st.probability_of_improvement(x.min(axis=1), y.min(axis=1)),
    )


def note(asked: Sequence[Against]) -> str:
    """Return how to read the comparisons, and how many of their verdicts chance alone would give."""
    sentences = (
        "Differences are the first method's score minus the second's, with 95 % intervals over seeds (Welch's, below "
        f"{st.FEW} seeds); better or worse is said only where the interval leaves out 0, and only of "
        f"{st.VERDICT_SEEDS} seeds or more. P(better): probability that a run of the first scores higher than one of "
        "the second."
    )
    if min((a.seeds for a in asked), default=0) < st.VERDICT_SEEDS:
        return sentences
    return (
        f"{sentences} Such an interval leaves out 0 in about 5 of 100 comparisons of equal methods: were all equal, "
        f"about {0.05 * len(asked):.2g} of the {len(asked)} verdicts in each column would be better or worse."
    )


def counted(asked: Sequence[Against]) -> str:
    """Return how the verdicts fell against each kind of baseline, place by place, in a sentence each."""
    sentences = []
    for kind in dict.fromkeys(a.kind for a in asked):
        parts = []
        for place, called in PLACES.items():
            found = [a.verdict(place) for a in asked if a.kind == kind]
            asked_for, open_ones = ("better", "no clear difference", "worse"), ("too few seeds", "one seed")
            words = [*asked_for, *(word for word in open_ones if word in found)]
            parts.append(f"{called}: " + ", ".join(f"{found.count(word)} {word}" for word in words))
        sentences.append(f"Robust methods against {kind}, {'; '.join(parts)}.")
    return "\n".join(sentences)


def untrained(scored: Sequence[Scored]) -> list[str]:
    """Return the robust methods whose plain discount gamma (1 - rho) was not trained."""
    return [method_name(one.config) for one in filter(_robust, scored) if discount_of(scored, one) is None]


def question_rows(asked: Sequence[Against], *, html: bool = False) -> list[dict[str, Any]]:
    """Return the comparisons as rows of a table; as ``html``, verdicts have their colours."""

    def cell(interval: st.Interval, seeds: int) -> Any:
        if html:
            return Html(f"{verdict_html(interval, 0.0, seeds)}<br>{interval_html(interval)}")
        ends = "" if interval.low != interval.low else f" [{interval.low:.3f}, {interval.high:.3f}]"  # nan: one seed
        return f"{interval.estimate:+.3f}{ends} {st.verdict(interval, 0.0, seeds)}"

    return [
        {
            "method": a.first,
            "against": a.second,
            **{called: cell(getattr(a, place), a.seeds) for place, called in PLACES.items()},
            "P(better), worst world": a.probability,
        }
        for a in asked
    ]


def world_rows(asked: Sequence[Against]) -> list[dict[str, Any]]:
    """Return the difference in every world, each with its interval; ``*`` where that leaves out 0."""

    return [
        {"method": a.first, "against": a.second, **{w: _world_cell(i, a.seeds) for w, i in a.worlds.items()}}
        for a in asked
    ]


def _world_cell(interval: st.Interval, seeds: int) -> str:
    ends = "" if interval.low != interval.low else f" [{interval.low:+.3f}, {interval.high:+.3f}]"  # nan: one seed
    return f"{interval.estimate:+.3f}{ends}{'*' if st.significant(interval, 0.0, seeds) else ''}"
