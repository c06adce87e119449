"""Any PettingZoo `ParallelEnv` with discrete actions as arrays of one shape.

Agents may have any ids, observation sizes and numbers of actions: observations are flattened and padded with zeros,
actions beyond an agent's own are masked. Agents that have left are dead: their observation is zero, action 0 is all
they can do. The team's reward is the sum over agents.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .conformance import Rules, check_finite, check_reset, check_spaces, check_state, check_step
from .faults import EnvError, describe
from .steps import Facts, HostStep

UNKNOWN_LIMIT = 10_000  # of an environment that does not say when it truncates; greedy play then gives up


class ParallelAdapter:
    """One environment; every violation of the contract raises `EnvError` with the agent and the step."""

    def __init__(self, env: Any, name: str) -> None:
        self.env = env
        self.rules: Rules = check_spaces(env)
        rules = self.rules
        self.steps = 0
        self.actions = max(rules.actions.values())
        self.width = max(rules.obs_sizes.values())
        own_actions = np.array([rules.actions[agent] for agent in rules.agents])
        self.own = np.arange(self.actions)[None, :] < own_actions[:, None]  # [N, A] without a mask
        self.index = {agent: i for i, agent in enumerate(rules.agents)}
        obs, _ = check_reset(env, rules, self._call("reset", 0, seed=0))
        self.has_state = check_state(env, None, 0) is not None
        notes = [] if self.has_state else ["it has no state(): all agents' observations together stand in for it"]
        state_size = self._state(obs, None).size
        own, low, high = env.unwrapped if hasattr(env, "unwrapped") else env, *self._bounds()
        limit = next((int(getattr(own, k)) for k in ("max_cycles", "max_steps") if getattr(own, k, None)), 0)
        self.facts = Facts(
            name=f"pettingzoo:{name}",
            agents=[str(agent) for agent in rules.agents],
            obs_size=self.width,
            state_size=state_size,
            num_actions=self.actions,
            episode_limit=limit or UNKNOWN_LIMIT,
            obs_low=low,
            obs_high=high,
            state_low=[None] * state_size,
            state_high=[None] * state_size,
            reward_range=[float(x) * len(rules.agents) if np.isfinite(x) else None for x in rules.reward_range],
            readings=[rules.obs_sizes[agent] for agent in rules.agents],
            masks_actions=True,
            agents_die=True,
            has_wins=False,
            idle_action=0,
            notes=notes,
        )

    def reset(self, seed: int) -> HostStep:
        self.steps = 0
        obs, infos = check_reset(self.env, self.rules, self._call("reset", 0, seed=seed))
        if check_spaces(self.env) != self.rules:
            raise EnvError("its spaces or possible_agents are not what they were", step=0)
        return self._shown(obs, infos, 0.0, set(self.env.agents), terminated=False, truncated=False)

    def step(self, action: np.ndarray) -> HostStep:
        """Take the joint action [N]; orders of agents that have left are dropped."""
        self.steps += 1
        living = list(self.env.agents)
        orders = {agent: int(action[self.index[agent]]) + self.rules.first_action[agent] for agent in living}
        taken = self._call("step", self.steps, orders)
        obs, rewards, _, truncations, infos = check_step(self.env, self.rules, living, self.steps, taken)
        over = not self.env.agents
        # Some environments set both at the time limit; a cut episode still has a future, so truncation wins. Agents
        # that were cut off are not dead: their last value is bootstrapped.
        cut = {agent for agent in living if truncations[agent]} if over else set()
        total = float(sum(float(r) for r in rewards.values()))
        present = set(self.env.agents) | (cut & set(obs))
        return self._shown(obs, infos, total, present, terminated=over and not cut, truncated=bool(cut))

    def close(self) -> None:
        """Close what the environment opened."""
        getattr(self.env, "close", lambda: None)()

    def _call(self, method: str, step: int, *args: Any, **kwargs: Any) -> Any:
        try:
            return getattr(self.env, method)(*args, **kwargs)
        except Exception as error:
            raise EnvError(f"{method} raised {describe(error)}", step=step) from error

    def _shown(
        self,
        obs: dict[Any, Any],
        infos: dict[Any, Any],
        reward: float,
        living: set[Any],
        *,
        terminated: bool,
        truncated: bool,
    ) -> HostStep:
        agents = self.rules.agents
        rows = np.zeros((len(agents), self.width), np.float32)
        avail = self.own.copy()
        for i, agent in enumerate(agents):
            if agent in living:
                seen = obs[agent]
                rows[i, : self.rules.obs_sizes[agent]] = _flat(seen)
                mask = _mask(seen, infos.get(agent, {}))
                # A mask that allows nothing is that of a cut episode's end: its last value is one of any action.
                if mask is not None and np.asarray(mask, bool).any():
                    avail[i, : self.rules.actions[agent]] = np.asarray(mask, bool)
            else:
                avail[i] = False
                avail[i, 0] = True
        state = self._state(obs, self.facts.state_size)
        check_finite(self.rules, obs, rows, state, self.steps)
        return HostStep(
            obs=rows,
            state=state,
            avail_actions=avail,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            alive=np.array([agent in living for agent in agents]),
            won=False,
        )

    def _state(self, obs: dict[Any, Any], size: int | None) -> np.ndarray:
        """The global state, which has to have ``size`` numbers, or all observations in its place."""
        if self.has_state:
            state = check_state(self.env, size, self.steps)
            assert state is not None
            return state.ravel()
        parts = []
        for agent in self.rules.agents:
            part = np.zeros(self.rules.obs_sizes[agent], np.float32)
            if agent in obs:
                part[:] = _flat(obs[agent])
            parts.append(part)
        return np.concatenate(parts)

    def _bounds(self) -> tuple[list[list[float | None]], list[list[float | None]]]:
        """Bounds of every agent's padded observation, None where one has none."""
        sides: tuple[list[list[float | None]], list[list[float | None]]] = ([], [])
        for agent in self.rules.agents:
            space = self.rules.spaces[agent]
            for side, bound in zip(sides, (space.low, space.high), strict=True):
                own = [_finite(x) for x in np.asarray(bound, np.float64).ravel()]
                side.append(own + [None] * (self.width - len(own)))
        return sides


def _finite(x: float) -> float | None:
    return float(x) if np.isfinite(x) and abs(x) < 1e30 else None


def _flat(obs: Any) -> np.ndarray:
    return np.asarray(obs["observation"] if isinstance(obs, dict) else obs, np.float32).ravel()


def _mask(obs: Any, info: Any) -> Any:
    """The mask in the info, or in the observation, or None."""
    if isinstance(info, dict) and "action_mask" in info:
        return info["action_mask"]
    return obs["action_mask"] if isinstance(obs, dict) and "action_mask" in obs else None
