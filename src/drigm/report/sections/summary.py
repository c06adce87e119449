"""The top of a report: three sentences and one picture. What was compared, how it held, whether it paid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from drigm.evaluation.controllers import TITLES
from drigm.evaluation.statistics import VERDICT_SEEDS, Interval, per_world, verdict, worst_per_seed, worst_world
from drigm.evaluation.statistics import probability_of_improvement as improvement
from drigm.report.figures.dots import Held, held_rows
from drigm.report.html import Section, figure_html, paragraph
from drigm.report.sections.comparison import cost_of
from drigm.report.sections.robustness import best_rival, leading
from drigm.report.study import Study

NAN = float("nan")
MOST = 8  # rows of the picture; of more methods those that hold best
OUTCOMES = ("better", "no clear difference", "worse", "too few seeds", "one seed")


def summary_section(study: Study, suffix: str = "") -> Section:
    """Return what was compared, how it held and whether robustness paid, with one picture of it."""
    figure = held_rows(_rows(study), title="At home and in the worst world", axis=study.score_axis)
    alt = "; ".join(
        f"{row.label}: {row.home.estimate:.3f} where nothing shifts, {row.worst.estimate:.3f} in its worst world"
        for row in _rows(study)
    )
    caption = "Means over seeds of greedy play, with 95 % intervals; controllers learn nothing and have no seeds."
    said = "".join(map(paragraph, (_compared(study), _held(study), paid(study))))
    return Section("In short", f"summary{suffix}", said + figure_html(figure, alt, caption), {"held": figure})


def paid(study: Study) -> str:
    """Return whether robustness paid, by the verdicts on worst worlds and on the nominal cost."""
    pairs = [(method, other) for method in study.methods if (other := study.baseline_of(method)) is not None]
    if not pairs:
        return "Whether robustness paid cannot be told: no non-robust run has the same settings otherwise."
    seeds = min(len(method.seeds) for pair in pairs for method in pair)
    if seeds < VERDICT_SEEDS:
        return (
            f"Whether robustness paid is open: a verdict needs {VERDICT_SEEDS} seeds of each team, and one has {seeds}."
        )
    gains = [verdict(improvement(worst_per_seed(a.scores), worst_per_seed(b.scores)), seeds=seeds) for a, b in pairs]
    costs = [verdict(_gain(cost_of(a, b)), 0.0, seeds) for a, b in pairs]
    if len(pairs) == 1:
        who, worst, home = pairs[0][0].label, gains[0], costs[0]
        return f"{who} against the non-robust team: {worst} in the worst world, {home} where nothing shifts."
    return (
        f"{len(pairs)} robust methods against their non-robust teams: in the worst world {counted(gains)}; "
        f"where nothing shifts {counted(costs)}."
    )


def _compared(study: Study) -> str:
    names = [f"{m.label} ({len(m.seeds)} seed{'s' if len(m.seeds) > 1 else ''})" for m in study.methods]
    what = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    if len(names) > 4:
        what = f"{len(names)} methods ({spread([len(m.seeds) for m in study.methods])} seeds each)"
    steps = spread([m.config.steps for m in study.methods])
    return (
        f"{what} trained for {steps} steps a seed in {study.name} and then played greedily: "
        f"{study.episodes} episodes in each of the {len(study.worlds)} worlds of suite {study.suite!r}."
    )


def _held(study: Study) -> str:
    rival = best_rival(study)
    beside = f"; {TITLES[rival]}, which learns nothing, reaches {min(study.controllers[rival]):.3f}" if rival else ""
    return f"{leading(study)}{beside}."


def _rows(study: Study) -> list[Held]:
    found = [Held(m.label, per_world(m.nominal[:, None])[0], worst_world(m.scores)) for m in study.methods]
    if len(found) > MOST:
        kept = sorted(found, key=lambda row: -row.worst.estimate)[:MOST]
        found = [row for row in found if row in kept]
    rival = best_rival(study)
    if rival and study.nominal in study.worlds:
        scores = study.controllers[rival]
        home, worst = scores[study.worlds.index(study.nominal)], min(scores)
        found.append(Held(TITLES[rival], Interval(home, NAN, NAN), Interval(worst, NAN, NAN), learnt=False))
    return found


def _gain(cost: Interval) -> Interval:
    return Interval(-cost.estimate, -cost.high, -cost.low)


def counted(words: Sequence[str]) -> str:
    """Return how often each verdict was given, of those that were."""
    return ", ".join(f"{words.count(word)} {word}" for word in OUTCOMES if word in words)


def spread(numbers: Iterable[int]) -> str:
    """Return the lowest and the highest number, or the one that all are."""
    numbers = list(numbers)
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
