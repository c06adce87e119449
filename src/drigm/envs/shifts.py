"""Shift suites: named lists of worlds in which a trained team is tried.

A suite is a list of `Shift`; all its ``params`` have the shapes of the environment's own, so that evaluation over a
suite is one `jax.vmap`. Suites of one environment travel with it in `Environment.shifts`; suites that fit every
environment stand in `SUITES`, those that perturb it in `GRIDS`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from drigm.core.errors import check, choose
from drigm.core.types import PyTree
from drigm.envs.api import Environment, Shift, Strength
from drigm.envs.persistent import world_points
from drigm.envs.perturbations import check_strength, perturbed

__all__ = [
    "GRIDS",
    "SOURCES",
    "SUITES",
    "WORLDS",
    "Shift",
    "Worlds",
    "default_suite",
    "shift_suite",
    "stack_params",
    "world_parts",
    "worlds",
]

DEFAULTS = ("climate", "demand")  # suites that an environment is evaluated in where it has them
WORLDS = 32  # drawn from ranges, where nobody says how many
SOURCES = "sources"  # the suite of worlds that training may know
Grid = Mapping[str, Sequence[float]]  # strengths of each perturbation


class Worlds(NamedTuple):
    """An environment, and the worlds of it that a team is tried in."""

    env: Environment
    shifts: list[Shift]


def _each_parameter(env: Environment) -> list[dict[str, float]]:
    """Every physical parameter alone, at the strengths that the environment declares."""
    points: list[dict[str, float]] = [{}]
    return points + [{name: value} for name, about in env.parameters.items() for value in about.values]


# Suites that need nothing but the environment itself. Adding one is one line.
SUITES: dict[str, Callable[[Environment], list[Shift]]] = {
    "nominal": lambda env: [Shift("nominal", env.params)],
}
# Suites of perturbed worlds: the strengths of each world.
GRIDS: dict[str, Callable[[Environment], list[dict[str, float]]]] = {
    "noise": lambda env: [{"obs_noise": x} for x in (0.0, 0.05, 0.1, 0.2, 0.4)],
    "parameters": _each_parameter,
    "failures": lambda env: [{"agent_failure": float(k)} for k in range(env.spec.num_agents + 1)],
}


def shift_suite(env: Environment, name: str) -> list[Shift]:
    """The worlds of suite ``name`` for ``env``; raises `UserError` listing the suites that ``env`` has."""
    choose("shifts", name, sorted({*SUITES, *env.shifts}))
    return env.shifts[name]() if name in env.shifts else SUITES[name](env)


def suite_names(env: Environment) -> list[str]:
    """Every suite that `worlds` takes for ``env``."""
    grids = [name for name in GRIDS if name != "parameters" or env.parameters]
    return sorted({*SUITES, *grids, *env.shifts, *env.suites})


def default_suite(env: Environment, perturb: Grid | None = None) -> str:
    """The suite of an evaluation that names none: one of `DEFAULTS`, a declared one, or noise; nominal if perturbed."""
    if perturb:
        return "nominal"
    return next((name for name in DEFAULTS if name in env.shifts), next(iter(env.suites), "noise"))


def worlds(
    env: Environment, suite: str = "nominal", perturb: Grid | None = None, ranges: str = "", count: int = WORLDS
) -> Worlds:
    """Return the worlds of ``suite``, each under every combination of the strengths in ``perturb``.

    With ``ranges`` (`drigm.envs.persistent`) they are ``count`` persistent worlds instead, not those of training; of
    several parts between semicolons, each ranges or a suite's name, they are those of all parts, one after the other.

    Args:
        env: the environment.
        suite: a name in `suite_names`.
        perturb: strengths of perturbations or physical parameters, as in ``{"obs_noise": [0, 0.1]}``.
        ranges: as in ``"demand=0.8:1.2,drift=-0.1:0.1"`` or ``"nominal; demand=1:1.5; lead_time=0:1"``.
        count: of the worlds that ranges draw.

    Returns:
        The worlds, with the environment that plays them: perturbed where anything is.

    Raises:
        UserError: there is no such suite, perturbation or range, or a strength is out of its limits.
    """
    if not ranges:
        return _played(env, _points(env, suite, perturb or {}))
    check(not perturb, "worlds", ranges, "a range of its own for what perturb sets")
    points = list[_Point]()
    for part in world_parts(ranges):
        if "=" in part:
            points += [_Point(title, "nominal", point) for title, point in world_points(env, part, count)]
        else:
            points += _points(env, part, {}, "worlds")
    return _played(env, points)


def world_parts(text: str) -> list[str]:
    """Return the parts of ``text`` between semicolons, as `worlds` takes them."""
    return [part for part in map(str.strip, text.split(";")) if part]


class _Point(NamedTuple):
    """Strengths that the worlds of a suite are played under; ``title`` where they are one world and it has a name."""

    title: str
    suite: str
    strengths: Mapping[str, Strength]


def _points(env: Environment, suite: str, grid: Grid, field: str = "shifts") -> list[_Point]:
    """Return what `worlds` of a suite and a grid are made of."""
    choose(field, suite, suite_names(env))
    for name, strengths in grid.items():
        for strength in strengths:
            check_strength(env, name, strength)
    combinations = [dict(zip(grid, point, strict=True)) for point in itertools.product(*grid.values())]
    if suite in env.suites:
        declared = env.suites[suite]
        for name, strength in (pair for point in declared.values() for pair in point.items()):
            check_strength(env, name, strength)
        return [
            _Point(_title(world, more), "nominal", {**point, **more})
            for world, point in declared.items()
            for more in combinations
        ]
    if suite in GRIDS:
        points, suite = GRIDS[suite](env), "nominal"
        combinations = [{**point, **more} for point in points for more in combinations]
    return [_Point("", suite, point) for point in combinations]


def _played(env: Environment, points: Sequence[_Point]) -> Worlds:
    """Return the worlds of all ``points``, and the one environment that plays them."""
    names = (name for point in points for name in point.strengths if name not in env.parameters)
    unperturbed: dict[str, Strength] = dict.fromkeys(names, 0.0)
    played, shifts = perturbed(env, unperturbed), list[Shift]()
    for title, suite, point in points:
        physical = {name: strength for name, strength in point.items() if name in env.parameters}
        world = perturbed(env, physical)
        strengths = {name: point.get(name, 0.0) for name in unperturbed}
        for shift in shift_suite(world, suite):
            params = perturbed(world._replace(params=shift.params), strengths).params
            shifts.append(Shift(title or _title(shift.name, point), params))
    return Worlds(played, shifts)


def _title(world: str, point: Mapping[str, Strength]) -> str:
    parts = [f"{name}={strength:g}" for name, strength in point.items()]
    return ", ".join(parts if world == "nominal" and parts else [world, *parts])


def stack_params(shifts: list[Shift]) -> PyTree:
    """The params of a suite on a new leading axis, ready for `jax.vmap`."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(shift.params for shift in shifts))
