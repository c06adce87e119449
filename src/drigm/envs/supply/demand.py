"""Customers' demand: quantiles of published distributions, and recorded series.

A week's demand is a function of luck u in (0, 1) and of the world, and rises with both. So two worlds, or two policies,
can be given the same luck: differences between them are then theirs.
"""

from __future__ import annotations

import csv
import functools
from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from drigm.core.errors import check
from drigm.core.types import Array

MOST_UNITS = 256  # no week's demand of a counted distribution is above
SHIPPED = {"weekly-sales": "weekly_sales.csv"}
LARGEST_FILE = 10_000_000  # bytes


def counts(luck: Array, mean: Array, excess: Array) -> Array:
    """Return the quantile ``luck`` [N] of a negative binomial with variance ``mean + excess mean^2`` [N].

    With excess 0 it is Poisson. The probabilities follow from one another,
    ``P(k + 1) / P(k) = mean (1 + excess k) / ((k + 1) (1 + excess mean))``.
    """
    k = jnp.arange(MOST_UNITS, dtype=jnp.float32)[None, :]
    mean, excess = mean[:, None], jnp.broadcast_to(excess, mean.shape)[:, None]
    safe = jnp.maximum(excess, 1e-6)
    first = -jnp.where(excess > 1e-6, jnp.log1p(safe * mean) / safe, mean)
    ratio = mean * (1.0 + excess * k) / ((k + 1.0) * (1.0 + excess * mean))
    log_chance = first + jnp.cumsum(jnp.log(jnp.maximum(ratio, 1e-30)), axis=1)
    below = jnp.cumsum(jnp.exp(jnp.concatenate([first, log_chance[:, :-1]], axis=1)), axis=1)
    return jnp.sum((luck[:, None] > below).astype(jnp.float32), axis=1)


def chance_above(mean: float, excess: float) -> float:
    """Return the chance that a demand of `counts` would be above `MOST_UNITS`."""
    if excess <= 1e-6:
        return float(stats.poisson.sf(MOST_UNITS, mean))
    return float(stats.nbinom.sf(MOST_UNITS, 1.0 / excess, 1.0 / (1.0 + excess * mean)))


def normal(luck: Array, mean: Array, deviation: Array) -> Array:
    """Return the quantile ``luck`` [N] of a normal distribution, cut off at 0."""
    return jnp.maximum(0.0, mean + deviation * jax.scipy.special.ndtri(luck))


def rounded(amount: Array, luck: Array) -> Array:
    """Return ``amount`` as whole units, up with the chance that its mean stays what it is."""
    return jnp.floor(amount + luck)


def recorded(name: str, weeks: int) -> np.ndarray:
    """Return recorded demands [R series, L >= weeks], whose mean is 1.

    Args:
        name: ``weekly-sales`` (see data/ATTRIBUTION.md), or a CSV file: a column for each series, a row for each week,
            and perhaps a first row of names.
        weeks: of an episode.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    series = _read(name)
    message = f"an episode has {weeks} weeks: give a longer series, or fewer weeks"
    check(series.shape[1] >= weeks, "series", f"{name} of {series.shape[1]} weeks", message)
    return series / series.mean()


@functools.cache
def _read(name: str) -> np.ndarray:
    if name in SHIPPED:
        text = (resources.files("drigm.envs.supply") / "data" / SHIPPED[name]).read_text(encoding="utf-8")
    else:
        path = Path(name)
        message = f"choose {' or '.join(SHIPPED)}, or name a CSV file of weekly demands of at most 10 MB"
        try:
            ok = path.is_file() and path.stat().st_size <= LARGEST_FILE
            text = path.read_text(encoding="utf-8") if ok else ""
        except (OSError, ValueError):
            ok, text = False, ""
        check(ok, "series", name, message)
    return _parsed(name, text)


def _parsed(name: str, text: str) -> np.ndarray:
    rows = [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]
    named = bool(rows) and not all(map(_is_number, rows[0]))
    try:
        series = np.array([[float(cell) for cell in row] for row in rows[named:]], np.float64).T
    except ValueError:  # a word, or rows of different lengths
        series = np.zeros(0)
    sound = series.ndim == 2 and np.isfinite(series).all() and np.all(series >= 0) and series.sum() > 0
    check(bool(sound), "series", name, "every row is a week, every column a series of numbers from 0")
    return series


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
