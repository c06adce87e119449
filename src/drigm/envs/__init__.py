"""Environments by id: ``kind:name``. Adding a kind is one line in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from drigm.core.errors import UserError, choose, shown
from drigm.envs.api import Environment, Shift
from drigm.envs.building import dataset, simulator
from drigm.envs.jaxmarl import mpe, smax
from drigm.envs.shifts import shift_suite
from drigm.envs.subprocess import environment
from drigm.envs.subprocess.worker.smac_env import GENERATED
from drigm.envs.toy import probe, tabular


class Kind(NamedTuple):
    """One family of environments.

    ``pattern`` is how its names are formed, ``parts`` what may stand in each place of the pattern, ``settings`` what a
    training of such an environment uses where neither the user nor the preset says otherwise.
    """

    make: Callable[..., Environment]
    pattern: str
    parts: Callable[[], dict[str, list[str]]]
    settings: Mapping[str, Any] = MappingProxyType({})


def _building_parts() -> dict[str, list[str]]:
    return {
        "BUILDING": dataset.building_names(),
        "CITY": list(dataset.CITIES),
        "WEATHER": dataset.weather_names(),
        "GROUND": sorted(dataset.ground_tables()),
    }


# Battles: long episodes with a reward at the end, sudden deaths, actions without an order.
BATTLES = MappingProxyType(
    {
        "steps": 2_000_000,
        "gamma": 0.99,
        "share_parameters": True,
        "num_envs": 64,
        "epsilon_fraction": 0.1,
        "window": 12,
        "burn_in": 2,
        "batch": 32,
        "replay_size": 200_000,
        "learning_starts": 10_000,
        "update_every": 2,
        "learning_rate": 1.5e-3,
        "double_q": True,
        "target_period": 50,
    }
)
# Whatever comes: moderate settings that learn small tasks within a hundred thousand steps.
PARALLEL = MappingProxyType(
    {
        "steps": 100_000,
        "gamma": 0.99,
        "num_envs": 16,
        "epsilon_fraction": 0.3,
        "window": 12,
        "burn_in": 2,
        "batch": 32,
        "learning_starts": 2_000,
        "learning_rate": 1e-3,
        "double_q": True,
        "target_period": 100,
    }
)
KINDS: dict[str, Kind] = {
    "building": Kind(simulator.building, "building:BUILDING/CITY or building:BUILDING/WEATHER/GROUND", _building_parts),
    "mpe": Kind(mpe.mpe, "mpe:NAME", lambda: {"NAME": list(mpe.NAMES)}, PARALLEL),
    "pettingzoo": Kind(
        environment.pettingzoo,
        "pettingzoo:MODULE:FACTORY or pettingzoo:FILE.py:FACTORY, with ?OPTION=VALUE&...",
        lambda: {"FACTORY": ["any callable that returns a ParallelEnv with discrete actions"]},
        PARALLEL,
    ),
    "probe": Kind(probe.probe, "probe:NAME", lambda: {"NAME": list(probe.RULES)}),
    "smac": Kind(
        environment.smac,
        "smac:MAP",
        lambda: {"MAP": ["3s_vs_5z and the other maps of oxwhirl's SMAC", *GENERATED]},
        MappingProxyType({**BATTLES, "num_envs": 8, "update_every": 16}),  # every environment is a game of its own
    ),
    "smax": Kind(smax.smax, "smax:SCENARIO", lambda: {"SCENARIO": smax.scenarios()}, BATTLES),
    "tabular": Kind(tabular.tabular, "tabular:NAME", lambda: {"NAME": list(tabular.PROBLEMS)}),
}


HOSTED = ("pettingzoo", "smac")  # kinds that live in worker processes


def make_env(env_id: str, **options) -> Environment:
    """Return the environment called ``env_id``, such as ``building:OfficeSmall/Tucson``.

    ``options`` go to the environment's factory. Raises `UserError` naming what is allowed.
    """
    kind, colon, name = str(env_id).partition(":")
    if not colon:
        raise UserError(
            f"env: {shown(env_id)} is not allowed; ids look like building:OfficeSmall/Tucson (see drigm list)."
        )
    return KINDS[choose("env", kind, tuple(KINDS))].make(name, **options)


__all__ = ["HOSTED", "KINDS", "Environment", "Kind", "Shift", "make_env", "shift_suite"]
