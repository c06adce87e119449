"""The games of Jumanji that teams can play, and what each of them does not say about itself.

Adding one is a line in `GAMES`: a game whose agents choose from actions of their own, one of which does nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from drigm.core.types import Array

Option = int | float | bool


class Game(NamedTuple):
    """One game.

    Attributes:
        generator: Jumanji's class that draws the start of an episode, below ``jumanji.environments.routing``.
        layout: options of the generator, with the values of Jumanji's registered environment.
        rules: options of the environment itself.
        actions: what each action does; the first is to do nothing.
        view: ``view(observation, agents) -> [N, O]``, what each agent sees.
        scale: ``scale(options, O) -> [O]``, the largest size of each reading.
        rewards: ``rewards(options) -> (lowest, highest, highest return)`` of the team.
        reward_scale: what the learner sees of a reward of 1.
    """

    generator: str
    layout: Mapping[str, Option]
    rules: Mapping[str, Option]
    actions: tuple[str, ...]
    view: Callable[[Any, int], Array]
    scale: Callable[[Mapping[str, Option], int], np.ndarray]
    rewards: Callable[[Mapping[str, Option]], tuple[float, float, float]]
    reward_scale: float


def _own_view(observation: Any, agents: int) -> Array:
    return observation.agents_view.reshape(agents, -1)


def _foraging_scale(options: Mapping[str, Option], size: int) -> np.ndarray:
    """Food, oneself, the others: each a row, a column and a level; a food asks for three agents at most."""
    grid, level, food = options["grid_size"], options["max_agent_level"], int(options["num_food"])
    helpers = min(3, options["num_agents"])
    scale = np.tile(np.array([grid, grid, level], np.float32), size // 3)
    scale[2 : 3 * food : 3] *= helpers
    return scale


def _foraging_rewards(options: Mapping[str, Option]) -> tuple[float, float, float]:
    """All food together is worth 1, and each agent pays for a load that fails."""
    paid = options["num_agents"] * options["penalty"]
    return (-paid, 1.0, 1.0 if paid == 0.0 else math.inf)


def _warehouse_scale(options: Mapping[str, Option], size: int) -> np.ndarray:
    """Row and column, then yes and no."""
    scale = np.ones(size, np.float32)
    scale[0] = (options["column_height"] + 1) * options["shelf_rows"] + 2
    scale[1] = 3 * options["shelf_columns"] + 1
    return scale


def _boards(observation: Any, agents: int) -> Array:
    """Each agent's planes of the board: its head, its target, other heads, other targets, what has been walked."""
    board = observation.grid.reshape(1, -1)
    mine = (board - 1) // 3 == jnp.arange(agents)[:, None]
    path, head, target = ((board > 0) & ((board - 1) % 3 == kind) for kind in range(3))
    planes = [head & mine, target & mine, head & ~mine, target & ~mine, jnp.broadcast_to(path, mine.shape)]
    return jnp.concatenate(planes, axis=-1)


GAMES: Mapping[str, Game] = MappingProxyType(
    {
        "LevelBasedForaging-v0": Game(
            "lbf.generator:RandomGenerator",
            {"grid_size": 8, "num_agents": 2, "num_food": 2, "fov": 8, "max_agent_level": 2, "force_coop": True},
            {"time_limit": 100, "penalty": 0.0},
            ("stay", "up", "down", "left", "right", "load"),
            _own_view,
            _foraging_scale,
            _foraging_rewards,
            10.0,
        ),
        "RobotWarehouse-v0": Game(
            "robot_warehouse.generator:RandomGenerator",
            {
                "shelf_rows": 2,
                "shelf_columns": 3,
                "column_height": 8,
                "num_agents": 4,
                "sensor_range": 1,
                "request_queue_size": 8,
            },
            {"time_limit": 500},
            ("stay", "forward", "turn left", "turn right", "lift or put down"),
            _own_view,
            _warehouse_scale,
            lambda options: (0.0, 2.0, math.inf),  # there are two places to deliver to
            10.0,
        ),
        "Connector-v3": Game(
            "connector.generator:RandomWalkGenerator",
            {"grid_size": 10, "num_agents": 10},
            {"time_limit": 50},
            ("stay", "up", "right", "down", "left"),
            _boards,
            lambda options, size: np.ones(size, np.float32),
            lambda options: (-0.03 * options["num_agents"], float(options["num_agents"]), math.inf),
            3.0,
        ),
    }
)
