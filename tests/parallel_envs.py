"""Small `ParallelEnv`s: one that is right, and the same with one thing wrong each."""

from __future__ import annotations

import os
import time

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary
from pettingzoo import ParallelEnv


class Meeting(ParallelEnv):
    """Agents 1 (integer id) and "b" are shown a number and should both name its sign; "b" leaves after three steps.

    Their spaces differ: agent 1 sees two readings and has two actions, "b" one and three, of which the last is masked.
    ``fault`` is what goes wrong, at step ``when`` of every episode.
    """

    metadata = {"name": "meeting"}  # noqa: RUF012 (PettingZoo's own form)
    reward_range = (0.0, 1.0)

    def __init__(self, fault: str = "", when: int = 2, length: int = 5, state: bool = True) -> None:
        self.fault, self.when, self.length, self.has_state = fault, when, length, state
        self.possible_agents = [1, "b"]
        self.agents: list = []
        self.rng = np.random.default_rng()
        self.spaces = {1: Box(-1.0, 1.0, (2,), np.float32), "b": Box(-1.0, 1.0, (1,), np.float32)}
        self.wide = Dict({"observation": self.spaces["b"], "action_mask": Box(0, 1, (3,), np.int8)})
        self.actions = {1: Discrete(2), "b": Discrete(3)}
        self.orders: list[dict] = []

    def observation_space(self, agent):
        if self.fault == "spaces" and self.orders and agent == 1:
            return Box(-2.0, 2.0, (2,), np.float32)
        return self.wide if agent == "b" else self.spaces[agent]

    def action_space(self, agent):
        if self.fault == "binary":
            return MultiBinary(3)
        return self.actions[agent]

    def reset(self, seed=None, options=None):
        if seed is not None and self.fault != "unseeded":
            self.rng = np.random.default_rng(seed)
        self.agents, self.time = list(self.possible_agents), 0
        self.cue = float(self.rng.uniform(-1, 1))
        return self._seen(), {agent: {} for agent in self.agents}

    def state(self):
        if not self.has_state:
            raise NotImplementedError
        return np.array([self.cue, self.time / self.length], np.float32)

    def _seen(self):
        cue, now = np.float32(self.cue), np.float32(self.time / self.length)
        seen = {}
        for agent in self.agents:
            mask = np.array([1, 1, 0], np.int8)
            whole = np.array([cue, now], np.float32)
            seen[agent] = {"observation": whole[:1], "action_mask": mask} if agent == "b" else whole
        return seen

    def step(self, actions):
        self.time += 1
        self.orders.append(actions)
        bad = self.fault if self.time == self.when else ""
        if bad == "raises":
            raise RuntimeError("the boiler is on fire")
        if bad == "dies":
            os._exit(7)
        if bad == "hangs":
            time.sleep(3600)
        acted = self.agents
        right = float(all(a == int(self.cue > 0) for a in actions.values()))
        rewards = dict.fromkeys(acted, right)
        over = self.time >= self.length and self.fault != "endless"
        gone = [agent for agent in acted if agent == "b" and self.time == 3]
        terminations = {agent: agent in gone for agent in acted}
        truncations = dict.fromkeys(acted, over)
        self.agents = [] if over else [agent for agent in acted if agent not in gone]
        seen = {agent: self._last(agent) for agent in (acted if over else gone)} | self._seen()
        infos = {agent: {} for agent in acted}
        if self.fault == "info_mask" and 1 in self.agents:
            infos[1] = {"action_mask": np.array([0, 1], np.int8)}
        if over and self.fault == "no_last":
            seen = {}
        if over and self.fault == "last_mask":
            infos = {agent: {"action_mask": np.zeros(3 if agent == "b" else 2, np.int8)} for agent in acted}
        if bad == "range":
            rewards[acted[0]] = 5.0
        if bad == "none":
            rewards[acted[0]] = None
        if bad == "columns":
            terminations = False
        if bad == "nan":
            rewards[acted[0]] = float("nan")
        if bad == "missing" and 1 in seen:
            del seen[1]
        if bad == "shape":
            seen[1] = np.zeros(3, np.float32)
        if bad == "unknown":
            self.agents = [*self.agents, "stranger"]
        if bad == "mask":
            seen["b"]["action_mask"] = np.zeros(3, np.int8)
        return seen, rewards, terminations, truncations, infos

    def _last(self, agent):
        whole = np.array([self.cue, self.time / self.length], np.float32)
        return {"observation": whole[:1], "action_mask": np.array([1, 1, 0], np.int8)} if agent == "b" else whole


def meeting(**options):
    return Meeting(**options)


class Rough(Meeting):
    """Sets both ends at the time limit, as SustainGym does, and ends by termination where asked."""

    def step(self, actions):
        seen, rewards, terminations, truncations, infos = super().step(actions)
        return seen, rewards, {agent: t or truncations[agent] for agent, t in terminations.items()}, truncations, infos


class InUnits(Meeting):
    """The same in units of ``2 ** power``, which round nothing, and without bounds of readings or rewards."""

    reward_range = None

    def __init__(self, power: int = 0) -> None:
        super().__init__()
        self.unit = np.float32(2.0**power)
        self.spaces = {agent: Box(-np.inf, np.inf, space.shape, np.float32) for agent, space in self.spaces.items()}
        self.wide = Dict({"observation": self.spaces["b"], "action_mask": self.wide["action_mask"]})

    def state(self):
        return self.unit * super().state()

    def _seen(self):
        return {agent: self._measured(seen) for agent, seen in super()._seen().items()}

    def _last(self, agent):
        return self._measured(super()._last(agent))

    def _measured(self, seen):
        masked = isinstance(seen, dict)
        return {**seen, "observation": self.unit * seen["observation"]} if masked else self.unit * seen

    def step(self, actions):
        seen, rewards, *rest = super().step(actions)
        return seen, {agent: float(self.unit) * reward for agent, reward in rewards.items()}, *rest
