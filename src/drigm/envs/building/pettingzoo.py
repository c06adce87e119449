"""The building as a PettingZoo `ParallelEnv`, for training code that expects one.

It steps the same compiled physics as `drigm.envs.building.simulator`, on the CPU, and is made by
`drigm.envs.building.parallel_env`.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from pettingzoo import ParallelEnv

from drigm.core.errors import check
from drigm.core.types import TimeStep
from drigm.envs.api import Environment
from drigm.envs.building.simulator import BuildingParams, BuildingState, occupant_heat

ROUNDING = 1e-3  # relative margin of the spaces' bounds for float32 rounding


class ParallelBuildingEnv(ParallelEnv[str, np.ndarray, Any]):
    """One agent per zone with AC, named after its zone.

    Observation, float32 [5]: own zone temperature, outdoor, ground (C), GHI (fraction of the year's highest) and the
    heat of one occupant (kW). Action: a level in ``Discrete(levels)``, or a power in ``Box(-1, 1, (1,))`` for a
    continuous building. Every agent's reward is the whole reward, as in SustainGym. Episodes are only ever truncated.
    """

    metadata: dict[str, Any] = {"name": "drigm_building", "render_modes": [], "is_parallelizable": True}  # noqa: RUF012
    render_mode = None

    def __init__(self, env: Environment) -> None:
        self.spec = env.spec
        self.possible_agents = list(env.spec.agents)
        self.regulated = _declared(env)  # what drigm's controllers hold (docs/your-environment.md)
        self.described = _names(env)
        self.agents: list[str] = []
        # Committing the parameters to the CPU keeps each small step there on machines with an accelerator.
        self._params: BuildingParams = jax.device_put(env.params, jax.devices("cpu")[0])
        self._days = np.asarray(env.params.days)
        # Both functions ignore their key: one start day leaves a reset nothing to draw, and a step draws nothing.
        self._reset = jax.jit(lambda params: _packed(*env.reset(jax.random.key(0), params)))
        self._step = jax.jit(lambda state, action, params: _packed(*env.step(jax.random.key(0), state, action, params)))
        self._generator = np.random.default_rng()
        self._continuous = env.spec.num_actions == 0

        self.state_space, self.observation_spaces = _spaces(env, self._params)
        self.action_spaces = {agent: self._action_space() for agent in self.possible_agents}

    def _action_space(self) -> gymnasium.Space:
        if self._continuous:
            return gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        return gymnasium.spaces.Discrete(self.spec.num_actions)

    def observation_space(self, agent: str) -> gymnasium.Space:
        """The same `Box` object at each call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gymnasium.Space:
        """The same `Discrete` or `Box` object at each call."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Start an episode where SustainGym's ``reset(seed=day)`` does.

        ``options={"day": d}`` picks the day, and other options are ignored. Without it the day is drawn from the
        building's ``days``; ``seed`` seeds that draw and the ones after it. Raises `UserError` on a negative day.
        """
        if seed is not None:
            self._generator = np.random.default_rng(seed)
        day = (options or {}).get("day")
        if day is None:
            day = self._generator.choice(self._days)
        check(int(day) == day and day >= 0, "day", day, "give an integer of 0 or more")
        self._env_state, packed = self._reset(self._params._replace(days=np.array([day], np.int32)))
        obs, *_ = self._unpack(packed)
        self.agents = self.possible_agents[:]
        return obs, {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]):
        """One step with every agent's action, by agent id: observations, rewards, terminations, truncations, infos."""
        agents = self.agents
        if not agents:
            return {}, {}, {}, {}, {}
        self._env_state, packed = self._step(self._env_state, self._joint_action(actions), self._params)
        obs, reward, truncated = self._unpack(packed)
        if truncated:
            self.agents = []
        return (
            obs,
            dict.fromkeys(agents, reward),
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, truncated),
            {agent: {} for agent in agents},
        )

    def state(self) -> np.ndarray:
        """All n zone temperatures, outdoor, ground, GHI, occupant's heat: float32 [n + 4], physical units."""
        return self._global_state.copy()

    def render(self) -> None:
        """Nothing is drawn: `metadata` lists no render mode."""

    def _joint_action(self, actions: dict[str, Any]) -> np.ndarray:
        """Actions by agent id to [N] in the agents' order; raises `UserError` if one is missing or outside."""
        missing = [agent for agent in self.agents if agent not in actions]
        check(not missing, "actions", sorted(actions), f"every live agent needs an action, missing: {missing}")
        joint = np.array([actions[agent] for agent in self.agents])
        if self._continuous:
            return joint.reshape(len(self.agents)).astype(np.float32)
        joint = joint.astype(np.int32)
        allowed = f"give levels from 0 to {self.spec.num_actions - 1}"
        check(joint.min() >= 0 and joint.max() < self.spec.num_actions, "actions", joint.tolist(), allowed)
        return joint

    def _unpack(self, packed: jax.Array) -> tuple[dict[str, np.ndarray], float, bool]:
        """Undo `_packed`: observations by agent, one agent's reward, whether the episode is over; keeps the state."""
        numbers = np.array(packed)  # a copy, so that callers may write into what they get
        n, obs_size = len(self.possible_agents), self.spec.obs_size
        obs, self._global_state, (team_reward, truncated) = np.split(numbers, [n * obs_size, -2])
        by_agent = dict(zip(self.possible_agents, obs.reshape(n, obs_size), strict=True))
        return by_agent, float(team_reward) / n, bool(truncated)


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


def _packed(env_state: BuildingState, time_step: TimeStep) -> tuple[BuildingState, jax.Array]:
    """The environment state, and all that a step shows as one vector: each array fetched by itself costs as much."""
    ends = jnp.stack([time_step.reward, time_step.truncated.astype(jnp.float32)])
    return env_state, jnp.concatenate([time_step.obs.ravel(), time_step.state, ends])


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
    limit = float(np.finfo(np.float32).max)
    margin = ROUNDING * np.maximum(1.0, np.maximum(np.abs(low), np.abs(high)))
    low, high = np.nan_to_num(low - margin, nan=-limit), np.nan_to_num(high + margin, nan=limit)
    low, high = (np.clip(bound, -limit, limit).astype(np.float32) for bound in (low, high))
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
