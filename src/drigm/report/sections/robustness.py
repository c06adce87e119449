"""Sections on shifted worlds: scores by world, and scores by radius."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from drigm.core.naming import method_name
from drigm.envs import SUBPROCESS_KINDS
from drigm.envs.perturbations import PERTURBATIONS
from drigm.evaluation.controllers import TITLES
from drigm.evaluation.statistics import (
    Interval,
    interval,
    mean,
    per_world,
    probability_of_improvement,
    verdict,
    worst_per_seed,
    worst_world,
)
from drigm.report.figures.aggregates import strengths
from drigm.report.figures.curves import Band, leaders, radius_curves, world_intervals, world_name
from drigm.report.html import Html, Section, figure_html, paragraph, table_html
from drigm.report.study import Method, Study, family

RIVALS = ("pi", "pi_tuned", "base_stock", "moving_average")  # controllers that see no more than agents


def shifts_section(study: Study, suffix: str = "") -> Section:
    """Return each method's score in each world, with nominal and worst told apart."""
    scores = {method.label: per_world(method.scores) for method in (*study.methods, *study.trimmed)}
    name = study.score_name
    figure = world_intervals(
        scores | _controller_drawn(study),
        study.worlds,
        nominal=study.nominal,
        strengths=strengths(study.worlds),
        ylabel=study.score_axis,
        title=leading(study),
    )
    alt = f"{name} in each world. " + "; ".join(
        f"{label}: "
        + ", ".join(f"{world_name(w)} {i.estimate:.3f}" for w, i in zip(study.worlds, intervals, strict=True))
        for label, intervals in scores.items()
    )
    caption = (
        f"Greedy play of {study.episodes} episodes a world, mean over seeds; "
        f"whiskers and bands are 95 % intervals over seeds.{_strength_meaning(study)}"
    )
    notes = [_shift_note(study), _controllers_note(study)]
    body = [*notes, figure_html(figure, alt, caption), _shift_table(study, scores)]
    return Section("Robustness to shifts", f"shifts{suffix}", "".join(body), {"worlds": figure})


def leading(study: Study) -> str:
    """Return which method is ahead in its worst world, as the verdicts on worst worlds would have it."""
    summaries = {m.label: worst_world(m.scores) for m in study.methods}
    seeds = {m.label: worst_per_seed(m.scores) for m in study.methods}
    return leaders(summaries, "in the worst world", study.fewest, seeds)


def best_rival(study: Study) -> str | None:
    """Return the controller, of those that see no more than agents, that is best where each is worst; None without."""
    found = [name for name in study.controllers if name in RIVALS]
    return max(found, key=lambda name: min(study.controllers[name]), default=None)


def radius_section(study: Study, suffix: str = "") -> Section | None:
    """Return scores against the radius rho, or None where no method comes with several radii."""
    panels, titles = {}, []
    for title, methods in _families(study.methods).items():
        plain = study.baseline_of(methods[0])
        ordered = sorted([*methods, *filter(None, [plain])], key=_radius)
        if len(methods) > 1:
            titles.append(f"{title}: {_best_radius(ordered, study.fewest)}")
            panels[title] = {
                "nominal": Band(*_by_radius(ordered, lambda m: per_world(m.nominal[:, None])[0])),
                "mean of all worlds": Band(*_by_radius(ordered, mean_of_worlds)),
                "worst world": Band(*_by_radius(ordered, lambda m: worst_world(m.scores))),
            }
    if not panels:
        return None
    figure = radius_curves(panels, ylabel=study.score_axis, title=". ".join(titles))
    alt = f"{study.score_name} over the radius. " + "; ".join(
        f"{family}, {name}: " + ", ".join(f"{x:g}: {i.estimate:.3f}" for x, i in zip(*band, strict=True))
        for family, panel in panels.items()
        for name, band in panel.items()
    )
    caption = "Radii stand at equal distances. Bands are 95 % intervals over seeds; one seed has none."
    return Section("How much robustness?", f"radius{suffix}", figure_html(figure, alt, caption), {"rho": figure})


def mean_of_worlds(method: Method) -> Interval:
    """Return the mean over seeds and worlds; one team plays all worlds, so seeds are drawn whole."""
    return interval(method.scores, mean, whole_seeds=True)


def worst_name(method: Method, worlds: Sequence[str]) -> str:
    """Return the world in which the method's mean score is lowest."""
    return world_name(worlds[int(np.argmin(method.scores.mean(axis=0)))])


def _strength_meaning(study: Study) -> str:
    """Return what the axis counts where the worlds are strengths of one perturbation, with a space before it."""
    name = study.worlds[-1].partition("=")[0]
    kind = PERTURBATIONS.get(name) or study.env.parameters.get(name)
    return f" Strength: {kind.about}." if kind is not None and strengths(study.worlds) else ""


def _shift_note(study: Study) -> Html:
    nominal = f"The nominal world is {world_name(study.nominal)}." if study.nominal in study.worlds else ""
    # Of environments in other processes it is not known whether a world is that of training.
    known = study.name.partition(":")[0] not in SUBPROCESS_KINDS
    where = "the world it was trained in is none of them" if known and not nominal else ""
    of = study.worlds[-1].partition("=")[0] if strengths(study.worlds) else f"Suite {study.suite!r}"
    many = f"{of}: {len(study.worlds)} worlds"
    return paragraph(f"{many}; {where}." if where else f"{many}.", nominal)


def _controllers_note(study: Study) -> Html:
    """Say how the best team and the best controller that agents could have compare where each is worst."""
    best = best_rival(study)
    if best is None:
        return Html()
    alone = min(study.controllers[best])
    team = max(study.methods, key=lambda method: float(method.scores.mean(axis=0).min()))
    mean = float(team.scores.mean(axis=0).min())
    said = "which is more" if mean > alone else "which is not more"
    return paragraph(
        f"{TITLES[best]}, which learns nothing, scores {alone:.3f} in its worst world;",
        f"{team.label} {mean:.3f} in its own, on average over seeds, {said}.",
    )


def _controller_drawn(study: Study) -> dict[str, list[Interval]]:
    """Return the controller that is best where each is worst as one more curve, without intervals."""
    best = best_rival(study)
    return {} if best is None else {TITLES[best]: [Interval(x, x, x) for x in study.controllers[best]]}


def _shift_table(study: Study, scores: dict[str, list[Interval]]) -> Html:
    rows = []
    for method in (*study.methods, *study.trimmed):
        rows.append(
            {
                "method": method.label,
                "seeds": len(method.seeds),
                **dict(zip(study.worlds, scores[method.label], strict=True)),
                "worst": worst_world(method.scores),
                "where": worst_name(method, study.worlds),
            }
        )
    for name, found in study.controllers.items():
        where = world_name(study.worlds[int(np.argmin(found))])
        cells = dict(zip(study.worlds, found, strict=True))
        rows.append({"method": TITLES[name], **cells, "worst": min(found), "where": where})
    headings = {w: f"{world_name(w)}{' (nominal)' if w == study.nominal else ''}" for w in study.worlds}
    ends = {"worst": "Each seed's worst", "where": "Lowest mean in"}
    columns = {"method": "Method", "seeds": "Seeds", **headings, **ends}
    return table_html(rows, columns)


def _families(methods: Sequence[Method]) -> dict[str, list[Method]]:
    """Robust methods that differ in nothing but their radius, by factorization and set."""
    found: dict[str, list[Method]] = {}
    titles: dict[str, str] = {}
    for method in methods:
        if method.robust:
            found.setdefault(family(method.config), []).append(method)
            titles[family(method.config)] = _family_title(method)
    several = {key: members for key, members in found.items() if len({_radius(m) for m in members}) == len(members)}
    return {_distinct(titles, key): members for key, members in several.items()}


def _family_title(method: Method) -> str:
    config = method.config
    return method_name(config).removesuffix(f" {config.rho:g}")


def _distinct(titles: dict[str, str], key: str) -> str:
    same = [k for k in titles if titles[k] == titles[key]]
    return titles[key] if len(same) == 1 else f"{titles[key]} ({same.index(key) + 1})"


def _radius(method: Method) -> float:
    return method.config.rho


def _by_radius(methods: Sequence[Method], summary: Callable[[Method], Interval]) -> tuple[list[float], list[Interval]]:
    return [_radius(m) for m in methods], [summary(m) for m in methods]


def _best_radius(methods: Sequence[Method], seeds: int) -> str:
    """Return which radius is highest in the worst world, if it is one that the verdict calls better than 0."""
    best = max(methods, key=lambda m: (worst_world(m.scores).estimate, -_radius(m)))
    plain = next((m for m in methods if not _radius(m)), None)
    if plain is not None:
        above = probability_of_improvement(worst_per_seed(best.scores), worst_per_seed(plain.scores))
        if verdict(above, seeds=seeds) != "better":
            return "no radius is clearly above ρ = 0 in the worst world"
    return f"highest in the worst world at ρ = {_radius(best):g}"
