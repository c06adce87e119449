"""The ids ``energyplus:BUILDING/CITY?OPTION=VALUE&...``: the engine in worker processes, with the protocol's days."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from drigm.core.types import EnvSpec
from drigm.envs.api import Environment, Shift
from drigm.envs.building import dataset
from drigm.envs.building.simulator import PROTOCOL_DAYS, building, published_score
from drigm.envs.subprocess.environment import subprocess_env
from drigm.envs.subprocess.vector import SubprocessWorld

KIND = "energyplus"
# A seed of the default days is its day. The protocol's first 20 of 50 days, because a day takes 0.3 s for each team.
EVAL_DAYS = tuple(int(day) for day in PROTOCOL_DAYS[:20])


def energyplus(name: str, **options: Any) -> Environment:
    """Return the environment ``BUILDING/CITY?OPTION=VALUE&...``, as in ``OfficeSmall/Tucson?gains=office``.

    The options in the name are those of `drigm.envs.energyplus.parallel_env`, ``options`` those of
    `drigm.envs.subprocess.environment.subprocess_env`. An evaluation plays the protocol's first 20 days, whatever
    ``days`` the name has. Raises `UserError` where the engine is missing or a name or value is not allowed.
    """
    env = subprocess_env(KIND, name, **options)
    place, _, query = name.partition("?")
    spec = spec_of(place, env.spec.agents, env.spec.num_actions)
    building_name, _, city = place.partition("/")
    # The days of a training are its own; a score is always over the protocol's.
    chosen = "&".join(option for option in query.split("&") if option and not option.startswith("days="))
    described = spec.described
    if described is not None and "mode=setpoint" in query.split("&"):
        described = described._replace(levels="set point of the zone's thermostat, from 18 C (-1) to 26 C (1)")
    return env._replace(
        spec=spec._replace(name=f"{KIND}:{name}", described=described),
        params=_world(building_name, city, chosen),
        eval_seeds=EVAL_DAYS,
        num_eval_episodes=len(EVAL_DAYS),
        score=functools.partial(published_score, num_agents=spec.num_agents),
        shifts=MappingProxyType({"climate": functools.partial(_climate, building_name, chosen)}),
    )


def spec_of(place: str, agents: Sequence[str], levels: int) -> EnvSpec:
    """Return the spec of ``building:BUILDING/CITY`` whose zones ``agents`` are conditioned."""
    names = dataset.zones(place.partition("/")[0])[0].names
    conditioned = np.array([name in agents for name in names], np.float64)
    return building(place, ac_map=conditioned, levels=levels).spec


def _climate(building_name: str, query: str) -> list[Shift]:
    """The same building, gains and mode in the six cities of the published protocol."""
    return [Shift(city, _world(building_name, city, query)) for city in dataset.PROTOCOL_CITIES]


def _world(building_name: str, city: str, query: str) -> SubprocessWorld:
    return SubprocessWorld(f"{building_name}/{city}{'?' if query else ''}{query}")
