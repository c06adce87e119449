"""The supply chain as a PettingZoo `ParallelEnv`; made by `drigm.envs.supply.parallel_env`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from drigm.envs.api import Environment
from drigm.envs.parallel_env import MOST, ParallelJaxEnv


class ParallelSupplyEnv(ParallelJaxEnv):
    """One agent per stage, named after it.

    Observation, float32 [8], in units: on hand, owed to others, on order, how much of that has not been shipped, and
    what was ordered from the stage in the last four weeks, the newest first. Action: ``Discrete(levels + 1)``, the
    level that the stage orders up to, from 0 to three times the mean demand of its lead time and a week. Every agent's
    reward is an equal share of the team's, minus the costs of all stages. The state has all readings, what is on the
    way, and the market.
    """

    metadata: dict[str, Any] = {"name": "drigm_supply", "render_modes": [], "is_parallelizable": True}  # noqa: RUF012

    def __init__(self, env: Environment) -> None:
        spec, agents = env.spec, env.spec.agents
        state_space = _box(spec.state_size, -1.0)  # demand may drift below its mean
        observation_spaces = {agent: _box(spec.obs_size, 0.0) for agent in agents}
        action_spaces = {agent: gymnasium.spaces.Discrete(spec.num_actions) for agent in agents}
        super().__init__(env, state_space, observation_spaces, action_spaces)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Start an episode; ``seed`` seeds its chance and that of the episodes after it. ``options`` are ignored."""
        del options
        return self._begin(seed, self._params)


def _box(size: int, low: float) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(np.full(size, low, np.float32), np.full(size, MOST, np.float32))
