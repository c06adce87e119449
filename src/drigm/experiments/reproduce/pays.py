"""Does robustness pay? Every gain of a robust team over its controls, in every domain, from the scores of the studies.

`drigm.experiments.reproduce.domains` says what the file of domains holds.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drigm.core.errors import choose
from drigm.core.strengths import parse_grid
from drigm.evaluation import statistics as st
from drigm.evaluation.controllers import evaluate_controller
from drigm.evaluation.statistics import Interval
from drigm.experiments.reproduce.domains import Domain, Scores, read_domains, read_study, title_of
from drigm.report.figures.gains import Gain, gain_rows, verdict_grid
from drigm.report.html import Html, Section, figure_html, interval_html, paragraph, save_figures, table_html, write_page
from drigm.report.tables import markdown_table
from drigm.runtime.files import make_folder, write_text

OVER: dict[str, str] = {
    "plain": "over non-robust",
    "discount": "over the best discount",
    "randomized": "over randomization",
}
NAMES = {"plain": "non-robust", "discount": "discount", "randomized": "randomization"}
CLAIM_SEEDS = 10  # of every method, where it is claimed that one pays
# What the last column of the table says, and what the leading sentence says of those that do not pay.
YES, NO, COSTS, FEW, LACKS, MORE = "yes", "no", "no: its price", "too few seeds", "open: no", "open: seeds"
COUNTED = {
    NO: "{} without a clear gain over each of them",
    COSTS: "{} at a higher price",
    FEW: "{} with too few seeds for a verdict",
    LACKS: "{} where a control or the price is missing",
    MORE: f"{{}} with fewer than {CLAIM_SEEDS} seeds",
}


class Claim(NamedTuple):
    """A robust method of a domain: its gains over the controls in changed worlds, and its price at home."""

    domain: str
    method: str
    seeds: int
    fewest: int  # seeds of it or of a control
    score: float
    gains: dict[str, Interval]  # by control; none where the study has no such method
    price: Interval | None  # over the plain method at home; below zero it costs something
    controls: dict[str, str]  # the method that each control is
    budget: float  # most that the price may be

    @property
    def verdict(self) -> str:
        """Say whether it gains over every control, clear of zero and within the budget; or what is missing for that."""
        found = {st.verdict(gain, 0.0, self.fewest) for gain in self.gains.values()}
        if found & {"too few seeds", "one seed"}:
            return FEW
        if found != {"better"}:
            return NO
        if self.price is not None and self.price.estimate < -self.budget:
            return COSTS
        missing = [NAMES[control] for control in OVER if control not in self.gains]
        missing += ["price"] * (self.price is None)
        if missing:
            return f"{LACKS} {' or '.join(missing)}"
        return YES if self.fewest >= CLAIM_SEEDS else MORE


def reproduce_pays(file: Path, out: Path | None = None) -> list[Path]:
    """Write table.md, report.html and its figures from the studies that ``file`` names; nothing is trained.

    Args:
        file: of domains; see `drigm.experiments.reproduce.domains`.
        out: a folder; that of the file by default.

    Raises:
        UserError: a file cannot be read, a key or a method is unknown, or a world is missing.
    """
    (domains, budget), out = read_domains(file), file.parent if out is None else out
    studies = [(domain, read_study(domain, file.parent)) for domain in domains]
    found = [[claim_of(domain, name, scores, budget) for name in domain.robust] for domain, scores in studies]
    make_folder(out)
    claims, rows = [claim for mine in found for claim in mine], list[dict[str, Any]]()
    for (domain, scores), mine in zip(studies, found, strict=True):
        rows += [*_control_rows(domain, scores), *map(_row, mine), *_controller_row(domain, scores)]
    lead, note = lead_of(claims, budget), NOTE.format(budget=f"{budget:g}", seeds=CLAIM_SEEDS)
    plain, shown = ([{key: form(cell) for key, cell in row.items()} for row in rows] for form in (_text, _cell))
    about = [{"domain": one.title, "why": one.why, "not tried there": ", ".join(one.untried)} for one in domains]
    parts = [lead, note, markdown_table(plain), "## Why, and what was not tried", markdown_table(about)]
    write_text(out / "table.md", "\n\n".join(parts) + "\n")
    said = {YES: "pays", COSTS: "costs too much at home"}
    gains = [
        Gain(c.domain, c.method, {OVER[k]: x for k, x in c.gains.items()}, c.fewest, said.get(c.verdict, ""))
        for c in claims
    ]
    grid = verdict_grid(gains, title="Gain in score where the world is not that of training")
    figure = gain_rows(gains, title="What robust sets gain where the world is not that of training")
    alt = "Gains of robust methods over their controls, with 95 % intervals"
    first = "Whether robust methods gain over each control"
    sections = [
        Section("In one picture", "verdicts", figure_html(grid, first), {"grid": grid}),
        Section("Gains", "gains", paragraph(note) + figure_html(figure, alt) + table_html(shown), {"gains": figure}),
        Section("Why, and what was not tried", "why", table_html(about)),
        Section("Every row again", "commands", _commands(domains)),
    ]
    command = f"drigm reproduce pays {os.path.relpath(file)}"
    page = write_page(out / "report.html", "Does robustness pay?", lead, sections, command)
    return [out / "table.md", page, *save_figures(sections, out / "figures")]


NOTE = (
    "Scores are means over a domain's changed worlds (where a stage or an agent fails: at its worst, whoever that is); "
    "gains are differences of them with 95 % intervals over seeds "
    "(Welch's below twenty). The discount and the randomization are the best of theirs in these very worlds, so that "
    "they are as strong as hindsight makes them. Price: the difference from the non-robust team at home. A method pays "
    "that gains over all three, clear of zero, with {seeds} seeds of each or more, and costs {budget} or less at home."
)


def claim_of(domain: Domain, method: str, scores: Scores, budget: float) -> Claim:
    """Return what ``method`` gains over each control of ``domain``."""
    mine, gains, controls, seeds = _at(domain, scores, method), dict[str, Interval](), dict[str, str](), list[int]()
    for control, names in domain.controls().items():
        if names:
            controls[control] = best(domain, scores, names)
            other = _at(domain, scores, controls[control])
            gains[control] = st.difference(mine, other, whole_seeds=True)
            seeds += [len(mine), len(other)]
    price = _price(domain, scores, method)
    return Claim(domain.title, method, len(mine), min(seeds), float(mine.mean()), gains, price, controls, budget)


def best(domain: Domain, scores: Scores, names: Sequence[str]) -> str:
    """Return the one of ``names`` that scores highest in the changed worlds."""
    return max(names, key=lambda name: float(_at(domain, scores, name).mean()))


def _at(domain: Domain, scores: Scores, name: str, home: bool = False) -> np.ndarray:
    """Return the scores of a method [K seeds, 1], at home or in the changed worlds."""
    per_world = scores[choose(f"method of domain {domain.title}", name, tuple(scores))]
    worlds = domain.home if home else domain.worlds
    return domain.measured(
        np.array([per_world[choose(f"world of domain {domain.title}", world, tuple(per_world))] for world in worlds])
    )[:, None]


def _price(domain: Domain, scores: Scores, name: str) -> Interval | None:
    if not domain.home:
        return None
    return st.difference(
        _at(domain, scores, name, home=True), _at(domain, scores, domain.plain, home=True), whole_seeds=True
    )


def _control_rows(domain: Domain, scores: Scores) -> list[dict[str, Any]]:
    """What a robust method is held against: the best of each kind is marked where there are several."""
    rows = list[dict[str, Any]]()
    for control, names in domain.controls().items():
        top = best(domain, scores, names) if len(names) > 1 else ""
        for name in names:
            mine, is_plain = _at(domain, scores, name), control == "plain"
            which = ", the best" if name == top else ""
            row: dict[str, Any] = {"domain": domain.title, "method": name, "is": NAMES[control] + which}
            row |= {"seeds": len(mine), "score": f"{mine.mean():.3f}"} | dict.fromkeys(OVER.values(), "")
            if not is_plain:
                row[OVER["plain"]] = st.difference(mine, _at(domain, scores, domain.plain), whole_seeds=True)
                row["price at home"] = _price(domain, scores, name)
            rows.append(row)
    return rows


def _row(claim: Claim) -> dict[str, Any]:
    row: dict[str, Any] = {"domain": claim.domain, "method": claim.method, "is": "robust", "seeds": claim.seeds}
    row["score"] = f"{claim.score:.3f}"
    row |= {OVER[control]: claim.gains.get(control, "") for control in OVER}
    return row | {"price at home": claim.price, "pays": claim.verdict}


def _controller_row(domain: Domain, scores: Scores) -> list[dict[str, Any]]:
    """The field's simple controller, by name, in the same worlds; played now where the study has no row of it."""
    name = domain.controller
    if not name:
        return []
    if domain.env:
        found = evaluate_controller(name, domain.env, domain.suite, parse_grid(domain.perturb)).scores
        played = {world.name: world.mean for world in found}
        names = [choose(f"world of domain {domain.title}", world, tuple(played)) for world in domain.worlds]
        score = domain.measured([played[world] for world in names])
    else:
        score = _at(domain, scores, name).mean()
    return [{"domain": domain.title, "method": title_of(name), "is": "controller", "score": f"{score:.3f}"}]


def lead_of(claims: Sequence[Claim], budget: float) -> str:
    """Return what the page says: how many robust methods pay, where, and what is with the others."""
    paying = [claim for claim in claims if claim.verdict == YES]
    domains = len({claim.domain for claim in claims})
    tried = f"{len(claims)} robust method{'s' * (len(claims) > 1)} in {domains} domain{'s' * (domains > 1)}"
    count = Counter(next(kind for kind in (*COUNTED, YES) if _is(claim, kind)) for claim in claims)
    others = "; ".join(text.format(count[kind]) for kind, text in COUNTED.items() if count[kind])
    rest = f" The others: {others}." if others else ""
    if not paying:
        return (
            f"Of {tried}, none gains clearly over the non-robust team, every discount and randomization at once.{rest}"
        )
    where = "; ".join(f"{claim.method} ({claim.domain})" for claim in paying)
    return (
        f"Of {tried}, {len(paying)} gain{'s' * (len(paying) == 1)} clearly over the non-robust team, the best discount "
        f"and the best randomization at once, for {budget:g} of score at home or less: {where}.{rest}"
    )


def _is(claim: Claim, kind: str) -> bool:
    return claim.verdict == kind or (kind == LACKS and claim.verdict.startswith(LACKS))


def _cell(cell: Any) -> Any:
    return interval_html(cell) if isinstance(cell, Interval) else "" if cell is None else cell


def _text(cell: Any) -> Any:
    if not isinstance(cell, Interval):
        return "" if cell is None else cell
    return f"{cell.estimate:+.3f} [{cell.low:+.3f}, {cell.high:+.3f}]"


def _commands(domains: Sequence[Domain]) -> Html:
    rows = [{"domain": one.title, "command": one.command, "worlds": ", ".join(one.worlds)} for one in domains]
    return table_html(rows)
