"""Two valves keep a tank half full: a complete PettingZoo environment for docs/your-environment.md.

The inlet sees the level and how much water is on offer; the outlet sees the level and how much is asked for. Neither
sees what the other sees, and they do not talk.
"""

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

STEPS = 40
OPENINGS = (0.0, 0.5, 1.0)


class Tank(ParallelEnv):
    metadata = {"name": "tank"}
    reward_range = (-0.5, 0.0)  # lets drigm compute the fail value of robust targets
    described = {  # what people and exported agents call the numbers
        "readings": {"inlet": ["level", "water on offer"], "outlet": ["level", "water asked for"]},
        "units": ["share of the tank", "share of the pipe"],
        "actions": ["closed", "half open", "open"],
        "step_seconds": 60,
    }

    def __init__(self, leak: float = 0.0):
        self.possible_agents = ["inlet", "outlet"]
        self.leak = leak
        self.boxes = {agent: Box(0.0, 1.0, (2,), np.float32) for agent in self.possible_agents}
        self.choices = {agent: Discrete(len(OPENINGS)) for agent in self.possible_agents}
        self.state_space = Box(0.0, 1.0, (3,), np.float32)

    def observation_space(self, agent):
        return self.boxes[agent]

    def action_space(self, agent):
        return self.choices[agent]

    def reset(self, seed=None, options=None):
        if seed is not None:
            self.random = np.random.default_rng(seed)
        self.agents, self.time = list(self.possible_agents), 0
        self.level = self.random.uniform(0.1, 0.9)
        self._weather()
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions):
        inflow = 0.3 * self.offer * OPENINGS[actions["inlet"]]
        outflow = 0.3 * self.demand * OPENINGS[actions["outlet"]]
        self.level = float(np.clip(self.level + inflow - outflow - self.leak, 0.0, 1.0))
        self.time += 1
        self._weather()
        agents, over = self.agents, self.time >= STEPS
        reward = -abs(self.level - 0.5) / len(agents)  # drigm's team reward is the sum over agents
        seen = self._seen()
        self.agents = [] if over else agents
        no = dict.fromkeys(agents, False)
        return seen, dict.fromkeys(agents, reward), no, dict.fromkeys(agents, over), {agent: {} for agent in agents}

    def state(self):
        return np.array([self.level, self.offer, self.demand], np.float32)

    def _weather(self):
        self.offer, self.demand = self.random.uniform(0.2, 1.0, 2)

    def _seen(self):
        own = {"inlet": self.offer, "outlet": self.demand}
        return {agent: np.array([self.level, own[agent]], np.float32) for agent in self.possible_agents}
