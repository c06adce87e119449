"""The figures of a report: each a pure function from data to a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from drigm.core.errors import check
from drigm.core.naming import spaced
from drigm.report.figures.style import (
    COOL_HEAT,
    FAINT_INK,
    INK,
    color,
    drawing,
    ink_on,
    label_ends,
    legend_above,
    wrapped,
)
from drigm.report.tables import Score

# A one-step optimal controller with full knowledge scores this in every city.
ONE_STEP_OPTIMUM = 0.994
DO_NOTHING = {"Tucson": -1.7, "NewYork": -3.6}

FLOOR = -0.3  # where bars of `shift_bars` are cut


class PolicyDay(NamedTuple):
    """What one policy did on the day: T steps, N zones."""

    label: str
    zone_temperature: ArrayLike  # [T, N] degrees Celsius
    action: ArrayLike  # [T, N] fraction of the zone's power, -1 cooling to 1 heating


class BuildingDay(NamedTuple):
    """One day of one building in the hands of one policy, or of several side by side."""

    place: str
    zones: Sequence[str]  # N names
    hours: ArrayLike  # [T] hours since midnight
    outdoor_temperature: ArrayLike  # [T] degrees Celsius
    policies: Sequence[PolicyDay]
    target: float = 22.0  # degrees Celsius


def shift_bars(
    scores: Mapping[str, Mapping[str, Score]],
    *,
    title: str | None = None,
) -> Figure:
    """Draw the score of each method in each city, with its standard error over seeds.

    Bars start at 0. A score below -0.3 is cut there and written at its bar's foot. The default title says which
    method has the highest mean over the cities that all methods have.

    Args:
        scores: per method, per city, a `Score`; a method may lack a city.
        title: replaces the default title.
    """
    cities = list(dict.fromkeys(city for row in scores.values() for city in row))
    check(bool(cities), "scores", dict(scores), "at least one method with one city is needed")
    width = 0.8 / len(scores)
    with drawing(max(5.0, 1.0 + 1.1 * len(cities)), 3.6) as figure:
        ax = figure.add_subplot()
        for i, (method, row) in enumerate(scores.items()):
            places = np.array([cities.index(city) for city in row]) + width * (i - (len(scores) - 1) / 2)
            _bars(ax, places, list(row.values()), 0.9 * width, color(i), method)
        ax.axhline(0, color=FAINT_INK, linewidth=0.8)
        handles, labels = ax.get_legend_handles_labels()
        handles.append(ax.axhline(ONE_STEP_OPTIMUM, color=INK, linewidth=1.0, linestyle=(0, (4, 3))))
        labels.append(f"one-step optimum, {ONE_STEP_OPTIMUM:g}")
        ax.set_xticks(range(len(cities)), [spaced(city) for city in cities])
        ax.tick_params(axis="x", length=0)
        ax.set_xlim(-0.55, len(cities) - 0.45)
        if any(score.mean < FLOOR for row in scores.values() for score in row.values()):
            ax.set_ylim(bottom=FLOOR - 0.12)  # room for the numbers of the bars that are cut
        ax.set_ylabel("Score (1 is best)")
        each = ", ".join(f"{_signed(score)} in {spaced(city)}" for city, score in DO_NOTHING.items())
        several = any(np.isfinite(score.se) for row in scores.values() for score in row.values())
        whiskers = "Whiskers: one standard error over seeds. " if several else ""
        notes = f"{whiskers}Doing nothing scores {each}."
        inches = figure.get_figwidth()
        ax.set_xlabel(wrapped(notes, inches - 0.6, 8), fontsize=8, loc="left")
        shown = wrapped(_highest(scores) if title is None else title, inches, 10)
        figure.suptitle(shown, x=0.01, ha="left", fontsize=10)
        legend_above(figure, ax, handles, labels)
    return figure


def building_day(day: BuildingDay, *, title: str | None = None) -> Figure:
    """Draw one day: zone temperatures over the outdoor temperature over every zone's power, one column per policy.

    Columns share their axes. Each column's title says how far its zones were from the comfort target on average.

    Args:
        day: the day.
        title: replaces the default title, which names the place.
    """
    hours, outdoor = np.asarray(day.hours, float), np.asarray(day.outdoor_temperature, float)
    columns, zones = len(day.policies), len(day.zones)
    check(columns > 0, "day.policies", day.policies, "at least one policy is needed")
    check(len(hours) > 1, "day.hours", hours, "at least two steps are needed")
    colors = [color(i) for i in range(zones)]
    with drawing(1.6 + 3.4 * columns, 5.4) as figure:
        grid = figure.subplots(3, columns, squeeze=False, sharex=True, sharey="row", height_ratios=[5, 2, 3])
        for column, policy in enumerate(day.policies):
            temperature, action = np.asarray(policy.zone_temperature, float), np.asarray(policy.action, float)
            for name, array in [("zone_temperature", temperature), ("action", action)]:
                shape = (len(hours), zones)
                check(array.shape == shape, f"{policy.label}: {name} shape", array.shape, f"it must be {shape}")
            inside, outside, power = grid[:, column]
            inside.axhline(day.target, color=INK, linewidth=1.0, linestyle=(0, (4, 3)))
            for zone in range(zones):
                inside.plot(hours, temperature[:, zone], color=colors[zone], linewidth=1.3)
            distance = np.abs(temperature - day.target).mean()
            inside.set_title(wrapped(f"{policy.label}: {distance:.2f} °C from target on average", 3.3, 10))
            outside.plot(hours, outdoor, color=FAINT_INK)
            _power(power, hours, action, zones)
        first = grid[:, 0]
        first[0].set_ylabel("Zone (°C)")
        first[1].set_ylabel("Outdoor (°C)")
        first[2].set_yticks(np.arange(zones) + 0.5, list(day.zones), fontsize=8)
        for tick, c in zip(first[2].get_yticklabels(), colors, strict=True):
            tick.set_color(c)
        for ax in grid[-1]:
            ax.set_xlabel("Hour of the day")
        first[2].set_xlim(hours[0], hours[-1] + np.diff(hours).mean())
        first[2].set_xticks(np.arange(0, 25, 6 if columns > 1 else 3))
        figure.colorbar(
            ScalarMappable(Normalize(-1, 1), COOL_HEAT),
            ax=list(grid.flat),  # of the whole grid, so that it takes its room from every row alike
            location="bottom",
            shrink=0.5,
            aspect=40,
            ticks=[-1, 0, 1],
            format=lambda x, _: {-1: "full cooling", 0: "off", 1: "full heating"}[round(x)],
        )
        figure.suptitle(f"One day in {spaced(day.place)}" if title is None else title, x=0.01, ha="left", fontsize=11)
        ends = [*np.asarray(day.policies[-1].zone_temperature, float)[-1].tolist(), day.target]
        labels = [*day.zones, f"target, {day.target:g} °C"]
        label_ends(figure, grid[0, -1], labels, ends, [*colors, INK], x=first[2].get_xlim()[1])
    return figure


def _bars(ax: Axes, places: np.ndarray, scores: Sequence[Score], width: float, fill: str, label: str) -> None:
    means, errors = np.array(scores, float).T
    ax.bar(places, np.maximum(means, FLOOR), width, color=fill, label=label)
    at = {"textcoords": "offset points", "ha": "center", "fontsize": 7}
    for x, mean in zip(places, means, strict=True):
        if mean < FLOOR:
            ax.annotate(_signed(mean), (x, FLOOR), (0, -2), va="top", **at)
        elif mean > 0.2:  # tall enough to hold its number, which the bars' heights alone show too coarsely
            ax.annotate(f"{mean:.3f}", (x, 0), (0.5, 3), va="bottom", rotation=90, color=ink_on(fill), **at)
    shown = (means >= FLOOR) & np.isfinite(errors)
    ax.errorbar(places[shown], means[shown], errors[shown], fmt="none", ecolor=INK, elinewidth=1.0, capsize=2.0)


def _power(ax: Axes, hours: np.ndarray, action: np.ndarray, zones: int) -> None:
    step = np.diff(hours).mean()
    edges = np.append(hours, hours[-1] + step)
    # As an image inside a vector file: thousands of abutting rectangles show seams and weigh megabytes.
    ax.pcolormesh(edges, np.arange(zones + 1), action.T, cmap=COOL_HEAT, vmin=-1, vmax=1, linewidth=0, rasterized=True)
    ax.grid(False)
    ax.hlines(np.arange(1, zones), edges[0], edges[-1], color="white", linewidth=1.5)
    ax.set_ylim(zones, 0)


def _highest(scores: Mapping[str, Mapping[str, Score]]) -> str:
    cities = set.intersection(*(set(row) for row in scores.values()))
    if len(scores) < 2 or not cities:
        return "Score under shift"
    means = {method: float(np.mean([row[city].mean for city in cities])) for method, row in scores.items()}
    best = max(means, key=means.__getitem__)
    where = f"over {len(cities)} cities" if len(cities) > 1 else f"in {spaced(*cities)}"
    return f"{best} has the highest mean score {where}: {means[best]:.3f}"


def _signed(x: float) -> str:
    return f"{x:.3g}".replace("-", "\N{MINUS SIGN}")


def step_label(x: float) -> str:
    """Return 150k for 150,000 and 1.5M for 1,500,000."""
    return f"{x / 1e6:g}M" if x >= 1e6 else f"{x / 1e3:g}k" if x >= 1e3 else f"{x:g}"
