"""What the page of `pays` reads: a file of domains, and the scores of their studies.

A file of domains says which studies are read, and which of their methods are robust, plain, a discount or randomized::

    budget = 0.1                             # most score that a method that pays may cost at home
    [[domains]]
    title = "A shop that orders"
    study = "../newsvendor/scores.csv"       # beside the file
    command = "drigm sweep results/newsvendor/newsvendor.toml"
    home = ["nominal"]                       # worlds that are as in training; [] where the study has none
    worlds = ["demand +30 %", "bursts"]      # and those that are not; a method's score is its mean over them
    plain = "non-robust"
    discount = ["gamma (1 - 0.05)"]          # the best of them in these worlds is the control
    randomized = ["demand randomized"]       # likewise
    robust = ["KL 0.1", "TV 0.1"]
    controller = "base_stock"                # of drigm controllers, in `env` and `suite`; or a row of the study
    env = "supply:newsvendor"
    suite = "demand"
    perturb = "obs_noise=0,0.1"              # optional: strengths besides the suite, for the controller
    why = "Demand is drawn."                 # optional: why it pays there or not
    untried = ["persistent worlds"]          # optional: methods that have not been tried there
    where = { place = "office" }             # optional: only rows of the study with these values
    columns = { method = "row", world = "city" }   # optional: where the study calls them otherwise
    measure = "worst"                        # optional: a run's score is that of its worst world, not the mean
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drigm.core.errors import UserError, check, choose
from drigm.envs import make_env
from drigm.envs.shifts import suite_names
from drigm.evaluation.controllers import TITLES, controllers_of
from drigm.experiments.reproduce.from_scores import ONCE, Worlds, by_seed, read_rows

MEASURES = {"mean": np.mean, "worst": np.min}  # of a run over worlds
BUDGET = 0.1
TEXTS, LISTS = ("title", "study", "command", "plain"), ("home", "worlds", "discount", "randomized", "robust")
Scores = dict[str, dict[str, list[float]]]  # method: world: per seed


class Domain(NamedTuple):
    """A domain of the file; see this module for what each key says."""

    title: str
    study: str
    command: str
    plain: str
    home: list[str]
    worlds: list[str]
    discount: list[str]
    randomized: list[str]
    robust: list[str]
    controller: str = ""
    env: str = ""
    suite: str = ""
    perturb: str = ""
    why: str = ""
    measure: str = "mean"
    untried: list[str] = []  # noqa: RUF012 (nothing writes to it)
    where: dict[str, str] = {}  # noqa: RUF012
    columns: dict[str, str] = {}  # noqa: RUF012

    def measured(self, scores: Any) -> Any:
        """Return what the domain makes of scores [W worlds, ...]: their mean, or the worst."""
        return MEASURES[self.measure](scores, axis=0)

    def controls(self) -> dict[str, list[str]]:
        """Return the methods that a robust one is held against, by their kind."""
        return {"plain": [self.plain], "discount": self.discount, "randomized": self.randomized}


def read_domains(file: Path) -> tuple[list[Domain], float]:
    """Return the domains of a file and its budget, checked; nothing is played and no study is read.

    Raises:
        UserError: it cannot be read; a key is unknown, missing or of the wrong type; a controller is none of its
            environment's.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"file: {str(file)!r} cannot be read as TOML ({error}).") from None
    for key in content:
        choose("key", key, ("domains", "budget"))
    budget = content.get("budget", BUDGET)
    number = isinstance(budget, int | float) and not isinstance(budget, bool)
    check(number and math.isfinite(budget) and budget >= 0, "budget", budget, "a score, 0 or more")
    domains = content.get("domains")
    tables = isinstance(domains, list) and bool(domains) and all(isinstance(domain, dict) for domain in domains)
    check(tables, "domains", domains, "give one table [[domains]] or more")
    return [_domain(domain) for domain in domains or []], float(budget)


def _domain(given: Mapping[str, Any]) -> Domain:
    title = given.get("title", "")
    kinds = {name: type(default) for name, default in Domain._field_defaults.items()}
    kinds |= dict.fromkeys(TEXTS, str) | dict.fromkeys(LISTS, list)
    for key, value in given.items():
        choose(f"key of domain {title}", key, Domain._fields)
        what = {str: "a text", list: "a list of texts", dict: "a table of texts"}[kinds[key]]
        parts = [value] if isinstance(value, str) else value.values() if isinstance(value, dict) else value
        ok = isinstance(value, kinds[key]) and all(isinstance(part, str) and part for part in parts)
        check(ok, f"{key} of domain {title}", value, f"give {what}")
    missing = [key for key in (*TEXTS, *LISTS) if key not in given]
    check(not missing, "domains", title, f"{', '.join(missing)} must be given too")
    for key in ("worlds", "robust"):
        check(bool(given[key]), f"{key} of domain {title}", given[key], "name one or more")
    domain = Domain(**given)
    choose(f"measure of domain {title}", domain.measure, tuple(MEASURES))
    if domain.env or domain.suite:
        env = make_env(domain.env)
        choose(f"suite of domain {title}", domain.suite, tuple(suite_names(env)))
        choose(f"controller of domain {title}", domain.controller, tuple(controllers_of(env)))
    return domain


def read_study(domain: Domain, folder: Path) -> Scores:
    """Return the scores of the study of ``domain``, in the order of seeds.

    Raises:
        UserError: the file cannot be read, lacks a column, has a seed twice in a world, or not the same seeds in all
            worlds of the domain.
    """
    names = {"method": "method", "world": "world", "seed": "seed", **domain.columns}
    file = folder / domain.study
    there = read_rows(file, domain.command, lambda rows: list(rows[0]) if rows else [])
    for column in (*names.values(), *domain.where, "score"):
        choose(f"column of domain {domain.title}", column, there)

    def parse(rows: list[dict[str, str]]) -> dict[str, Worlds]:
        meant = (row for row in rows if all(row[key] == value for key, value in domain.where.items()))
        read = ((row[names["method"]], row[names["world"]], row[names["seed"]], row["score"]) for row in meant)
        return by_seed(read, f", domain {domain.title}", f"{ONCE}; say which rows are meant by where")

    found = read_rows(file, domain.command, parse)
    known = domain.env or not domain.controller or domain.controller in found
    allowed = f"a row of {domain.study}, or a controller of an env and a suite that are given too"
    check(bool(known), f"controller of domain {domain.title}", domain.controller, allowed)
    return {method: _in_order(domain, method, worlds) for method, worlds in found.items()}


def _in_order(domain: Domain, method: str, worlds: Worlds) -> dict[str, list[float]]:
    """Return the scores of a method by seed; `UserError` unless the domain's worlds all have the same seeds."""
    read = [world for world in (*domain.home, *domain.worlds) if world in worlds]
    for world in read[1:]:
        name, allowed = f"seeds of {method} in {world}, domain {domain.title}", f"those of {read[0]}, in every world"
        check(worlds[world].keys() == worlds[read[0]].keys(), name, sorted(worlds[world]), allowed)
    return {world: [scores[seed] for seed in sorted(scores)] for world, scores in worlds.items()}


def title_of(controller: str) -> str:
    """Return what a controller is called on the page."""
    return TITLES.get(controller, controller)
