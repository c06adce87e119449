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
    [[points]]                               # and these
    uncertainty = "nominal"
    [evaluate]                               # optional: the worlds that every finished point is scored in
    shifts = "climate"
    perturb = "obs_noise=0,0.1"
"""

from __future__ import annotations

import itertools
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from drigm.core.config import TrainConfig, checked, refuse_unknown
from drigm.core.errors import UserError, as_path, check, choose, one_line, shown
from drigm.envs.api import Environment
from drigm.envs.perturbations import check_strength, parse_grid
from drigm.envs.shifts import default_suite, suite_names
from drigm.runtime.devices import use_cores
from drigm.training.settings import resolve, settle

KEYS = ("name", "together", "base", "grid", "points", "evaluate")
MAX_POINTS = 10_000  # a slip in a grid, rather than a plan
MAX_BYTES = 1_000_000  # of a file


class Scoring(NamedTuple):
    """The worlds that finished points are scored in: a suite, and strengths of perturbations as on the command line."""

    shifts: str
    perturb: str = ""


class Sweep(NamedTuple):
    """A sweep file, checked.

    Attributes:
        name: of its folder.
        configs: one per point, resolved and all different.
        scoring: None if points are only trained.
        together: most points that one program trains; 0 for all that can.
    """

    name: str
    configs: list[TrainConfig]
    scoring: Scoring | None
    together: int


def read_sweep(source: str | Path | Mapping[str, Any]) -> Sweep:
    """Return the sweep of a TOML file, or of a mapping with the same keys.

    Raises:
        UserError: the file cannot be read; a key is unknown; a point is no run that drigm can train.
    """
    content = dict(source) if isinstance(source, Mapping) else _load(as_path("sweep", source))
    for key in content:
        choose("sweep", key, KEYS)
    name = content.get("name", "sweep" if isinstance(source, Mapping) else Path(source).stem)
    ok = isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name) is not None
    check(ok, "name", name, "letters, digits, dots, dashes and underscores, for it becomes a folder's name")
    together = content.get("together", 0)
    whole = isinstance(together, int) and not isinstance(together, bool) and 0 <= together <= MAX_POINTS
    check(whole, "together", together, f"a whole number from 0 (all that can) to {MAX_POINTS}")
    configs, envs = _resolved(_points(content))
    return Sweep(name, configs, _scoring(content.get("evaluate"), envs), together)


def _load(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"sweep: {shown(str(path))} cannot be read ({error.strerror}).") from None
    told = f"sweep: {shown(str(path))} is not valid TOML"
    if len(data) > MAX_BYTES:
        raise UserError(f"{told} of a sweep (it has more than {MAX_BYTES:,} bytes).")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except RecursionError:
        raise UserError(f"{told} (it is nested too deeply).") from None
    except ValueError as error:  # of TOML or of UTF-8
        raise UserError(f"{told} ({one_line(error)}).") from None


def _points(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the settings of every point, in the file's order."""
    base, grid = _table("base", content.get("base", {})), _table("grid", content.get("grid", {}))
    singles = content.get("points", [])
    check(isinstance(singles, list), "points", singles, "tables of settings, each under [[points]]")
    for name in grid:
        check(name not in base, "grid", name, "it stands in base already; give it once")
    count = len(singles) + (math.prod(len(values) for values in grid.values()) if grid else 0)
    check(0 < count <= MAX_POINTS, "sweep", f"{count} points", f"give 1 to {MAX_POINTS} of them by grid and points")
    combinations = itertools.product(*grid.values()) if grid else ()
    points = [dict(zip(grid, values, strict=True)) for values in combinations]
    return [{**base, **point} for point in (*points, *(_table("points", single) for single in singles))]


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


def _resolved(points: list[dict[str, Any]]) -> tuple[list[TrainConfig], list[Environment]]:
    """Return the configs of ``points``, each once, and their environments."""
    settled = [(point, _settled(point)) for point in points]
    use_cores(max(config.shards for _, config in settled))  # before environments make arrays
    found: dict[TrainConfig, Environment] = {}
    for point, config in settled:
        try:
            resolved, env = resolve(config)
        except UserError as error:
            raise UserError(f"sweep: in the point {_said(point)}: {error}") from None
        found.setdefault(resolved, env)
    return list(found), list(found.values())


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
    check(isinstance(given, dict), "evaluate", given, "it must be a table with shifts, perturb or both")
    for key, value in given.items():
        choose("evaluate", key, ("shifts", "perturb"))
        check(isinstance(value, str), f"evaluate.{key}", value, "a text")
    perturb = parse_grid(given.get("perturb", ""))
    suite = given.get("shifts") or ("nominal" if perturb else default_suite(envs[0]))
    for env in {env.spec.name: env for env in envs}.values():
        choose("evaluate.shifts", suite, suite_names(env))
        for name, strengths in perturb.items():
            for strength in strengths:
                check_strength(env, name, strength)
    return Scoring(suite, given.get("perturb", ""))
