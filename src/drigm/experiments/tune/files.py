"""What a tuning leaves: tune.json, trials.csv and a page."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from drigm.evaluation.statistics import Interval
from drigm.experiments.tune.outcome import Outcome, percent
from drigm.report.figures.tuning import gain_curves
from drigm.report.html import Section, figure_html, paragraph, signed, table_html, write_page
from drigm.report.tables import write_csv
from drigm.runtime.files import write_text
from drigm.storage.results import to_json

HOW_PREDICTED = (
    "Every seed's gain in every group is that of the point which the other seeds choose in the other groups. So no "
    "world and no seed has a part in the choice that it judges; the interval is over seeds."
)
HOW_COUNTED = (
    "Prices and gains are percent of the size of what the non-robust team of the same seeds gets in the same worlds: "
    "of its return, also where that is negative because it is a cost, or of battles of the share that it wins. "
    "Brackets: 95 % intervals over seeds. The gain by which a point is chosen is rosy; the prediction is not."
)


def write_outcome(folder: Path, about: Mapping[str, Any], outcome: Outcome, command: str) -> None:
    """Write everything about ``outcome`` into ``folder``; ``about`` is what was asked for."""
    content = {"drigm": version("drigm"), "asked": dict(about), **outcome.to_dict()}
    write_text(folder / "tune.json", to_json(content))
    _write_trials(folder / "trials.csv", outcome)
    write_page(folder / "report.html", _heading(outcome), _lead(outcome), _sections(outcome), command)


def _write_trials(file: Path, outcome: Outcome) -> None:
    """Write a line per point: its settings, price and gains as shares, and every seed's return at home."""
    names, groups = list(outcome.point), [group.title for group in outcome.groups]
    truths = [f"truth {truth.worlds}" for truth in outcome.truths]
    rows: list[list[object]] = [[*names, "state", "price", "gain", *truths, "home_per_seed", *groups]]
    for i, trial in enumerate(outcome.finished):
        given = [trial.point[name] for name in names]
        gained = [outcome.prices[i].estimate, outcome.gains[i].estimate]
        gained += [truth.gains[i].estimate for truth in outcome.truths]
        means = trial.source.mean(axis=0)
        state = "chosen" if i == outcome.chosen else trial.state
        rows.append([*given, state, *map(repr, gained), " ".join(map(repr, trial.home.tolist())), *means.tolist()])
    rows += [[*(trial.point[name] for name in names), trial.state] for trial in outcome.lost]
    write_csv(file, rows)


def _heading(outcome: Outcome) -> str:
    return f"A radius for {outcome.method}"


def _lead(outcome: Outcome) -> str:
    seeds = f"{outcome.seeds} seed{'s' if outcome.seeds > 1 else ''} each"
    points = len(outcome.finished) + len(outcome.lost)
    return f"{points} points, {seeds}: chosen in source worlds, within a budget at home."


def _sections(outcome: Outcome) -> list[Section]:
    points = [trial.name for trial in outcome.finished]
    home = [Interval(0.0 - p.estimate, 0.0 - p.high, 0.0 - p.low) for p in outcome.prices]
    curves = {"at home": home, "in source worlds": outcome.gains}
    curves |= {f"truth: {truth.worlds}": truth.gains for truth in outcome.truths}
    title = signed(f"{points[outcome.chosen]}: {percent(outcome.predicted)} predicted elsewhere")
    figure = gain_curves(curves, points, chosen=outcome.chosen, budget=outcome.budget, title=title)
    alt = "; ".join(f"{name}: {percent(gains[outcome.chosen])} for the choice" for name, gains in curves.items())
    said = "".join(map(paragraph, outcome.sentences()))
    body = said + figure_html(figure, alt, "Bands: 95 % intervals over seeds, paired with the non-robust team's.")
    sections = [
        Section("In short", "summary", body, {"gains": figure}),
        Section("Every point", "trials", paragraph(HOW_COUNTED) + table_html(outcome.rows())),
        Section("What each group of worlds says", "folds", paragraph(HOW_PREDICTED) + table_html(outcome.fold_rows())),
    ]
    if outcome.truths:
        sections.append(Section("The truth", "truth", table_html(_truth_rows(outcome))))
    return sections


def _truth_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """Return a row for each truth and rival: what it gained there."""
    rows = list[dict[str, Any]]()
    for truth in outcome.truths:
        best = outcome.finished[truth.hindsight]
        players = [
            ("chosen", outcome.finished[outcome.chosen].name, truth.gains[outcome.chosen]),
            ("best in hindsight, within the budget", best.name, truth.gains[truth.hindsight]),
            ("always 0", outcome.finished[0].name, truth.gains[0]),
        ]
        if truth.paper is not None:
            players.append(("always the paper's", f"rho={truth.paper[0]['rho']:g}", truth.paper[1]))
        rows += [
            {"worlds": truth.worlds, "who": who, "point": point, "gain %": percent(gain).replace(" %", "")}
            for who, point, gain in players
        ]
    return rows
