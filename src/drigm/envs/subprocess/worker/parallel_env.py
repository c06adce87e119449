"""Any PettingZoo `ParallelEnv` with discrete actions as arrays of one shape.

Agents may have any ids, observation sizes and numbers of actions: observations are flattened and padded with zeros,
actions beyond an agent's own are masked. Agents that have left are dead: their observation is zero, action 0 is all
they can do. The team's reward is the sum over agents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .conformance import Rules, check_reset, check_spaces, check_state, check_step, mask_of, reading_of, to_float32
from .declarations import (
    Bounds,
    Said,
    bounds_of,
    described_of,
    limit_of,
    parameters_of,
    regulated_of,
    reward_range_of,
    state_bounds_of,
    suites_of,
)
from .errors import EnvError, describe
from .steps import Facts, SubprocessStep

UNKNOWN_LIMIT = 10_000  # of an environment that does not say when it truncates


class ParallelAdapter:
    """One environment; every violation of the contract raises `EnvError` with the agent and the step."""

    def __init__(self, env: Any, name: str, options: dict[str, float] | None = None) -> None:
        self.env, self.options = env, options or {}
        self.watch: Callable[[str, Any, Any], None] | None = None  # called with what each reset and step returned
        self.rules: Rules = check_spaces(env)
        rules = self.rules
        self.steps = 0
        self.actions = max(rules.actions.values())
        self.width = max(1, *rules.obs_sizes.values())  # a team that sees nothing is shown a zero
        own_actions = np.array([rules.actions[agent] for agent in rules.agents])
        self.own = np.arange(self.actions)[None, :] < own_actions[:, None]  # [N, A] without a mask
        self.index = {agent: i for i, agent in enumerate(rules.agents)}
        obs, infos = check_reset(env, rules, self._call("reset", 0, seed=0))
        state = check_state(env, None, 0)
        self.has_state = state is not None and state.size > 0
        self.state_size = state.size if state is not None and state.size else max(1, sum(rules.obs_sizes.values()))
        self._shown(obs, infos, 0.0, set(env.agents), terminated=False, truncated=False)
        self.facts = self._facts(name)

    def _facts(self, name: str) -> Facts:
        rules, limit = self.rules, limit_of(self.env)
        regulated = regulated_of(self.env, rules.agents, self.width, self.actions)
        self.limit = limit.value  # None where it does not say
        bounds = [bounds_of(rules.spaces[agent], self.width) for agent in rules.agents]
        state, state_oddity = self._state_bounds(bounds)
        stands_in = "" if self.has_state else "it has no state(): all agents' observations together stand in for it"
        odd = {"limit": limit.odd, "reward_range": reward_range_of(self.env).odd, "state_space": state_oddity}
        parameters, suites = parameters_of(self.env, self.options), suites_of(self.env)
        sizes = [rules.obs_sizes[agent] for agent in rules.agents]
        described = described_of(self.env, rules.agents, sizes, self.actions)
        odd |= {
            "regulated": regulated.odd,
            "parameters": parameters.odd,
            "suites": suites.odd,
            "described": described.odd,
        }
        self.odd = {name: sentence for name, sentence in odd.items() if sentence}
        notes = (stands_in, *(f"{sentence}: it counts as unknown" for sentence in self.odd.values()))
        return Facts(
            name=f"pettingzoo:{name}",
            agents=[str(agent) for agent in rules.agents],
            obs_size=self.width,
            state_size=self.state_size,
            num_actions=self.actions,
            episode_limit=limit.value or UNKNOWN_LIMIT,
            obs_low=[low for low, _ in bounds],
            obs_high=[high for _, high in bounds],
            state_low=state[0],
            state_high=state[1],
            reward_range=[float(x) * len(rules.agents) if np.isfinite(x) else None for x in rules.reward_range],
            readings=sizes,
            masks_actions=True,
            agents_die=True,
            has_wins=False,
            idle_action=int(np.abs(regulated.value[2]).argmin()) if regulated.value else 0,  # the level nearest to 0
            notes=[note for note in notes if note],
            regulated=regulated.value,
            parameters=parameters.value,
            suites=suites.value,
            own_actions=[rules.actions[agent] for agent in rules.agents],
            first_actions=[rules.first_action[agent] for agent in rules.agents],
            described=described.value,
        )

    def _state_bounds(self, bounds: list[Bounds]) -> Said:
        """Return the bounds of the state: what it declares, or the agents' own where their observations stand in."""
        if self.has_state:
            return state_bounds_of(self.env, self.state_size)
        sizes = [self.rules.obs_sizes[agent] for agent in self.rules.agents]
        low, high = (
            [x for own, n in zip(side, sizes, strict=True) for x in own[:n]] for side in zip(*bounds, strict=True)
        )
        padding = [None] * (self.state_size - len(low))
        return Said((low + padding, high + padding))

    def reset(self, seed: int) -> SubprocessStep:
        self.steps = 0
        obs, infos = check_reset(self.env, self.rules, self._call("reset", 0, seed=seed))
        if check_spaces(self.env) != self.rules:
            raise EnvError("its spaces or possible_agents are not what they were", step=0)
        return self._shown(obs, infos, 0.0, set(self.env.agents), terminated=False, truncated=False)

    def step(self, action: np.ndarray) -> SubprocessStep:
        """Take the joint action [N]; orders of agents that have left are dropped."""
        self.steps += 1
        living = list(self.env.agents)
        orders = {agent: int(action[self.index[agent]]) + self.rules.first_action[agent] for agent in living}
        taken = self._call("step", self.steps, orders)
        step = check_step(self.env, self.rules, living, self.steps, taken)
        over = not self.env.agents
        # Some environments set both at the time limit; a cut episode still has a future, so truncation wins. Agents
        # that were cut off are not dead: their last value is bootstrapped.
        cut = step.truncated if over else set()
        present = set(self.env.agents) | cut
        return self._shown(step.obs, step.infos, step.reward, present, terminated=over and not cut, truncated=bool(cut))

    def close(self) -> None:
        """Close what the environment opened."""
        getattr(self.env, "close", lambda: None)()

    def _call(self, method: str, step: int, *args: Any, **kwargs: Any) -> Any:
        try:
            returned = getattr(self.env, method)(*args, **kwargs)
        except (Exception, SystemExit) as error:
            raise EnvError(f"{method} raised {describe(error)}", step=step) from error
        if self.watch is not None:
            self.watch(method, args[0] if args else {}, returned)
        return returned

    def _shown(
        self,
        obs: dict[Any, Any],
        infos: dict[Any, Any],
        reward: float,
        living: set[Any],
        *,
        terminated: bool,
        truncated: bool,
    ) -> SubprocessStep:
        agents = self.rules.agents
        rows = np.zeros((len(agents), self.width), np.float32)
        avail = self.own.copy()
        for i, agent in enumerate(agents):
            if agent in living:
                seen = obs[agent]
                numbers = to_float32(reading_of(seen), "its observation holds", agent, self.steps)
                rows[i, : numbers.size] = numbers.ravel()
                mask = mask_of(seen, infos.get(agent))
                # A mask that allows nothing is that of a cut episode's end: its last value is one of any action.
                if mask is not None and (allowed := np.asarray(mask).astype(bool)).any():
                    avail[i, : self.rules.actions[agent]] = allowed
            else:
                avail[i] = False
                avail[i, 0] = True
        return SubprocessStep(
            obs=rows,
            state=self._state(rows),
            avail_actions=avail,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            alive=np.array([agent in living for agent in agents]),
            won=False,
        )

    def _state(self, rows: np.ndarray) -> np.ndarray:
        """Return the global state, or in its place all observations [N, O] without their padding."""
        if self.has_state:
            state = check_state(self.env, self.state_size, self.steps)
            assert state is not None
            return state
        sizes = self.rules.obs_sizes.values()
        state = np.zeros(self.state_size, np.float32)
        parts = [row[:size] for row, size in zip(rows, sizes, strict=True)]
        state[: sum(sizes)] = np.concatenate(parts)
        return state
