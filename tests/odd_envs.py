"""A `ParallelEnv` that is right, and what is odd or wrong about others: each class is one kind."""

from __future__ import annotations

import random
import subprocess
import time

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from pettingzoo import ParallelEnv
from pettingzoo.utils import BaseParallelWrapper

EXECUTED: list[int] = []  # how often this file was executed shows in how long it is


class Coins(ParallelEnv):
    """Each agent sees a coin (0 or 1) and is paid 1 for naming it; an episode takes ``length`` steps."""

    metadata = {"name": "coins"}  # noqa: RUF012 (PettingZoo's own form)
    low, high, shape, dtype = 0.0, 1.0, (1,), np.float32

    def __init__(self, length: int = 5) -> None:
        self.length = length
        self.possible_agents = ["a0", "a1"]
        self.boxes = {agent: self.box(agent) for agent in self.possible_agents}
        self.choices = {agent: Discrete(2) for agent in self.possible_agents}

    def box(self, agent):
        return Box(self.low, self.high, self.shape, self.dtype)

    def observation_space(self, agent):
        return self.boxes[agent]

    def action_space(self, agent):
        return self.choices[agent]

    def reset(self, seed=None, options=None):
        if seed is not None or not hasattr(self, "rng"):
            self.seed(seed)
        self.agents, self.time = list(self.possible_agents), 0
        self.draw()
        return {a: self.see(a) for a in self.agents}, {a: self.info(a) for a in self.agents}

    def seed(self, seed):
        self.rng = np.random.default_rng(seed)

    def draw(self):
        self.coin = {a: float(self.rng.integers(2)) for a in self.possible_agents}

    def see(self, agent):
        return np.full(self.shape, self.coin[agent], self.dtype)

    def info(self, agent):
        return {}

    def pay(self, agent, action):
        return float(action == self.coin[agent])

    def step(self, actions):
        acted = list(self.agents)
        pay = {a: self.pay(a, actions[a]) for a in acted}
        self.time += 1
        self.draw()
        over = self.time >= self.length
        self.agents = [] if over else acted
        no, ends = dict.fromkeys(acted, False), dict.fromkeys(acted, over)
        return {a: self.see(a) for a in acted}, pay, no, ends, {a: self.info(a) for a in acted}


class Changed(Coins):
    """What a step returns is changed by ``change``, at step 3 of every episode."""

    def step(self, actions):
        returned = list(super().step(actions))
        if self.time == 3:
            self.change(*returned)
        return tuple(returned)


# What a time limit says


class Late(Coins):
    """Ends a step after its max_steps."""

    max_steps = 4


class Early(Coins):
    max_cycles = 6


class Infinite(Coins):
    max_steps = float("inf")


class Method(Coins):
    def max_steps(self):
        return 5


class Huge(Coins):
    max_steps = 10**400


class Text(Coins):
    max_cycles = "5"


class Longer(BaseParallelWrapper):
    """A wrapper with a limit and a reward range of its own."""

    max_cycles, reward_range = 7, (0.0, 10.0)

    def step(self, actions):
        self.env.unwrapped.length = 7
        obs, pay, *rest = self.env.step(actions)
        return obs, {a: 10.0 * r for a, r in pay.items()}, *rest


class Ranged(Coins):
    reward_range, max_cycles = (0.0, 1.0), 5


def longer():
    return Longer(Ranged())


def wrapped():
    return BaseParallelWrapper(Ranged())


class BadRange(Coins):
    reward_range = (1.0,)


# What a Box says


class Scalar(Coins):
    shape = ()


class Picture(Coins):
    shape = (2, 3)


class Far(Coins):
    """Readings in [1e8, 1e8 + 16], of which float32 tells three values apart."""

    low, high = 1e8, 1e8 + 16.0

    def see(self, agent):
        return np.array([1e8 + 16.0 * self.coin[agent]], np.float32)


class Outside(Coins):
    def see(self, agent):
        return super().see(agent) + (2.0 if self.time == 3 else 0.0)


class Double(Coins):
    def see(self, agent):
        return super().see(agent).astype(np.float64)


class Listed(Coins):
    def see(self, agent):
        return [self.coin[agent]]


class StateOutside(Coins):
    state_space = Box(0.0, 1.0, (2,), np.float32)

    def state(self):
        return np.array([2.0, *list(self.coin.values())[1:]], np.float32)


class StateSpace(StateOutside):
    """A state in a Box that is too small for it."""

    state_space = Box(0.0, 1.0, (3,), np.float32)


class Copies(Coins):
    def observation_space(self, agent):
        return self.box(agent)


# Chance


class Global(Coins):
    """All chance from the generators of the process, which reset seeds where it is given a seed."""

    def seed(self, seed):
        self.rng = None
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)

    def draw(self):
        normal = np.random.randn()  # noqa: NPY002 (drawn in pairs: the second is kept)
        self.coin = {"a0": float(random.random() < 0.5), "a1": float(normal + random.gauss(0.0, 1.0) < 0.0)}


class GlobalUnseeded(Global):
    def seed(self, seed):
        self.rng = None


class UnseededSteps(Coins):
    """The first observations repeat themselves, what follows does not."""

    def draw(self):
        if self.time:
            self.rng = np.random.default_rng()
        super().draw()


class Class(Coins):
    """Chance from a generator of the class, which every environment seeds."""

    def seed(self, seed):
        type(self).rng = np.random.default_rng(seed)


class Counter(Coins):
    """Counts the steps of all environments."""

    steps = 0

    def draw(self):
        if not self.time:
            Counter.steps = 0
        Counter.steps += 1
        super().draw()

    def see(self, agent):
        return super().see(agent) * (Counter.steps % 2)


class Infos(Coins):
    def info(self, agent):
        return {"clock": time.perf_counter()}


class Scripted(Coins):
    """Shows how often its file was executed in this process, and how many were made of it since."""

    def __init__(self):
        super().__init__()
        EXECUTED.append(1)
        self.high = 99.0

    def see(self, agent):
        return np.full(1, len(EXECUTED), np.float32)


# Masks


class Masked(Coins):
    """Action 2 is masked in the observation; the infos have ``mask`` of it."""

    mask, kind = None, np.int8

    def __init__(self):
        super().__init__()
        self.choices = {agent: Discrete(3) for agent in self.possible_agents}

    def box(self, agent):
        return Dict({"observation": super().box(agent), "action_mask": Box(0, 1, (3,), np.int8)})

    def see(self, agent):
        return {"observation": super().see(agent), "action_mask": np.array([1, 1, 0], self.kind)}

    def info(self, agent):
        return {"action_mask": self.mask}

    def pay(self, agent, action):
        assert action != 2, "action 2 was masked"
        return super().pay(agent, action)


class BoolMask(Masked):
    kind = np.bool_


# What steps return


class Vanish(Coins):
    """All leave at the end, but no flag is set."""

    def step(self, actions):
        obs, pay, no, _, infos = super().step(actions)
        return obs, pay, no, no, infos


class VanishOne(Changed):
    def change(self, obs, pay, terminations, truncations, infos):
        self.agents = ["a0"]


class BigObs(Coins):
    dtype, low, high = np.float64, -np.inf, np.inf

    def see(self, agent):
        return np.array([1e39 if self.time == 3 and agent == "a1" else self.coin[agent]])


class BigReward(Changed):
    def change(self, obs, pay, terminations, truncations, infos):
        pay["a1"] = -1e39


class BigSum(Changed):
    def change(self, obs, pay, terminations, truncations, infos):
        pay.update(a0=3e38, a1=3e38)


class BigState(Coins):
    def state(self):
        return np.array([1e39 if self.time == 3 else 0.0])


class DeadSilence(Changed):
    """Agent a1 dies at step 3; what is said of it afterwards is nothing, or NaN."""

    def step(self, actions):
        gone = self.time >= 3
        acted = list(self.agents)
        obs, pay, terminations, truncations, infos = super().step({"a1": 0} | actions)
        if gone:
            obs["a1"], pay["a1"] = (None, None) if self.time == 4 else (np.full(1, np.nan), np.nan)
            terminations["a1"] = truncations["a1"] = None
        if acted != self.possible_agents and self.agents:
            self.agents = acted
        return obs, pay, terminations, truncations, infos

    def change(self, obs, pay, terminations, truncations, infos):
        terminations["a1"] = True
        self.agents = ["a0"]


class NoFlag(Changed):
    def change(self, obs, pay, terminations, truncations, infos):
        terminations["a0"] = np.zeros(2)


class NumberFlag(Changed):
    def change(self, obs, pay, terminations, truncations, infos):
        terminations["a0"] = 0


class ArrayReward(Changed):
    def change(self, obs, pay, terminations, truncations, infos):
        pay["a0"] = np.ones(1)


class Common(Changed):
    """A key that is no agent, which is not part of the sum."""

    def change(self, obs, pay, terminations, truncations, infos):
        pay["common"] = 100.0


class NoInfo(Changed):
    def change(self, obs, pay, terminations, truncations, infos):
        infos.clear()


class Exits(Changed):
    def change(self, obs, pay, terminations, truncations, infos):
        raise SystemExit(3)


class Chatty(Changed):
    def change(self, obs, pay, terminations, truncations, infos):
        raise RuntimeError("no end of words " * 10_000)


class NoOptions(Coins):
    def reset(self, seed=None):
        return super().reset(seed)


class Absent(Coins):
    """Agent a1 never comes."""

    def reset(self, seed=None, options=None):
        obs, infos = super().reset(seed)
        self.agents = ["a0"]
        return {"a0": obs["a0"]}, {"a0": infos["a0"]}

    def step(self, actions):
        return tuple({"a0": column["a0"]} for column in super().step({"a1": 0} | actions))


# Processes


class Game(Coins):
    """Starts a process of its own, ``apart`` in a session of its own, and hangs at the second step."""

    def __init__(self, seconds: int = 3600, apart: bool = False) -> None:
        super().__init__()
        subprocess.Popen(["sleep", str(seconds)], start_new_session=apart)

    def pay(self, agent, action):
        if self.time == 1:
            time.sleep(3600)
        return super().pay(agent, action)


class Naps(Coins):
    """Takes a second and a half for the second step of its fourth episode."""

    episodes = 0

    def reset(self, seed=None, options=None):
        self.episodes += 1
        return super().reset(seed, options)

    def step(self, actions):
        if self.episodes == 4 and self.time == 1:
            time.sleep(1.5)
        return super().step(actions)
