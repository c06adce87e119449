"""The supply chain as a PettingZoo `ParallelEnv`, for training code that expects one.

It steps the same compiled weeks as `drigm.envs.supply.simulator`, on the CPU, and is made by
`drigm.envs.supply.parallel_env`.
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
from drigm.envs.supply.simulator import SupplyState

MOST = float(np.finfo(np.float32).max)
SEEDS = 2**31 - 1


class ParallelSupplyEnv(ParallelEnv[str, np.ndarray, Any]):
    """One agent per stage, named after it.

    Observation, float32 [7], in units: on hand, owed to others, on order, and what was ordered from the stage in the
    last four weeks, the newest first. Action: ``Discrete(2 levels + 1)``; the middle one orders what is ordered from
    the stage this week. Every agent's reward is an equal share of the team's, minus the costs of all stages. Episodes
    are only ever truncated.
    """

    metadata: dict[str, Any] = {"name": "drigm_supply", "render_modes": [], "is_parallelizable": True}  # noqa: RUF012
    render_mode = None

    def __init__(self, env: Environment) -> None:
        self.spec = env.spec
        self.possible_agents = list(env.spec.agents)
        self.agents: list[str] = []
        # Committing the parameters to the CPU keeps each small step there on machines with an accelerator.
        params = jax.device_put(env.params, jax.devices("cpu")[0])
        self._reset = jax.jit(lambda key: _packed(*env.reset(key, params)))
        self._step = jax.jit(lambda key, state, action: _packed(*env.step(key, state, action, params)))
        self._generator = np.random.default_rng()
        self.state_space = _box(env.spec.state_size, -1.0)  # demand may drift below its mean
        self.observation_spaces = {agent: _box(env.spec.obs_size, 0.0) for agent in self.possible_agents}
        self.action_spaces = {agent: gymnasium.spaces.Discrete(env.spec.num_actions) for agent in self.possible_agents}

    def observation_space(self, agent: str) -> gymnasium.Space:
        """The same `Box` object at each call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gymnasium.Space:
        """The same `Discrete` object at each call."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Start an episode; ``seed`` seeds its chance and that of the episodes after it. ``options`` are ignored."""
        del options
        if seed is not None:
            self._generator = np.random.default_rng(seed)
        self._key = jax.random.key(int(self._generator.integers(SEEDS)))
        self._week = 0
        self._env_state, packed = self._reset(self._key)
        obs, *_ = self._unpack(packed)
        self.agents = self.possible_agents[:]
        return obs, {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]):
        """One week with every agent's action, by agent id: observations, rewards, terminations, truncations, infos."""
        agents = self.agents
        if not agents:
            return {}, {}, {}, {}, {}
        self._week += 1
        key = jax.random.fold_in(self._key, self._week)
        self._env_state, packed = self._step(key, self._env_state, self._joint_action(actions))
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
        """All readings, what is on the way, and the market, float32; for training only."""
        return self._global_state.copy()

    def render(self) -> None:
        """Nothing is drawn: `metadata` lists no render mode."""

    def _joint_action(self, actions: dict[str, Any]) -> np.ndarray:
        """Actions by agent id to [N] in the agents' order; raises `UserError` if one is missing or outside."""
        missing = [agent for agent in self.agents if agent not in actions]
        check(not missing, "actions", sorted(actions), f"every live agent needs an action, missing: {missing}")
        joint = np.array([actions[agent] for agent in self.agents]).astype(np.int32)
        allowed = f"give actions from 0 to {self.spec.num_actions - 1}"
        check(joint.min() >= 0 and joint.max() < self.spec.num_actions, "actions", joint.tolist(), allowed)
        return joint

    def _unpack(self, packed: jax.Array) -> tuple[dict[str, np.ndarray], float, bool]:
        """Undo `_packed`: observations by agent, one agent's reward, whether the episode is over; keeps the state."""
        numbers = np.array(packed)  # a copy, so that callers may write into what they get
        n, obs_size = len(self.possible_agents), self.spec.obs_size
        obs, self._global_state, (team_reward, truncated) = np.split(numbers, [n * obs_size, -2])
        by_agent = dict(zip(self.possible_agents, obs.reshape(n, obs_size), strict=True))
        return by_agent, float(team_reward) / n, bool(truncated)


def _packed(env_state: SupplyState, time_step: TimeStep) -> tuple[SupplyState, jax.Array]:
    """The environment state, and all that a step shows as one vector: each array fetched by itself costs as much."""
    ends = jnp.stack([time_step.reward, time_step.truncated.astype(jnp.float32)])
    return env_state, jnp.concatenate([time_step.obs.ravel(), time_step.state, ends])


def _box(size: int, low: float) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(np.full(size, low, np.float32), np.full(size, MOST, np.float32))
