"""Did robustness pay? Each robust method against what it must beat, by intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from drigm import statistics as st
from drigm.references import reference_method
from drigm.report.comparison import verdict_html
from drigm.report.page import Html, interval_html
from drigm.reproduce.compare import REPETITIONS, find, matrix, worlds_of
from drigm.reproduce.runner import Scored
from drigm.reproduce.studies import title

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
        return st.verdict(getattr(self, place), 0.0)


def questions(scored: Sequence[Scored]) -> list[Against]:
    """Return each robust method against its non-robust team, the plain discount and GroupDR, where trained."""
    asked = []
    for kind, called in KINDS.items():
        for one in filter(_robust, scored):
            other = discount_of(scored, one) if kind == "short_horizon" else _plain(scored, one, kind)
            if other is not None and other is not one:
                asked.append(against(one, other)._replace(kind=called))
    return asked


def discount_of(scored: Sequence[Scored], one: Scored) -> Scored | None:
    """Return the plain discount gamma (1 - rho) of a method's radius, if it was trained.

    In battles it is contamination: rewards are positive, so its fail value is 0 and its target gamma (1 - rho) V'.
    """
    config = one.run.config
    name = "contamination" if one.evaluation.suite == "noise" else "short_horizon"
    return find(scored, config.factorization, name, config.rho)


def _plain(scored: Sequence[Scored], one: Scored, kind: str) -> Scored | None:
    return find(scored, one.run.config.factorization, kind, 0.0)


def _robust(one: Scored) -> bool:
    config = one.run.config
    return config.baseline == "none" and reference_method(config) != "nominal"


def against(first: Scored, second: Scored) -> Against:
    """Compare two methods; runs are not paired by seed, whole teams are drawn (see `drigm.statistics`)."""
    x, y = matrix(first), matrix(second)

    def less(a: Any, b: Any) -> st.Interval:
        return st.difference(a, b, repetitions=REPETITIONS)

    return Against(
        first.title,
        second.title,
        KINDS.get(reference_method(second.run.config), ""),
        seeds=min(len(x), len(y)),
        worst=less(x.min(axis=1), y.min(axis=1)),
        mean=less(x.mean(axis=1), y.mean(axis=1)),
        nominal=less(x[:, 0], y[:, 0]),
        worlds={world: less(x[:, w], y[:, w]) for w, world in enumerate(worlds_of(first))},
        probability=st.probability_of_improvement(x.min(axis=1), y.min(axis=1), repetitions=REPETITIONS),
    )


def note(asked: Sequence[Against]) -> str:
    """Return how to read the comparisons, and how many of their verdicts chance alone would give."""
    told = (
        "Differences are the first method's score minus the second's, with 95 % bootstrap intervals over seeds; better "
        "or worse is said only where the interval leaves out 0. P(better): probability that a run of the first scores "
        "higher than one of the second."
    )
    rate = st.FALSE_DIFFERENCES.get(min((a.seeds for a in asked), default=0))
    if rate is None:
        return told
    seeds, many = min(a.seeds for a in asked), len(asked)
    return (
        f"{told} With {seeds} seeds such an interval leaves out 0 in {100 * rate:.0f} of 100 comparisons of equal "
        f"methods: were all equal, about {rate * many:.0f} of the {many} verdicts in each column would be better or "
        "worse."
    )


def counted(asked: Sequence[Against]) -> str:
    """Return how the verdicts fell against each kind of baseline, place by place, in a sentence each."""
    told = []
    for kind in dict.fromkeys(a.kind for a in asked):
        parts = []
        for place, called in PLACES.items():
            found = [a.verdict(place) for a in asked if a.kind == kind]
            words = [w for w in ("better", "no clear difference", "worse", "one seed") if w != "one seed" or w in found]
            parts.append(f"{called}: " + ", ".join(f"{found.count(word)} {word}" for word in words))
        told.append(f"Robust methods against {kind}, {'; '.join(parts)}.")
    return " ".join(told)


def untrained(scored: Sequence[Scored]) -> list[str]:
    """Return the robust methods whose plain discount gamma (1 - rho) was not trained."""
    return [title(one.run.config) for one in filter(_robust, scored) if discount_of(scored, one) is None]


def question_rows(asked: Sequence[Against], *, html: bool = False) -> list[dict[str, Any]]:
    """Return the comparisons as rows of a table; as ``html``, verdicts have their colours."""

    def cell(interval: st.Interval) -> Any:
        if html:
            return Html(f"{verdict_html(interval, 0.0)}<br>{interval_html(interval)}")
        ends = "" if interval.low != interval.low else f" [{interval.low:.3f}, {interval.high:.3f}]"  # nan: one seed
        return f"{interval.estimate:+.3f}{ends} {st.verdict(interval, 0.0)}"

    return [
        {
            "method": a.first,
            "against": a.second,
            **{called: cell(getattr(a, place)) for place, called in PLACES.items()},
            "P(better), worst world": a.probability,
        }
        for a in asked
    ]


def world_rows(asked: Sequence[Against]) -> list[dict[str, Any]]:
    """Return the difference in every world, each with its interval; ``*`` where that leaves out 0."""

    def cell(interval: st.Interval) -> str:
        ends = "" if interval.low != interval.low else f" [{interval.low:+.3f}, {interval.high:+.3f}]"
        return f"{interval.estimate:+.3f}{ends}{'*' if st.significant(interval, 0.0) else ''}"

    return [{"method": a.first, "against": a.second, **{w: cell(i) for w, i in a.worlds.items()}} for a in asked]
