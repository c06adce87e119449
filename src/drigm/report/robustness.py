"""Sections on shifted worlds: scores by world, and scores by radius."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drigm.report.content import SHORT, Method, Study, family
from drigm.report.curves import Band, radius_curves, world_intervals
from drigm.report.figures import spaced
from drigm.report.page import Html, Section, escape, figure_html, paragraph, table_html
from drigm.statistics import Interval, mean, per_world, stratified_bootstrap, worst_world


def shifts_section(study: Study, suffix: str = "") -> Section:
    """Return each method's score in each world, with nominal and worst told apart."""
    scores = {method.label: per_world(method.scores) for method in study.methods}
    name = study.score_name
    figure = world_intervals(
        scores,
        study.worlds,
        nominal=study.nominal,
        strengths=strengths(study.worlds),
        ylabel=name,
        title=_title(study.methods),
    )
    alt = f"{name} in each world. " + "; ".join(
        f"{label}: " + ", ".join(f"{spaced(w)} {i.estimate:.3f}" for w, i in zip(study.worlds, intervals, strict=True))
        for label, intervals in scores.items()
    )
    caption = "Greedy play, mean over seeds; whiskers and bands are 95 % bootstrap intervals over seeds."
    body = [_shift_note(study), figure_html(figure, alt, caption), _shift_table(study, scores)]
    return Section("Robustness to shifts", f"shifts{suffix}", "".join(body), {"worlds": figure})


def radius_section(study: Study, suffix: str = "") -> Section | None:
    """Return scores against the radius rho, or None where no method comes with several radii."""
    panels = {}
    for title, methods in _families(study.methods).items():
        plain = study.baseline_of(methods[0])
        ordered = sorted([*([plain] if plain else []), *methods], key=_radius)
        if len(methods) > 1:
            panels[title] = {
                "nominal": Band(*_by_radius(ordered, lambda m: per_world(m.nominal[:, None])[0])),
                "mean of all worlds": Band(*_by_radius(ordered, mean_of_worlds)),
                "worst world": Band(*_by_radius(ordered, lambda m: worst_world(m.scores))),
            }
    if not panels:
        return None
    figure = radius_curves(panels, ylabel=study.score_name, title=_radius_title(panels))
    alt = f"{study.score_name} over the radius. " + "; ".join(
        f"{family}, {name}: " + ", ".join(f"{x:g}: {i.estimate:.3f}" for x, i in zip(*band, strict=True))
        for family, panel in panels.items()
        for name, band in panel.items()
    )
    caption = "Radii stand at equal distances. Bands are 95 % bootstrap intervals over seeds; one seed has none."
    return Section("How much robustness?", f"radius{suffix}", figure_html(figure, alt, caption), {"rho": figure})


def mean_of_worlds(method: Method) -> Interval:
    """Return the mean over seeds and worlds; one team plays all worlds, so seeds are drawn whole."""
    return stratified_bootstrap(method.scores, mean, whole_seeds=True)


def strengths(worlds: Sequence[str]) -> list[float] | None:
    """Return the strengths of worlds such as ``obs_noise=0.1``, or None where they are not one perturbation's."""
    pairs = [world.split("=") for world in worlds]
    if any(len(pair) != 2 for pair in pairs) or len({name for name, _ in pairs}) != 1 or len(pairs) < 2:
        return None
    try:
        return [float(value) for _, value in pairs]
    except ValueError:
        return None


def worst_name(method: Method, worlds: Sequence[str]) -> str:
    """Return the world in which the method's mean score is lowest."""
    return spaced(worlds[int(np.argmin(method.scores.mean(axis=0)))])


def _shift_note(study: Study) -> Html:
    nominal = f"The nominal world is {spaced(study.nominal)}." if study.nominal in study.worlds else ""
    where = "the world it was trained in is none of them" if not nominal else ""
    many = f"Suite {study.suite!r}: {len(study.worlds)} worlds"
    return paragraph(f"{many}; {where}." if where else f"{many}.", nominal)


def _shift_table(study: Study, scores: dict[str, list[Interval]]) -> Html:
    rows = []
    for method in study.methods:
        rows.append(
            {
                "method": method.label,
                "seeds": len(method.seeds),
                **dict(zip(study.worlds, scores[method.label], strict=True)),
                "worst": worst_world(method.scores),
                "where": worst_name(method, study.worlds),
            }
        )
    headings = {w: f"{spaced(w)}{' (nominal)' if w == study.nominal else ''}" for w in study.worlds}
    columns = {
        "method": "Method",
        "seeds": "Seeds",
        **headings,
        "worst": "Each seed's worst",
        "where": "Lowest mean in",
    }
    return table_html(rows, columns)


def _title(methods: Sequence[Method]) -> str:
    """Return what the picture shows: who is best where it is worst, if the intervals say so."""
    worst = sorted(((worst_world(m.scores), m.label) for m in methods), reverse=True)
    (best, label), *others = worst
    if not others:
        return f"{label}: {best.estimate:.3f} in its worst world"
    second, runner = others[0]
    if best.low > second.high:
        return f"{label} is best in its worst world, at {best.estimate:.3f}"
    return f"{label} ({best.estimate:.3f}) and {runner} ({second.estimate:.3f}) lead in their worst worlds; intervals overlap"


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
    return f"{config.factorization.upper()}-{SHORT.get(config.uncertainty, config.uncertainty)}"


def _distinct(titles: dict[str, str], key: str) -> str:
    same = [k for k in titles if titles[k] == titles[key]]
    return titles[key] if len(same) == 1 else f"{titles[key]} ({same.index(key) + 1})"


def _radius(method: Method) -> float:
    return method.config.rho


def _by_radius(methods, summary) -> tuple[list[float], list[Interval]]:
    return [_radius(m) for m in methods], [summary(m) for m in methods]


def _radius_title(panels: dict[str, dict[str, Band]]) -> str:
    best = {
        family: max(zip(panel["worst world"].intervals, panel["worst world"].x, strict=True))
        for family, panel in panels.items()
    }
    return "Best in the worst world: " + "; ".join(f"{escape(f)} at ρ = {x:g}" for f, (_, x) in best.items())
