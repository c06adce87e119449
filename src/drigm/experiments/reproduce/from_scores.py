"""A finished study's page, tables and figures once more, from the scores that it left: nothing is trained or played."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from drigm.core.config import TrainConfig
from drigm.core.defaults import PARTS
from drigm.core.errors import UserError, check, choose
from drigm.core.naming import method_name
from drigm.evaluation.scores import Evaluation, shift_score
from drigm.experiments.reproduce.runner import Outcome, Scored, Timing
from drigm.experiments.reproduce.studies import SCALES, Group, groups

Worlds = dict[str, dict[int, float]]  # world: seed: score
T = TypeVar("T")
K = TypeVar("K")
WRITER = "drigm reproduce paper"
ONCE = "once for a method and a world"


def read_outcome(folder: Path, scale: str = "paper") -> Outcome:
    """Return what `drigm reproduce paper` of ``scale`` has left in scores.csv and timing.csv of ``folder``.

    Raises:
        UserError: an unknown scale, no such files, or rows that no method of the scale has written.
    """
    choose("scale", scale, tuple(SCALES))
    scores = read_rows(folder / "scores.csv", WRITER, _scores)
    timings = read_rows(folder / "timing.csv", WRITER, lambda rows: [_timing(row) for row in rows])
    scored: dict[str, list[Scored]] = {}
    for group in groups(PARTS, SCALES[scale]):
        found = [_scored(group, config, scores) for config in group.configs]
        if any(found):
            scored[group.name] = [one for ones in found for one in ones]
    known = {(one.title, one.evaluation.suite) for found in scored.values() for one in found}
    for key in scores:
        check(key in known, "scores", f"{key[0]} in suite {key[1]}", f"scale {scale} has no such method")
    return Outcome(scored, timings)


def read_verification(folder: Path) -> str | None:
    """Return what `drigm verify` showed, as table.md of ``folder`` has it; None if that part was left out."""
    try:
        text = (folder / "table.md").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    found = re.search(r"^## The counterexample\n+```\n(.*?)\n```", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else None


def _scored(group: Group, config: TrainConfig, scores: Mapping[tuple[str, str], Worlds]) -> list[Scored]:
    """The method of ``config`` in every suite that it was scored in; a method that was left out has none."""
    found = []
    for suite in (group.suite, *group.more):
        worlds = scores.get((method_name(config), suite))
        if worlds is None:
            continue
        seeds = sorted(next(iter(worlds.values())))
        whole = seeds == list(range(seeds[0], seeds[0] + len(seeds)))
        whole = whole and all(sorted(per_seed) == seeds for per_seed in worlds.values())
        check(
            whole,
            "scores",
            method_name(config),
            "every world needs a score of every seed, and seeds that follow each other",
        )
        mine = config.replace(seeds=len(seeds), first_seed=seeds[0])
        per_world = [shift_score(w, np.array([per_seed[k] for k in seeds])) for w, per_seed in worlds.items()]
        found.append(Scored(mine, Evaluation(suite, per_world)))
    return found


def _scores(rows: list[dict[str, str]]) -> dict[tuple[str, str], Worlds]:
    return by_seed(((row["method"], row["suite"]), row["world"], row["seed"], row["score"]) for row in rows)


def _timing(row: Mapping[str, str]) -> Timing:
    return Timing(row["group"], int(row["runs"]), float(row["seconds"]))


def by_seed(rows: Iterable[tuple[K, str, str, str]], of: str = "", once: str = ONCE) -> dict[K, Worlds]:
    """Return the scores of (whose, world, seed, score) by whose they are, world and seed.

    Raises:
        UserError: a seed stands twice in a world, which would count as two; ``of`` and ``once`` are said then.
    """
    found: dict[K, Worlds] = {}
    for whose, world, seed, score in rows:
        per_seed = found.setdefault(whose, {}).setdefault(world, {})
        check(int(seed) not in per_seed, f"seed of {whose} in {world}{of}", int(seed), once)
        per_seed[int(seed)] = float(score)
    return found


def read_rows(file: Path, writer: str, parse: Callable[[list[dict[str, str]]], T]) -> T:
    """Return what ``parse`` makes of the rows of a CSV file; `UserError` if it is none that ``writer`` writes."""
    try:
        with open(file, newline="", encoding="utf-8") as opened:
            return parse(list(csv.DictReader(opened)))
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"directory: {str(file)!r} cannot be read ({error.strerror}).") from None
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"directory: {str(file)!r} is not what {writer} writes ({error}).") from None
