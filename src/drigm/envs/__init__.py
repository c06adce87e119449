"""Environments by id: ``kind:name``. Adding a kind is one line in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from drigm.core.errors import UserError, choose, shown
from drigm.envs.api import Environment, Shift
from drigm.envs.building import dataset, one_step
from drigm.envs.energyplus.environment import energyplus
from drigm.envs.jaxmarl import mpe, smax
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
        "sales=backlog|lost",
        "capacity=12",
        "paid=now|later",
        "series=weekly-sales|FILE.csv",
        "start=1",
        "levels=10",
    ]
    return {"INSTANCE": list(network.CHAINS), "OPTION": options}


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
    return KINDS[choose("env", kind, tuple(KINDS))].make(name, **options)


__all__ = ["KINDS", "SUBPROCESS_KINDS", "Environment", "Kind", "Shift", "make_env", "shift_suite"]
