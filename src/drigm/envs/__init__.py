"""Environments by id: ``kind:name``. Adding a kind is one line in `KINDS`; from outside it is `register_env`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from drigm.core.config import checked, refuse_unknown
from drigm.core.errors import UserError, check, shown
from drigm.core.plugins import join, look_up
from drigm.core.presets import KIND_SETTINGS, PARALLEL
from drigm.envs.api import Environment, Shift
from drigm.envs.building import dataset, one_step
from drigm.envs.energyplus.environment import energyplus
from drigm.envs.imported import IMPORTED, OBJECT, imported_record
from drigm.envs.jaxmarl import mpe, smax
from drigm.envs.jumanji import environment as jumanji
from drigm.envs.jumanji.games import GAMES
from drigm.envs.shifts import shift_suite
from drigm.envs.subprocess import environment
from drigm.envs.subprocess.worker.adapters import KINDS as SUBPROCESS_KINDS
from drigm.envs.subprocess.worker.smac_env import GENERATED
from drigm.envs.supply import base_stock, network
from drigm.envs.toy import probe, tabular


class Kind(NamedTuple):
    """One family of environments.

    ``pattern`` is how its names are formed, ``parts`` what may stand in each place of the pattern. What a training uses
    where neither the user nor the preset says otherwise stands in `drigm.core.presets.KIND_SETTINGS`.
    """

    make: Callable[..., Environment]
    pattern: str
    parts: Callable[[], dict[str, list[str]]]


def _building_parts() -> dict[str, list[str]]:
    return {
        "BUILDING": dataset.building_names(),
        "CITY": list(dataset.CITIES),
        "WEATHER": dataset.weather_names(),
        "GROUND": sorted(dataset.ground_tables()),
    }


def _supply_parts() -> dict[str, list[str]]:
    options = [
        "weeks=52",
        "start=3",
        "levels=54",
        "sales=backlog|lost",
        "paid=now|later",
        "series=weekly-sales|FILE.csv",
        "capacity=UNITS",
        "fixed_cost=COST",
    ]
    return {"INSTANCE": list(network.CHAINS), "OPTION": options}


def _from_python(kind: str) -> Callable[..., Environment]:
    """Return the ``make`` of environments that are records of Python code: ``python:`` and ``object:`` names."""

    def make(name: str) -> Environment:
        found = imported_record("env", f"{kind}:{name}")
        message = (
            f"it is {shown(found)}, not a drigm.envs.api.Environment; a PettingZoo environment is pettingzoo:{name}"
        )
        check(isinstance(found, Environment), "env", f"{kind}:{name}", message)
        return found

    return make


KINDS: dict[str, Kind] = {
    "building": Kind(one_step.building, "building:BUILDING/CITY or building:BUILDING/WEATHER/GROUND", _building_parts),
    "energyplus": Kind(
        energyplus,
        "energyplus:BUILDING/CITY, with ?OPTION=VALUE&...",
        lambda: {
            "BUILDING": ["OfficeSmall", "OfficeMedium"],
            "CITY": list(dataset.PROTOCOL_CITIES),
            "OPTION": ["gains=none|office", "mode=power|setpoint", "days=[0,1]", "levels=200", "max_power=8000"],
        },
    ),
    "jumanji": Kind(
        jumanji.jumanji,
        "jumanji:NAME, with ?OPTION=VALUE&...",
        lambda: {"NAME": list(GAMES), **jumanji.option_names()},
    ),
    "mpe": Kind(mpe.mpe, "mpe:NAME", lambda: {"NAME": list(mpe.NAMES)}),
    "pettingzoo": Kind(
        environment.pettingzoo,
        "pettingzoo:MODULE:FACTORY or pettingzoo:FILE.py:FACTORY, with ?OPTION=VALUE&...",
        lambda: {"FACTORY": ["any callable that returns a ParallelEnv with discrete actions"]},
    ),
    "probe": Kind(probe.probe, "probe:NAME", lambda: {"NAME": list(probe.RULES)}),
    "smac": Kind(
        environment.smac,
        "smac:MAP",
        lambda: {"MAP": ["3s_vs_5z and the other maps of oxwhirl's SMAC", *GENERATED]},
    ),
    "smax": Kind(smax.smax, "smax:SCENARIO", lambda: {"SCENARIO": smax.scenarios()}),
    "supply": Kind(base_stock.supply, "supply:INSTANCE, with ?OPTION=VALUE&...", _supply_parts),
    "tabular": Kind(tabular.tabular, "tabular:NAME", lambda: {"NAME": list(tabular.PROBLEMS)}),
    IMPORTED: Kind(
        _from_python(IMPORTED),
        "python:MODULE:ATTRIBUTE or python:FILE.py:ATTRIBUTE, with ?OPTION=VALUE&...",
        lambda: {"ATTRIBUTE": ["any drigm.envs.api.Environment, or function that returns one"]},
    ),
    OBJECT: Kind(
        _from_python(OBJECT), "object:NAME", lambda: {"NAME": ["what drigm.train(env=...) was given, in that process"]}
    ),
}


def make_env(env_id: str, **options: Any) -> Environment:
    """Return the environment called ``env_id``, such as ``building:OfficeSmall/Tucson``.

    ``options`` go to the environment's factory. Raises `UserError` naming what is allowed.
    """
    kind, colon, name = str(env_id).partition(":")
    if not colon:
        raise UserError(
            f"env: {shown(env_id)} is not allowed; ids look like building:OfficeSmall/Tucson (see drigm list)."
        )
    return look_up("env", kind, KINDS).make(name, **options)


def register_env(
    kind: str,
    make: Callable[..., Environment],
    *,
    pattern: str = "",
    parts: Callable[[], dict[str, list[str]]] = dict,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Make ids ``kind:NAME`` mean ``make(NAME)`` in this process and, from a plug-in, everywhere.

    Args:
        kind: what stands before the colon.
        make: returns an `Environment` of the text behind the colon, or raises `drigm.UserError`.
        pattern: how `drigm list` shows ids of this kind; by default ``kind:NAME``.
        parts: what may stand in each place of the pattern.
        settings: what a training uses where neither the user nor the preset says otherwise, fields of
            `drigm.core.config.TrainConfig`; by default those of small tasks (`drigm.core.presets.PARALLEL`).

    Raises:
        UserError: the kind is taken or malformed, ``make`` is no function, or a setting is unknown or out of range.
    """
    for what, given in (("make", make), ("parts", parts)):
        check(callable(given) and not isinstance(given, tuple), what, given, f"a function, for the kind {shown(kind)}")
    settings = PARALLEL if settings is None else settings
    refuse_unknown(dict(settings))
    settings = {name: checked(name, value) for name, value in settings.items()}
    join("env", KINDS, kind, Kind(make, pattern or f"{kind}:NAME", parts))
    KIND_SETTINGS[kind] = settings


__all__ = ["KINDS", "SUBPROCESS_KINDS", "Environment", "Kind", "Shift", "make_env", "register_env", "shift_suite"]
