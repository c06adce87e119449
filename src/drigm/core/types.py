"""Shapes and records that every other file shares.

Axes, written once here and used everywhere::

    B  parallel environments, or windows in a batch
    T  transitions in a window (a window holds T + 1 time-steps)
    N  agents
    A  actions per agent
    O  size of one agent's observation
    S  size of the global state (training only)
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
PyTree = Any

NO_ACTION = -1  # the previous action at the first step of an episode


class TimeStep(NamedTuple):
    """What an environment shows after `reset` or `step`.

    ``terminated`` and ``truncated`` are never merged into one ``done``: a truncated episode still
    has a future, so its last value is bootstrapped; a terminated one has none.
    """

    obs: Array  # [N, O] float32, physical units
    state: Array  # [S] float32, physical units; used in training only
    avail_actions: Array  # [N, A] bool
    reward: Array  # [] float32, the team's reward for the transition that led here (0 at reset)
    terminated: Array  # [] bool
    truncated: Array  # [] bool
    alive: Array | None = None  # [N] bool, the agents that still act; None where agents never leave
    won: Array | None = None  # [] bool, with the end of an episode: it was won; None where nothing is won


class StoredStep(NamedTuple):
    """One time-step of all parallel environments as replay stores it, with the action that led to it.

    Leading axes are [B], [C, B] in the ring of replay, [T + 1, B] in a window.
    """

    obs: Array  # [..., N, O]
    state: Array  # [..., S]
    avail_actions: Array | None  # [..., N, A] bool, None where every action is always available
    last_action: Array  # [..., N] int32, the action that led here; NO_ACTION where first
    reward: Array  # [...] the reward that came with this time-step
    terminated: Array  # [...] bool
    truncated: Array  # [...] bool
    first: Array  # [...] bool, a reset observation
    alive: Array | None = None  # [..., N] bool, None where agents never leave


class Declared(NamedTuple):
    """Which scales an environment declares; the others stand for nothing."""

    obs: np.ndarray  # [N, O] bool
    state: np.ndarray  # [S] bool
    reward: bool


class EnvSpec(NamedTuple):
    """The static facts of an environment: sizes, scales, and what its rewards can be.

    ``obs_offset``/``obs_scale`` (each agent's own) and ``state_offset``/``state_scale`` are how the environment
    declares its standardisation: networks see ``(x - offset) / scale``. Unless ``scales_known``, training checks them
    and ``reward_scale`` against random play first (`drigm.envs.scales`).
    """

    name: str
    agents: tuple[str, ...]  # N ids, in the order of the agent axis
    obs_size: int  # O
    state_size: int  # S
    num_actions: int  # A
    episode_limit: int  # steps after which an episode is truncated
    obs_offset: np.ndarray  # [N, O] float32
    obs_scale: np.ndarray  # [N, O] float32
    state_offset: np.ndarray  # [S] float32
    state_scale: np.ndarray  # [S] float32
    reward_scale: float  # the learner sees reward * reward_scale
    reward_range: tuple[float, float]  # bounds of one step's unscaled team reward
    action_values: np.ndarray | None = None  # [A] in [-1, 1] where actions are levels of one quantity
    masks_actions: bool = False  # False: every action is always available
    terminates: bool = False  # True: episodes can end by termination (value 0 afterwards)
    agents_die: bool = False  # True: agents can leave before the episode ends; time-steps say who is alive
    has_wins: bool = False  # True: episodes are won or not, and the score is the win rate
    readings: np.ndarray | None = None  # [N, O] bool, which readings each agent has; None: all, the rest is padding
    highest_return: float = math.inf  # bound of what an episode can still pay, unscaled; for rewards that are never < 0
    idle_action: int = 0  # what an agent does before anything was decided (actuator delay)
    scales_known: bool = False  # True: offsets and scales come from the physics of the environment, or were measured
    declared: Declared | None = None  # None: all scales are declared

    @property
    def num_agents(self) -> int:
        return len(self.agents)


def standardise(x: Array, offset: np.ndarray | Array, scale: np.ndarray | Array) -> Array:
    """Return ``(x - offset) / scale``, as networks see it; offset and scale [S] or [N, O] are of x's last axes."""
    return (x - jnp.broadcast_to(jnp.asarray(offset), x.shape)) / jnp.broadcast_to(jnp.asarray(scale), x.shape)
