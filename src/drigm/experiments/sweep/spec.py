"""What a sweep file says: a grid over settings and single points, checked before anything is trained.

::

    name = "radii"                           # its folder below runs/sweeps/
    together = 0                             # most points that one program trains; 0: all that can
    [base]                                   # settings of every point
    env = "building:OfficeSmall/Tucson"
    seeds = 5
    [grid]                                   # every combination of these
    uncertainty = ["tv", "contamination"]
    rho = [0.0, 0.1, 0.2]
    [[points]]                               # and these; [points] has them by names: "robust" = { rho = 0.3 }
    uncertainty = "nominal"
    [evaluate]                               # optional: the worlds that every finished point is scored in
    shifts = "climate"
    perturb = "obs_noise=0,0.1"
    trim = 0.03                              # a slow integral at deployment, as drigm evaluate --trim
    worlds = "nominal; lag=0:0.5"            # instead of shifts and perturb, as drigm evaluate --worlds
    world_count = 32                         # of the worlds that each of its ranges draws
    [prune]                                  # optional: end trainings that fall behind a named point, which comes first
    against = "not robust"
    worse = 0.1                              # share of its score's size by which they may be worse
    [tables]                                 # optional: table.md, comparisons.md and their figures
    compare = [["robust", "not robust"]]     # of named points, the first of each pair against the second
    against = { rho = 0.0 }                  # every point against the one that differs in this alone
    picture = ["robust", "not robust"]       # what scores.png shows
    outcome = ["obs_noise=0.1"]              # worlds whose mean decides: outcome.md, with Holm's correction
    percent = true                           # differences of returns in percent of the second's too: of costs
"""

from __future__ import annotations

import itertools
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from drigm.agents.pi import loop_of
from drigm.core.config import TrainConfig, checked, refuse_unknown
from drigm.core.errors import UserError, as_path, check, choose, one_line, shown
from drigm.core.strengths import parse_grid
from drigm.envs.api import Environment
from drigm.envs.perturbations import check_strength
from drigm.envs.shifts import WORLDS, default_suite, suite_names, worlds
from drigm.evaluation.cache import Drawn
from drigm.evaluation.evaluate import trim_gain
from drigm.experiments.sweep.pruning import Pruning, read_pruning
from drigm.runtime.devices import use_cores
from drigm.training.settings import resolve, settle

KEYS = ("name", "together", "base", "grid", "points", "evaluate", "prune", "tables")
NAME = re.compile(r"\w(?:[\w ,()=-]|\.(?=\d)){0,99}")  # of a point: also its folder's, and never a file's
MAX_POINTS = 10_000  # a slip in a grid, rather than a plan
MAX_BYTES = 1_000_000  # of a file
MOST_WORLDS = 4096


class Scoring(NamedTuple):
    """How finished points are scored: a suite, strengths of perturbations and a trim as on the command line.

    Or ``world_count`` worlds drawn from each of the ranges ``worlds``, as ``drigm evaluate --worlds``; then ``shifts``
    is ``worlds``.
    """

    shifts: str
    perturb: str = ""
    trim: float = 0.0
    worlds: str = ""
    world_count: int = WORLDS

    @property
    def drawn(self) -> Drawn:
        """The worlds instead of a suite."""
        return Drawn(self.worlds, self.world_count)


class Tables(NamedTuple):
    """What is written of points besides their scores: pairs to compare, and the methods in scores.png.

    Pairs are named in ``compare``; with ``against`` every point is also compared with the one that has these settings
    and is equal otherwise. A picture of the six cities can have the authors' networks too, as in
    ``authors' QMIX tv``. The mean of the worlds of ``outcome`` is what was named before anything ran: outcome.md
    compares it. ``percent`` adds differences of returns in percent of what the second of a pair gets, as one speaks of
    costs.
    """

    compare: Sequence[Sequence[str]] = ()
    picture: Sequence[str] = ()
    outcome: Sequence[str] = ()
    against: Mapping[str, Any] = {}
    percent: bool = False


class Sweep(NamedTuple):
    """A sweep file, checked.

    Attributes:
        name: of its folder.
        configs: one per point, resolved and all different.
        scoring: None if points are only trained.
        together: most points that one program trains; 0 for all that can.
        names: those that the file gives.
        tables: None if none are to be written.
        prune: None if every training goes to its end.
    """

    name: str
    configs: list[TrainConfig]
    scoring: Scoring | None
    together: int
    names: Mapping[TrainConfig, str] = {}
    tables: Tables | None = None
    prune: Pruning | None = None


def read_sweep(source: str | Path | Mapping[str, Any]) -> Sweep:
    """Return the sweep of a TOML file, or of a mapping with the same keys.

    Raises:
        UserError: the file cannot be read; a key is unknown; a point is no run that drigm can train.
    """
    content = _content(source)
    name = content.get("name", "sweep" if isinstance(source, Mapping) else Path(source).stem)
    ok = isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name) is not None
    check(ok, "name", name, "letters, digits, dots, dashes and underscores, for it becomes a folder's name")
    together = content.get("together", 0)
    whole = isinstance(together, int) and not isinstance(together, bool) and 0 <= together <= MAX_POINTS
    check(whole, "together", together, f"a whole number from 0 (all that can) to {MAX_POINTS}")
    points = _points(content)
    tables = _tables(content, [point for point, _ in points if point])
    names, envs = _resolved(points)
    named = {config: point for config, point in names.items() if point}
    prune = read_pruning(content.get("prune"), list(named.values()), together)
    scoring = _scoring(content.get("evaluate"), envs)
    if tables is not None and scoring is not None:
        _check_outcome(tables.outcome, scoring, envs[0])
    return Sweep(name, list(names), scoring, together, named, tables, prune)


def read_tables(file: Path) -> tuple[dict[str, TrainConfig], str, Tables]:
    """Return the named points of a sweep file, their suite, and the tables; it makes no environment.

    Raises:
        UserError: the file cannot be read, or asks for no tables.
    """
    content = _content(file)
    points = {name: _settled(settings) for name, settings in _points(content) if name}
    tables = _tables(content, list(points))
    check(tables is not None, "tables", None, f"give {str(file)!r} a table [tables]")
    return points, content["evaluate"].get("shifts", "nominal"), tables or Tables()


def _content(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    content = dict(source) if isinstance(source, Mapping) else _load(as_path("sweep", source))
    for key in content:
        choose("sweep", key, KEYS)
    return content


def _load(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"sweep: {shown(str(path))} cannot be read ({error.strerror}).") from None
    message = f"sweep: {shown(str(path))} is not valid TOML"
    if len(data) > MAX_BYTES:
        raise UserError(f"{message} of a sweep (it has more than {MAX_BYTES:,} bytes).")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except RecursionError:
        raise UserError(f"{message} (it is nested too deeply).") from None
    except ValueError as error:  # of TOML or of UTF-8
        raise UserError(f"{message} ({one_line(error)}).") from None


def _points(content: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return name ("" where it has none) and settings of every point, in the file's order."""
    base, grid = _table("base", content.get("base", {})), _table("grid", content.get("grid", {}))
    singles = content.get("points", [])
    message = "tables of settings, each under [[points]] or by its name in [points]"
    check(isinstance(singles, list | dict), "points", singles, message)
    named = list(singles.items()) if isinstance(singles, dict) else [("", single) for single in singles]
    for name, single in named:
        check(isinstance(single, dict), "points", single, message)
        allowed = "letters, digits, spaces and .,()=-, a dot before digits only, for it becomes a folder's name"
        check(not name or (NAME.fullmatch(name) is not None and name != "logs"), "points", name, allowed)
    for name in grid:
        check(name not in base, "grid", name, "it stands in base already; give it once")
    count = len(singles) + (math.prod(len(values) for values in grid.values()) if grid else 0)
    check(0 < count <= MAX_POINTS, "sweep", f"{count} points", f"give 1 to {MAX_POINTS} of them by grid and points")
    combinations = itertools.product(*grid.values()) if grid else ()
    points = [("", dict(zip(grid, values, strict=True))) for values in combinations]
    points += [(name, _table("points", single)) for name, single in named]
    return [(name, {**base, **point}) for name, point in points]


def _table(name: str, value: Any) -> dict[str, Any]:
    """Return a table of known settings, each value of the right kind; in the grid, each value of each list."""
    check(isinstance(value, dict), name, value, "it must be a table of settings")
    refuse_unknown(value)
    if name != "grid":
        return {setting: checked(setting, given) for setting, given in value.items()}
    for setting, given in value.items():
        fine = isinstance(given, list) and len(given) > 0
        check(fine, f"grid.{setting}", given, "give a list of values, as in [0.1, 0.2]")
    return {setting: [checked(setting, one) for one in given] for setting, given in value.items()}


def _resolved(points: list[tuple[str, dict[str, Any]]]) -> tuple[dict[TrainConfig, str], list[Environment]]:
    """Return the configs of ``points``, each once, with their names; and their environments."""
    settled = [(name, point, _settled(point)) for name, point in points]
    use_cores(max(config.shards for *_, config in settled))  # before environments make arrays
    found: dict[TrainConfig, str] = {}
    envs: list[Environment] = []
    for name, point, config in settled:
        try:
            resolved, env = resolve(config)
        except UserError as error:
            raise UserError(f"sweep: in the point {_said(point)}: {error}") from None
        if resolved not in found:
            envs.append(env)
        given = found.get(resolved) or name
        check(name in ("", given), "points", name, f"{given!r} has the same settings")
        found[resolved] = given
    return found, envs


def _settled(point: dict[str, Any]) -> TrainConfig:
    """Return `settle` (point); its `UserError` says which point."""
    try:
        return settle(point)
    except UserError as error:
        raise UserError(f"sweep: in the point {_said(point)}: {error}") from None


def _said(point: Mapping[str, Any]) -> str:
    """Return ``uncertainty=tv, rho=0.1``."""
    return one_line(", ".join(f"{name}={value}" for name, value in point.items()))


def _scoring(given: Any, envs: list[Environment]) -> Scoring | None:
    """Return how points are scored; every environment must have those worlds."""
    if given is None:
        return None
    check(isinstance(given, dict), "evaluate", given, "it must be a table with shifts, perturb, trim")
    for key, value in given.items():
        choose("evaluate", key, Scoring._fields)
        check(key in ("trim", "world_count") or isinstance(value, str), f"evaluate.{key}", value, "a text")
    trim = given.get("trim", 0.0)
    check(isinstance(trim, bool | int | float), "evaluate.trim", trim, "a gain, or true")
    gain = trim_gain(trim)
    if ranges := given.get("worlds", ""):
        return _drawn(ranges, given, gain, envs)
    perturb = parse_grid(given.get("perturb", ""))
    suite = given.get("shifts") or default_suite(envs[0], perturb)
    for env in {env.spec.name: env for env in envs}.values():
        choose("evaluate.shifts", suite, suite_names(env))
        if gain:
            loop_of(env.spec)  # says what it lacks
        for name, strengths in perturb.items():
            for strength in strengths:
                check_strength(env, name, strength)
    return Scoring(suite, given.get("perturb", ""), gain)


def _drawn(ranges: str, given: Mapping[str, Any], gain: float, envs: list[Environment]) -> Scoring:
    """Return how points are scored in worlds that are drawn; every environment must have them."""
    twice = sorted({"shifts", "perturb"} & given.keys())
    check(not twice, "evaluate.worlds", ranges, f"leave out {' and '.join(twice)}")
    count = given.get("world_count", WORLDS)
    whole = isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= MOST_WORLDS
    check(whole, "evaluate.world_count", count, f"a whole number from 1 to {MOST_WORLDS}")
    for env in {env.spec.name: env for env in envs}.values():
        worlds(env, ranges=ranges, count=1)  # says what it lacks
        if gain:
            loop_of(env.spec)
    return Scoring("worlds", "", gain, ranges, count)


def _tables(content: Mapping[str, Any], names: list[str]) -> Tables | None:
    """Return what the file asks of its named points besides their scores."""
    given = content.get("tables")
    if given is None:
        return None
    check(isinstance(given, dict), "tables", given, "it must be a table with compare, picture or both")
    check(isinstance(content.get("evaluate"), dict), "tables", given, "they need scores: give a table [evaluate] too")
    for key in given:
        choose("tables", key, Tables._fields)
    compare, picture = given.get("compare", []), given.get("picture", [])
    pairs = isinstance(compare, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in compare)
    check(pairs, "tables.compare", compare, "pairs of points' names")
    check(isinstance(picture, list), "tables.picture", picture, "a list of points' names")
    outcome = given.get("outcome", [])
    worlds_named = isinstance(outcome, list) and all(isinstance(world, str) for world in outcome)
    check(worlds_named, "tables.outcome", outcome, "a list of worlds' names, as in table.md")
    percent = given.get("percent", False)
    check(isinstance(percent, bool), "tables.percent", percent, "true or false")
    for name in itertools.chain(*compare, (name for name in picture if not str(name).startswith("authors' "))):
        choose("tables", name, names)
    return Tables(compare, picture, outcome, _table("tables.against", given.get("against", {})), percent)


def _check_outcome(outcome: Sequence[str], scoring: Scoring, env: Environment) -> None:
    """What was named before the run must be scored; a slip would be found only after it."""
    if outcome:
        scored = worlds(env, scoring.shifts, parse_grid(scoring.perturb), scoring.worlds, scoring.world_count).shifts
        names = [shift.name for shift in scored]
        for world in outcome:
            choose("tables.outcome", world, names)
