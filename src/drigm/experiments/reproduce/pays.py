"""Does robustness pay? Every gain of a robust team over its controls, in every domain, from the scores of the studies.

A file of domains says which studies are read, and which of their methods are robust, plain, a discount or randomized::

    [[domains]]
    title = "A shop that orders"
    study = "../newsvendor/scores.csv"       # beside the file
    command = "drigm sweep results/newsvendor/newsvendor.toml"
    home = ["nominal"]                       # worlds that are as in training
    worlds = ["demand +30 %", "bursts"]      # and those that are not; a method's score is its mean over them
    plain = "non-robust"
    discount = ["gamma (1 - 0.05)"]          # the best of them in these worlds is the control
    randomized = ["demand randomized"]       # likewise
    robust = ["KL 0.1", "TV 0.1"]
    controller = "base_stock"                # of drigm controllers, in `env` and `suite`; or a row of the study
    env = "supply:newsvendor"
    suite = "demand"
    where = { place = "office" }             # optional: only rows of the study with these values
    columns = { method = "row", world = "city" }   # optional: where the study calls them otherwise
    measure = "worst"                        # optional: a run's score is that of its worst world, not the mean
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drigm.core.errors import UserError, check, choose
from drigm.envs import make_env
from drigm.evaluation import statistics as st
from drigm.evaluation.controllers import TITLES, score_controllers
from drigm.evaluation.statistics import Interval
from drigm.experiments.reproduce.from_scores import read_rows
from drigm.report.figures.gains import Gain, gain_rows, verdict_grid
from drigm.report.html import Html, Section, figure_html, interval_html, paragraph, save_figures, table_html, write_page
from drigm.report.tables import markdown_table
from drigm.runtime.files import make_folder, write_text

OVER: dict[str, str] = {
    "plain": "over non-robust",
    "discount": "over the best discount",
    "randomized": "over randomization",
}
CONTROLS = tuple(OVER)
KEYS = ("title", "study", "command", "home", "worlds", *CONTROLS, "robust")
MORE = ("controller", "env", "suite", "where", "columns", "measure")
MEASURES = {"mean": np.mean, "worst": np.min}  # of a run over worlds
Scores = dict[str, dict[str, list[float]]]  # method: world: per seed


class Claim(NamedTuple):
    """A robust method of a domain: its gains over the controls in changed worlds, and its price at home."""

    domain: str
    method: str
    seeds: int
    score: float
    gains: dict[str, Interval]  # by control; none where the study has no such method
    price: Interval  # over the plain method at home; below zero it costs something
    controls: dict[str, str]  # the method that each control is

    @property
    def pays(self) -> bool:
        """Whether it gains over every control that there is, clear of zero, with seeds enough for a verdict."""
        return all(st.verdict(gain, 0.0, self.seeds) == "better" for gain in self.gains.values())


def reproduce_pays(file: Path, out: Path | None = None) -> list[Path]:
    """Write table.md, report.html and its figures from the studies that ``file`` names; nothing is trained.

    Args:
        file: of domains; see above.
        out: a folder; that of the file by default.

    Raises:
        UserError: a file cannot be read, a key or a method is unknown, or a world is missing.
    """
    domains, out = read_domains(file), file.parent if out is None else out
    make_folder(out)
    claims, rows = list[Claim](), list[dict[str, Any]]()
    for domain in domains:
        scores = read_study(domain, file.parent)
        mine = [claim_of(domain, method, scores) for method in domain["robust"]]
        claims += mine
        rows += [*map(_row, mine), _controller_row(domain, scores)]
    plain = [{key: _text(cell) for key, cell in row.items()} for row in rows]
    lead, shown = _lead(claims), [{key: _cell(cell) for key, cell in row.items()} for row in rows]
    write_text(out / "table.md", f"{lead}\n\n{NOTE}\n\n{markdown_table(plain)}\n")
    gains = _gains(claims)
    grid = verdict_grid(gains, title="Gain in score where the world is not that of training")
    figure = gain_rows(gains, title="What robust sets gain where the world is not that of training")
    alt = "Gains of robust methods over their controls, with 95 % intervals"
    first = "Whether robust methods gain over each control"
    sections = [
        Section("In one picture", "verdicts", figure_html(grid, first), {"grid": grid}),
        Section("Gains", "gains", paragraph(NOTE) + figure_html(figure, alt) + table_html(shown), {"gains": figure}),
        Section("Every row again", "commands", _commands(domains)),
    ]
    command = f"drigm reproduce pays {os.path.relpath(file)}"
    page = write_page(out / "report.html", "Does robustness pay?", lead, sections, command)
    return [out / "table.md", page, *save_figures(sections, out / "figures")]


NOTE = (
    "Scores are means over a domain's changed worlds (where a stage or an agent fails: at its worst, whoever that is); "
    "gains are differences of them with 95 % intervals over seeds "
    "(Welch's below twenty). The discount and the randomization are the best of theirs in these very worlds, so that "
    "they are as strong as hindsight makes them. Price: the difference from the non-robust team at home."
)


def read_domains(file: Path) -> list[dict[str, Any]]:
    """Return the domains of a file, checked."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"file: {str(file)!r} cannot be read as TOML ({error}).") from None
    domains = content.get("domains")
    check(isinstance(domains, list) and bool(domains), "domains", domains, "give one table [[domains]] or more")
    for domain in domains or []:
        for key in domain:
            choose(f"key of domain {domain.get('title', '')}", key, (*KEYS, *MORE))
        choose(f"measure of domain {domain.get('title', '')}", domain.get("measure", "mean"), tuple(MEASURES))
        missing = [key for key in KEYS if key not in domain]
        check(not missing, "domains", domain.get("title"), f"{', '.join(missing)} must be given too")
    return domains or []


def read_study(domain: Mapping[str, Any], folder: Path) -> Scores:
    """Return the scores of the study of ``domain``; means over rows that share method, world and seed."""
    names = {"method": "method", "world": "world", **domain.get("columns", {})}
    where = domain.get("where", {})

    def parse(rows: list[dict[str, str]]) -> Scores:
        found: Scores = {}
        for row in rows:
            if all(row[key] == value for key, value in where.items()):
                found.setdefault(row[names["method"]], {}).setdefault(row[names["world"]], []).append(
                    float(row["score"])
                )
        return found

    return read_rows(folder / domain["study"], domain["command"], parse)


def claim_of(domain: Mapping[str, Any], method: str, scores: Scores) -> Claim:
    """Return what ``method`` gains over each control of ``domain``."""

    def at(name: str, worlds: str) -> np.ndarray:
        """[K seeds, 1]."""
        per_world = scores[choose(f"method of {domain['title']}", name, tuple(scores))]
        found = np.array([per_world[choose("world", world, tuple(per_world))] for world in domain[worlds]])
        return _measured(domain, found)[:, None]

    mine, gains, controls = at(method, "worlds"), dict[str, Interval](), dict[str, str]()
    for control in CONTROLS:
        given = domain[control]
        others = [given] if isinstance(given, str) else list(given)
        if others:
            controls[control] = max(others, key=lambda name: float(at(name, "worlds").mean()))
            gains[control] = st.difference(mine, at(controls[control], "worlds"), whole_seeds=True)
    price = st.difference(at(method, "home"), at(domain["plain"], "home"), whole_seeds=True)
    return Claim(domain["title"], method, len(mine), float(mine.mean()), gains, price, controls)


def _row(claim: Claim) -> dict[str, Any]:
    row: dict[str, Any] = {"domain": claim.domain, "method": claim.method, "seeds": claim.seeds}
    row["score"] = f"{claim.score:.3f}"
    row |= {OVER[control]: claim.gains.get(control, "") for control in CONTROLS}
    return row | {"price at home": claim.price, "pays": "yes" if claim.pays else "no"}


def _controller_row(domain: Mapping[str, Any], scores: Scores) -> dict[str, Any]:
    """The field's simple controller, by name, in the same worlds; played now where the study has no row of it."""
    name = domain.get("controller", "")
    row: dict[str, Any] = {"domain": domain["title"], "method": TITLES.get(name, name), "seeds": ""}
    if name in scores:
        worlds = {world: float(np.mean(scores[name][world])) for world in domain["worlds"]}
    elif name:
        worlds = score_controllers(make_env(domain["env"]), domain["suite"])[name]
    else:
        return row | {"method": "(no simple controller)", "score": ""}
    return row | {"score": f"{_measured(domain, [worlds[world] for world in domain['worlds']]):.3f}"}


def _measured(domain: Mapping[str, Any], scores: Any) -> Any:
    """Return what ``domain`` makes of scores [W worlds, ...]: their mean, or the worst."""
    return MEASURES[domain.get("measure", "mean")](scores, axis=0)


def _lead(claims: Sequence[Claim]) -> str:
    """Return what the page says: how many robust methods pay, and where."""
    paying = [claim for claim in claims if claim.pays]
    domains = len({claim.domain for claim in claims})
    tried = f"{len(claims)} robust methods in {domains} domain{'s' if domains > 1 else ''}"
    if not paying:
        return f"Of {tried}, none gains clearly over the non-robust team, every discount and randomization at once."
    where = "; ".join(f"{claim.method} ({claim.domain})" for claim in paying)
    gain = "gains" if len(paying) == 1 else "gain"
    return (
        f"Of {tried}, {len(paying)} {gain} clearly over the non-robust team, the best discount and the best "
        f"randomization at once: {where}. The others do not, whatever they gain over the non-robust team alone."
    )


def _gains(claims: Sequence[Claim]) -> list[Gain]:
    return [
        Gain(claim.domain, claim.method, {OVER[c]: gain for c, gain in claim.gains.items()}, claim.seeds)
        for claim in claims
    ]


def _cell(cell: Any) -> Any:
    return interval_html(cell) if isinstance(cell, Interval) else cell


def _text(cell: Any) -> Any:
    if not isinstance(cell, Interval):
        return cell
    return f"{cell.estimate:+.3f} [{cell.low:+.3f}, {cell.high:+.3f}]"


def _commands(domains: Sequence[Mapping[str, Any]]) -> Html:
    rows = [{"domain": one["title"], "command": one["command"], "worlds": ", ".join(one["worlds"])} for one in domains]
    return table_html(rows)
