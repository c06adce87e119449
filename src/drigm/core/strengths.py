"""Strengths of perturbations as people write them, in training and in evaluation: text, numbers, lists of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from drigm.core.errors import UserError, check, shown

Perturb = str | Mapping[str, float | Sequence[float]]
"""What `grid_of` takes."""


def parse_grid(text: str) -> dict[str, list[float]]:
    """Return the strengths that ``name=0,0.1 other=0.2`` names; `UserError` where it cannot be read."""
    grid: dict[str, list[float]] = {}
    for part in text.split():
        name, equals, values = part.partition("=")
        try:
            numbers = [float(value) for value in values.split(",")]
        except ValueError:
            numbers = []
        if not equals or not numbers or not all(abs(x) < float("inf") for x in numbers):
            raise UserError(f"perturb: {shown(part)} is not allowed; give name=strength,strength,... (see drigm list).")
        check(name not in grid, "perturb", text, f"give {name} once")
        grid[name] = numbers
    return grid


def parse_strengths(text: str) -> dict[str, float]:
    """Return the strengths that ``name=0.1 other=2`` names; `UserError` where a name has more than one."""
    grid = parse_grid(text)
    for name, strengths in grid.items():
        check(len(strengths) == 1, f"perturb {name}", strengths, "give one strength of each")
    return {name: strengths[0] for name, strengths in grid.items()}


def grid_of(perturb: Perturb | None) -> dict[str, list[float]]:
    """Return the strengths of each perturbation that ``perturb`` says in any of its forms; `UserError` if it does not.

    ``"obs_noise=0,0.1"``, ``{"obs_noise": 0.1}`` and ``{"obs_noise": [0, 0.1]}``.
    """
    if perturb is None or isinstance(perturb, str):
        return parse_grid(perturb or "")
    message = "give text as in 'obs_noise=0,0.1', or a dict of numbers or lists of numbers"
    check(hasattr(perturb, "items"), "perturb", perturb, message)
    grid: dict[str, list[float]] = {}
    for name, given in perturb.items():
        try:
            values = [float(x) for x in np.atleast_1d(np.asarray(given, np.float64))]
        except (TypeError, ValueError):
            values = []
        check(bool(values) and bool(np.all(np.isfinite(values))), f"perturb {name}", given, message)
        grid[str(name)] = values
    return grid


def perturb_text(perturb: Perturb) -> str:
    """Return ``obs_noise=0.1 action_delay=1`` for what `grid_of` takes."""
    return " ".join(f"{name}={','.join(f'{x:.10g}' for x in values)}" for name, values in grid_of(perturb).items())
