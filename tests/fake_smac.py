"""A stand-in with SMAC's interface: a small battle in which time limits, deaths and wins can be arranged."""

from __future__ import annotations

import numpy as np


class FakeStarCraft2Env:
    """Two allies against one enemy of three hit points; an attack takes one.

    The second ally dies in step ``death``, both in step ``defeat``.
    Actions as in SMAC: 0 no-op (the dead only), 1 stop, 2 move, 3 attack. ``get_stats`` divides by the number of
    battles, as SMAC's does.
    """

    reward_scale, reward_scale_rate, reward_only_positive = True, 20, True

    def __init__(
        self, map_name: str = "2x", limit: int = 6, death: int = 2, defeat: int = 0, lost_connection: int = 0
    ) -> None:
        self.map_name, self.episode_limit, self.death, self.lost = map_name, limit, death, lost_connection
        self.defeat = defeat
        self.timeouts = self.battles_game = self.battles_won = 0
        self.reset()

    def get_env_info(self):
        return {"state_shape": 3, "obs_shape": 2, "n_actions": 4, "n_agents": 2, "episode_limit": self.episode_limit}

    def get_stats(self):
        return {"timeouts": self.timeouts, "win_rate": self.battles_won / self.battles_game}

    def reset(self):
        self.steps, self.enemy, self.alive = 0, 3, [True, True]
        return self.get_obs(), self.get_state()

    def close(self):
        pass

    def get_obs(self):
        return [np.array([self.enemy / 3, self.steps / 10], np.float32) * alive for alive in self.alive]

    def get_state(self):
        return np.array([self.enemy, *self.alive], np.float32)

    def get_avail_actions(self):
        return [[0, 1, 1, 1] if alive else [1, 0, 0, 0] for alive in self.alive]

    def step(self, actions):
        for action, mask in zip(actions, self.get_avail_actions(), strict=True):
            assert mask[action], f"action {action} is not available"
        self.steps += 1
        if self.steps == self.lost:
            return 0, True, {}
        self.enemy = max(0, self.enemy - sum(a == 3 for a in actions))
        if self.steps == self.death:
            self.alive[1] = False
        info, over = {"battle_won": False}, False
        if self.enemy == 0:
            over, info["battle_won"] = True, True
            self.battles_won += 1
        elif self.steps == self.defeat:
            over, self.alive = True, [False, False]
        elif self.steps >= self.episode_limit:
            over = True
            self.timeouts += 1
        self.battles_game += over
        return 20.0 * (self.enemy == 0), over, info
