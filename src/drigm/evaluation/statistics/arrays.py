"""Arrays as the user gives them: float64, finite, of the right shape, or a sentence."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from drigm.core.errors import check


def as_array(field: str, given: ArrayLike, *shapes: str) -> np.ndarray:
    """Return ``given`` as float64 if it has as many axes as one of ``shapes``, such as "[K seeds, W worlds]".

    A shape that starts with "[...," allows any number of leading axes.

    Raises:
        UserError: not numbers, another number of axes, an empty axis, or a number that is not finite.
    """
    allowed = f"give finite numbers of shape {' or '.join(shapes)}, no axis empty"
    try:
        array = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        check(False, field, type(given).__name__, allowed)
        raise
    check(array.size > 0 and any(_fits(array.ndim, shape) for shape in shapes), field, array.shape, allowed)
    finite = np.isfinite(array)
    if not finite.all():
        check(False, field, float(array[~finite][0]), allowed)
    return array


def as_scores(field: str, given: ArrayLike) -> np.ndarray:
    """Return ``given`` as scores [K seeds, W worlds]; see `as_array`."""
    return as_array(field, given, "[K seeds, W worlds]")


def as_pair(x: ArrayLike, y: ArrayLike, names: tuple[str, str] = ("x", "y")) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of two methods as [K, W] and [L, W]; one number a seed, [K] and [L], is one world.

    Raises:
        UserError: see `as_array`; or the two do not have the same worlds.
    """
    shapes = "[K seeds, W worlds]", "[K seeds]"
    first, second = (as_array(name, given, *shapes) for name, given in zip(names, (x, y), strict=True))
    same = first.shape[1:] == second.shape[1:]
    check(same, names[1], second.shape, f"its worlds must be those of {names[0]}, whose shape is {first.shape}")
    return first.reshape(len(first), -1), second.reshape(len(second), -1)


def _fits(ndim: int, shape: str) -> bool:
    axes = shape.count(",") + 1
    return ndim >= axes - 1 if shape.startswith("[...,") else ndim == axes
