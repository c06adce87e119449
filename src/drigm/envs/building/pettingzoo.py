"""The building as a PettingZoo `ParallelEnv`; made by `drigm.envs.building.parallel_env`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from drigm.core.errors import check
from drigm.envs.api import Environment
from drigm.envs.building.simulator import BuildingParams, occupant_heat
from drigm.envs.parallel_env import MOST, ParallelJaxEnv

ROUNDING = 1e-3  # relative margin of the spaces' bounds for float32 rounding


class ParallelBuildingEnv(ParallelJaxEnv):
    """One agent per zone with AC, named after its zone.

    Observation, float32 [5]: own zone temperature, outdoor, ground (C), GHI (fraction of the year's highest) and the
    heat of one occupant (kW). Action: a level in ``Discrete(levels)``, or a power in ``Box(-1, 1, (1,))`` for a
    continuous building. Every agent's reward is the whole reward, as in SustainGym. The state, float32 [n + 4], has all
    n zone temperatures, outdoor, ground, GHI and occupant's heat.
    """

    metadata: dict[str, Any] = {"name": "drigm_building", "render_modes": [], "is_parallelizable": True}  # noqa: RUF012

    def __init__(self, env: Environment) -> None:
        action_spaces = {agent: _action_space(env) for agent in env.spec.agents}
        super().__init__(env, *_spaces(env, env.params), action_spaces, called="levels")
        self.regulated = _declared(env)  # what drigm's controllers hold (docs/your-environment.md)
        self.described = _names(env)
        self._days, self._calendar = np.asarray(env.params.days), np.random.default_rng()

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Start an episode where SustainGym's ``reset(seed=day)`` does.

        ``options={"day": d}`` picks the day, and other options are ignored. Without it the day is drawn from the
        building's ``days``; ``seed`` seeds that draw and the ones after it. Raises `UserError` on a negative day.
        """
        if seed is not None:
            self._calendar = np.random.default_rng(seed)
        day = (options or {}).get("day")
        if day is None:
            day = self._calendar.choice(self._days)
        check(int(day) == day and day >= 0, "day", day, "give an integer of 0 or more")
        # One start day leaves the key no more to draw than unknown heat, where the building has any.
        return self._begin(seed, self._params._replace(days=np.array([day], np.int32)))


def _action_space(env: Environment) -> gymnasium.Space:
    if env.spec.num_actions == 0:
        return gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    return gymnasium.spaces.Discrete(env.spec.num_actions)


def _declared(env: Environment) -> dict[str, Any] | None:
    """What each agent's level holds at which setpoint, as `drigm.envs.subprocess.worker.declarations` reads it."""
    regulated, levels = env.spec.regulated, env.spec.action_values
    if regulated is None or levels is None:
        return None
    setpoints = dict(zip(env.spec.agents, regulated.setpoint.tolist(), strict=True))
    return {"reading": regulated.reading, "setpoint": setpoints, "levels": levels.tolist()}


def _names(env: Environment) -> dict[str, Any]:
    """Return names and units of the readings and the length of a step, as drigm reads them from any environment."""
    said = env.spec.described
    assert said is not None
    readings, units = (dict(zip(env.spec.agents, map(list, rows), strict=True)) for rows in (said.readings, said.units))
    return {"readings": readings, "units": units, "step_seconds": said.step_seconds}


def _spaces(env: Environment, params: BuildingParams) -> tuple[gymnasium.spaces.Box, dict[str, gymnasium.spaces.Space]]:
    """The state's space and every agent's observation space, from what is reachable within one episode."""
    zones, shared = reachable(params, env.spec.episode_limit)
    low, high = np.concatenate([zones, shared], axis=1)
    agent_zones = np.flatnonzero(np.asarray(params.ac_map))
    observation_spaces: dict[str, gymnasium.spaces.Space] = {
        agent: _box(np.append(zones[0, zone], shared[0]), np.append(zones[1, zone], shared[1]))
        for agent, zone in zip(env.spec.agents, agent_zones, strict=True)
    }
    return _box(low, high), observation_spaces


def _box(low: np.ndarray, high: np.ndarray) -> gymnasium.spaces.Box:
    margin = ROUNDING * np.maximum(1.0, np.maximum(np.abs(low), np.abs(high)))
    low, high = np.nan_to_num(low - margin, nan=-MOST), np.nan_to_num(high + margin, nan=MOST)
    low, high = (np.clip(bound, -MOST, MOST).astype(np.float32) for bound in (low, high))
    return gymnasium.spaces.Box(low, high)


def reachable(params: BuildingParams, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Bounds ``[2, n]`` of zone temperatures and ``[2, 4]`` of what all agents see, over ``steps`` steps from a reset.

    Zones may leave SustainGym's nominal ``temp_range`` by far (an 8 kW unit at full power in a small closet), so the
    bounds come from interval arithmetic on the model itself, over every action and every weather of the year.
    """
    p: Any = BuildingParams(*(np.asarray(leaf, np.float64) for leaf in params))  # type: ignore[arg-type]
    series = [(x.min(), x.max()) for x in (p.out_temp, p.ground_temp, p.ghi)]
    response = np.concatenate([np.eye(len(p.target)) + p.relaxation, p.heating, p.ambient], axis=1)
    up, down = np.maximum(response, 0.0), np.minimum(response, 0.0)
    low = high = lowest = highest = p.target
    powers = np.ones(len(p.target))
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(steps):
            heat = _heat_range(p, low.mean(), high.mean())
            outdoor, ground, ghi = series
            minimum = np.concatenate([low, -powers, [heat[0], ground[0], outdoor[0], ghi[0]]])
            maximum = np.concatenate([high, powers, [heat[1], ground[1], outdoor[1], ghi[1]]])
            low, high = up @ minimum + down @ maximum, up @ maximum + down @ minimum
            lowest, highest = np.minimum(lowest, low), np.maximum(highest, high)
        heat = _heat_range(p, lowest.mean(), highest.mean())
    return np.stack([lowest, highest]), np.array([*series, (heat[0] / 1000, heat[1] / 1000)]).T


def _heat_range(p: Any, low: float, high: float) -> tuple[float, float]:
    """Bounds of `occupant_heat` for air between ``low`` and ``high``.

    It is quadratic in each argument. A quadratic known at three even points exceeds them by at most 1.25 times their
    size, so one known on a 3 x 3 grid stays within its values there, widened by their spread on either side.
    """
    temperature = np.linspace(low, high, 3)
    metabolism = np.linspace(p.metabolism.min(), p.metabolism.max(), 3)
    values = np.asarray(occupant_heat(temperature[:, None], metabolism[None, :]))
    spread = values.max() - values.min()
    return float(values.min() - spread), float(values.max() + spread)
