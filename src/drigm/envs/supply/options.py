"""What can be chosen about a supply chain, and which of its quantities can be perturbed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

import numpy as np

from drigm.core.config import is_number
from drigm.core.errors import UserError, check, choose, shown
from drigm.envs.api import Held, Parameter, Strength, held
from drigm.envs.query import parse_query

LARGEST_FACTOR = 10.0  # of demand and of its standard deviation
MORE_WEEKS = 4  # that a lead time can be longer than nominal
PARAMETERS = MappingProxyType(
    {
        "demand": Parameter("mean demand, times this", (0.8, 1.2, 1.5), 0.0, factor=True),
        "variability": Parameter("standard deviation of demand, times this", (1.5,), 0.0, factor=True),
        "burstiness": Parameter(
            "share by which demand is higher in bursts of a month, to 3", (1.0,), -1e-9, highest=3.0
        ),
        "seasonality": Parameter(
            "how far demand swings over a year, a share of its mean, to 1", (0.3,), -1e-9, highest=1.0
        ),
        "drift": Parameter("demand times 1 + this", (-0.2, 0.2), -1.0, held=True, highest=3.0),
        "lead_time": Parameter(
            f"weeks added to every shipment on average, to {MORE_WEEKS}", (1.0,), -1e-9, highest=MORE_WEEKS
        ),
        "yield": Parameter(
            "share of a shipment that is good, on average, from 0.5 to 1", (0.9, 0.8), 0.5 - 1e-9, highest=1.0
        ),
        "outage": Parameter("weeks in which one stage, drawn for each episode, ships nothing", (4.0,), -1e-9),
    }
)
FIELDS = {"yield": "yields"}  # where a parameter's name is a keyword of Python
NO_DRIFT = Held(0.0, 0.0, 0.0)
SALES = ("backlog", "lost")
PAID = ("now", "later")


@dataclass(frozen=True)
class SupplyOptions:
    """Options of a supply chain; the defaults are the instance's. Raises `UserError` on a value outside its range.

    ``weeks``: of an episode. ``sales``: customers who find nothing wait (backlog), or leave (lost); then each unit that
    is lost costs the penalty, once. ``paid``: a week's cost is paid with it, or with the next week (later): a reward is
    then known before chance decides, and all that chance does is in the value of the next state, where uncertainty
    sets reach it; the last week of an episode is not paid. ``capacity``: most units that a stage can order in a week.
    ``fixed_cost``: of every order that is not empty. ``start``: how far stocks are from the base-stock levels in the
    first week, in weeks of demand; 0 starts at the levels. ``levels``: steps between the lowest level that a stage can
    order up to, 0, and the highest, three times the mean demand of its lead time and a week; it has one action more.
    ``series``: recorded demand instead of the instance's distribution, scaled to its mean
    (`drigm.envs.supply.demand.recorded`).

    The others are those of `PARAMETERS`. ``demand``: mean demand is multiplied by it, ``variability`` multiplies its
    standard deviation. ``burstiness``: in bursts, of four weeks on average and a quarter of the time, demand is higher
    by this share, otherwise lower by a third of it. ``seasonality``: amplitude of a yearly cycle that begins anywhere.
    Counted demand is at least as uneven as Poisson's: a ``variability`` that its mean cannot have is refused, and in
    weeks of lower demand it is Poisson's. Where normal demand is cut off at 0 a high one raises its mean too.
    ``drift``: demand times 1 + a number drawn from this range for each episode, or anew after some hours.
    ``lead_time``: weeks added to every shipment; a fraction is the chance of one more. ``yields``: shares of shipments
    that are good are uniform from 2 ``yields`` - 1 to 1. ``outage``: weeks in which one stage ships nothing.
    """

    weeks: int = 52
    sales: str = "backlog"
    paid: str = "now"
    capacity: float = 1e6
    fixed_cost: float = 0.0
    start: float = 3.0
    levels: int = 54
    series: str = ""
    demand: float = 1.0
    variability: float = 1.0
    burstiness: float = 0.0
    seasonality: float = 0.0
    drift: Held = NO_DRIFT
    lead_time: float = 0.0
    yields: float = 1.0
    outage: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            check_type(field.name, getattr(self, field.name), type(field.default))
        check(1 <= self.weeks <= 10_000, "weeks", self.weeks, "give 1 to 10,000 weeks")
        choose("sales", self.sales, SALES)
        choose("paid", self.paid, PAID)
        message = "with costs that are paid a week later give 2 weeks or more"
        check(self.paid == "now" or self.weeks > 1, "weeks", self.weeks, message)
        check(self.capacity > 0, "capacity", self.capacity, "give units a week, above 0")
        check(self.fixed_cost >= 0, "fixed_cost", self.fixed_cost, "give a cost of 0 or more")
        check(0 <= self.start <= 10, "start", self.start, "give weeks of demand from 0 to 10")
        check(1 <= self.levels <= 1000, "levels", self.levels, "give an integer from 1 to 1000")
        check(0 < self.demand <= LARGEST_FACTOR, "demand", self.demand, "give a factor above 0, to 10")
        check(0 < self.variability <= LARGEST_FACTOR, "variability", self.variability, "give a factor above 0, to 10")
        check(0 <= self.burstiness <= 3, "burstiness", self.burstiness, "give a share from 0 to 3")
        check(0 <= self.seasonality <= 1, "seasonality", self.seasonality, "give a share from 0 to 1")
        low, high, hours = self.drift
        check(-1 <= low <= high <= 3 and hours >= 0, "drift", self.drift, "give lowest <= highest, from -1 to 3")
        message = f"give weeks from 0 to {MORE_WEEKS}"
        check(0 <= self.lead_time <= MORE_WEEKS, "lead_time", self.lead_time, message)
        check(0.5 <= self.yields <= 1, "yield", self.yields, "give a share from 0.5 to 1")
        check(0 <= self.outage <= self.weeks, "outage", self.outage, f"give weeks from 0 to {self.weeks}")


def check_type(name: str, given: Any, kind: type) -> None:
    """Raise `UserError` unless an option is a whole number, a finite number, a text or a `Held`, as ``kind`` is."""
    plain = given.item() if isinstance(given, np.generic) else given
    sound, allowed = {
        int: (is_number(plain) and isinstance(plain, int), "give a whole number"),
        float: (is_number(plain), "give a number"),
        str: (isinstance(given, str), "give a text"),
        Held: (isinstance(given, Held) and all(map(is_number, given)), "give a Held(low, high, hours)"),
    }[kind]
    check(sound, name, given, allowed)


def parameters(options: SupplyOptions, least_variability: float) -> dict[str, Parameter]:
    """Return the `PARAMETERS` of a supply chain with ``options``, and between which bounds each can be there."""
    lowest = max(0.0, least_variability / options.variability - 1e-9)
    bounds = {
        "demand": {"highest": LARGEST_FACTOR / options.demand},
        "variability": {"lowest": lowest, "highest": LARGEST_FACTOR / options.variability},
        "outage": {"highest": float(options.weeks)},
    }
    return {name: parameter._replace(**bounds.get(name, {})) for name, parameter in PARAMETERS.items()}


def varied(options: SupplyOptions, strengths: Mapping[str, Strength]) -> dict[str, Any]:
    """Return the options that `PARAMETERS` with ``strengths`` change: factors multiply, the others are set."""
    changed: dict[str, Any] = {}
    for name, strength in strengths.items():
        field = FIELDS.get(name, name)
        if name == "drift":
            changed[field] = held(strength)
        else:
            factor = getattr(options, field) if PARAMETERS[name].factor else 1.0
            changed[field] = factor * float(strength)  # pyright: ignore[reportArgumentType] (as above)
    return changed


def parse_options(name: str) -> tuple[str, dict[str, Any]]:
    """Return the instance and the options of ``INSTANCE?OPTION=VALUE&...``; `UserError` where it cannot be read."""
    instance, _, query = name.partition("?")
    known = {field.name: field for field in fields(SupplyOptions) if field.name != "drift"}
    texts = parse_query("supply option", query, known)
    return instance, {option: _value(option, text, type(known[option].default)) for option, text in texts.items()}


def _value(option: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        word = "a whole number" if kind is int else "a number"
        raise UserError(f"{option}: {shown(text)} is not allowed; give {word}.") from None
