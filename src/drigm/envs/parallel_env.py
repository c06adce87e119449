"""An environment in JAX as a PettingZoo `ParallelEnv`, for training code that expects one; needs PettingZoo.

It steps the same compiled functions as training does, on the CPU. What differs from kind to kind is how an episode
begins and what the spaces are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from pettingzoo import ParallelEnv

from drigm.core.errors import check
from drigm.core.types import Array, PyTree, TimeStep
from drigm.envs.api import Environment

SEEDS = 2**31 - 1
MOST = float(np.finfo(np.float32).max)  # bound of a reading that has none


class ParallelJaxEnv(ParallelEnv[str, np.ndarray, Any]):
    """One agent by the name that ``env.spec`` has for it; episodes are only ever truncated.

    Args:
        env: in JAX.
        state_space: of `state`.
        observation_spaces: by agent id.
        action_spaces: by agent id.
        called: what a message calls an action.
    """

    render_mode = None

    def __init__(
        self,
        env: Environment,
        state_space: gymnasium.spaces.Box,
        observation_spaces: Mapping[str, gymnasium.Space],
        action_spaces: Mapping[str, gymnasium.Space],
        called: str = "actions",
    ) -> None:
        self.spec, self.called = env.spec, called
        self.possible_agents, self.agents = list(env.spec.agents), list[str]()
        self.state_space = state_space
        self.observation_spaces, self.action_spaces = dict(observation_spaces), dict(action_spaces)
        # Committing the parameters to the CPU keeps each small step there on machines with an accelerator.
        self._params: Any = jax.device_put(env.params, jax.devices("cpu")[0])
        self._reset = jax.jit(lambda key, params: _packed(*env.reset(key, params)))
        self._step = jax.jit(
            lambda key, number, state, action, params: _packed(
                *env.step(jax.random.fold_in(key, number), state, action, params)
            )
        )
        self._generator = np.random.default_rng()  # of the episodes' keys

    def observation_space(self, agent: str) -> gymnasium.Space:
        """Return the same `Box` object at each call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gymnasium.Space:
        """Return the same `Discrete` or `Box` object at each call."""
        return self.action_spaces[agent]

    def step(self, actions: dict[str, Any]):
        """One step with every agent's action, by agent id: observations, rewards, terminations, truncations, infos."""
        agents = self.agents
        if not agents:
            return {}, {}, {}, {}, {}
        self._steps += 1
        joint = self._joint_action(actions)
        self._env_state, packed = self._step(self._key, np.int32(self._steps), self._env_state, joint, self._params)
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
        """Return the global state of `EnvSpec`, float32 in physical units; for training only."""
        return self._global_state.copy()

    def render(self) -> None:
        """Nothing is drawn: `metadata` lists no render mode."""

    def _begin(self, seed: int | None, params: PyTree) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Start an episode in the world ``params``; ``seed``, where given, seeds its chance and that of those after it.

        Returns:
            What `reset` does.
        """
        if seed is not None:
            self._generator = np.random.default_rng(seed)
        self._key, self._steps = jax.random.key(int(self._generator.integers(SEEDS))), 0
        self._env_state, packed = self._reset(self._key, params)
        obs, *_ = self._unpack(packed)
        self.agents = self.possible_agents[:]
        return obs, {agent: {} for agent in self.agents}

    def _joint_action(self, actions: dict[str, Any]) -> np.ndarray:
        """Actions by agent id to [N] in the agents' order; raises `UserError` if one is missing or outside."""
        missing = [agent for agent in self.agents if agent not in actions]
        check(not missing, "actions", sorted(actions), f"every live agent needs an action, missing: {missing}")
        joint = np.array([actions[agent] for agent in self.agents])
        if self.spec.num_actions == 0:  # continuous
            return joint.reshape(len(self.agents)).astype(np.float32)
        joint = joint.astype(np.int32)
        allowed = f"give {self.called} from 0 to {self.spec.num_actions - 1}"
        check(joint.min() >= 0 and joint.max() < self.spec.num_actions, "actions", joint.tolist(), allowed)
        return joint

    def _unpack(self, packed: jax.Array) -> tuple[dict[str, np.ndarray], float, bool]:
        """Undo `_packed`: observations by agent, one agent's reward, whether the episode is over; keeps the state."""
        numbers = np.array(packed)  # a copy, so that callers may write into what they get
        n, obs_size = len(self.possible_agents), self.spec.obs_size
        obs, self._global_state, (team_reward, truncated) = np.split(numbers, [n * obs_size, -2])
        by_agent = dict(zip(self.possible_agents, obs.reshape(n, obs_size), strict=True))
        return by_agent, float(team_reward) / n, bool(truncated)


def _packed(env_state: PyTree, time_step: TimeStep) -> tuple[PyTree, Array]:
    """The environment state, and all that a step shows as one vector: each array fetched by itself costs as much."""
    ends = jnp.stack([time_step.reward, time_step.truncated.astype(jnp.float32)])
    return env_state, jnp.concatenate([time_step.obs.ravel(), time_step.state, ends])
