"""Shapes and records that every other file shares, and functions of JAX's with the types that JAX leaves open.

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
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Int

Array = jax.Array
Leaf = Array | np.ndarray
PyTree = Any
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

NO_ACTION = -1  # the previous action at the first step of an episode


class TimeStep(NamedTuple):
    """What an environment shows after `reset` or `step`.

    ``terminated`` and ``truncated`` are never merged into one ``done``: a truncated episode still
    has a future, so its last value is bootstrapped; a terminated one has none.
    """

    obs: Float[Array, "*batch N O"]  # physical units
    state: Float[Array, "*batch S"]  # physical units; used in training only
    avail_actions: Bool[Array, "*batch N A"]
    reward: Float[Array, "*batch"]  # the team's reward for the transition that led here (0 at reset)
    terminated: Bool[Array, "*batch"]
    truncated: Bool[Array, "*batch"]
    alive: Bool[Array, "*batch N"] | None = None  # the agents that still act; None where agents never leave
    won: Bool[Array, "*batch"] | None = None  # with the end of an episode: it was won; None where nothing is won


class NextSteps(NamedTuple):
    """K next steps drawn from one state and one joint action; see `drigm.algorithms.samples`."""

    obs: Float[Array, "*batch K N O"]
    state: Float[Array, "*batch K S"]
    avail_actions: Bool[Array, "*batch K N A"] | None  # None where every action is always available
    reward: Float[Array, "*batch K"]
    terminated: Bool[Array, "*batch K"]
    alive: Bool[Array, "*batch K N"] | None  # None where agents never leave


class StoredStep(NamedTuple):
    """One time-step of all parallel environments as replay stores it, with the action that led to it.

    The batch is [B], [C, B] in the ring of replay, [T + 1, B] in a window.
    """

    obs: Float[Array, "*batch N O"]
    state: Float[Array, "*batch S"]
    avail_actions: Bool[Array, "*batch N A"] | None  # None where every action is always available
    last_action: Int[Array, "*batch N"]  # the action that led here; NO_ACTION where first
    reward: Float[Array, "*batch"]  # the reward that came with this time-step
    terminated: Bool[Array, "*batch"]
    truncated: Bool[Array, "*batch"]
    first: Bool[Array, "*batch"]  # a reset observation
    alive: Bool[Array, "*batch N"] | None = None  # None where agents never leave
    ahead: NextSteps | None = None  # what the action taken here might have led to; None without samples
    memory: PyTree = None  # what the agents remembered before this step, leaves [*batch, N, ...]; None: it is not kept


class Declared(NamedTuple):
    """Which scales an environment declares; the others stand for nothing."""

    obs: Bool[np.ndarray, "N O"]
    state: Bool[np.ndarray, " S"]
    reward: bool


class Regulated(NamedTuple):
    """The reading that each agent's own action holds at a setpoint; a higher level of the action raises it.

    It is what a controller needs to know (`drigm.agents.pi`), and nothing that learns looks at it.
    """

    reading: int  # index into an agent's observation
    setpoint: Float32[np.ndarray, " N"]  # in the reading's own unit


class Described(NamedTuple):
    """What an environment says about its numbers to people and to devices; nothing that learns looks at it.

    What it does not say is empty or None. Names, units and bounds are each agent's own.
    """

    readings: tuple[tuple[str, ...], ...] = ()  # names [N][O]
    units: tuple[tuple[str, ...], ...] = ()  # [N][O], "" where a reading has none
    low: Float32[np.ndarray, "N O"] | None = None  # readings beyond these bounds are faults; infinite where unknown
    high: Float32[np.ndarray, "N O"] | None = None
    actions: tuple[str, ...] = ()  # names [A]
    levels: str = ""  # what the levels in `EnvSpec.action_values` are levels of
    own_actions: tuple[int, ...] | None = None  # how many of the A actions each agent has [N]; None: all
    first_actions: tuple[int, ...] | None = None  # what the environment calls each agent's action 0 [N]; None: 0
    step_seconds: float | None = None


class EnvSpec(NamedTuple):
    """The static facts of an environment: sizes, scales, and what its rewards can be.

    ``obs_offset``/``obs_scale`` (each agent's own) and ``state_offset``/``state_scale`` are how the environment
    declares its standardisation: networks see ``(x - offset) / scale``. Unless ``scales_known``, training checks them
    and ``reward_scale`` against random play first (`drigm.envs.calibration`).
    """

    name: str
    agents: tuple[str, ...]  # N ids, in the order of the agent axis
    obs_size: int  # O
    state_size: int  # S
    num_actions: int  # A
    episode_limit: int  # steps after which an episode is truncated
    obs_offset: Float32[np.ndarray, "N O"]
    obs_scale: Float32[np.ndarray, "N O"]
    state_offset: Float32[np.ndarray, " S"]
    state_scale: Float32[np.ndarray, " S"]
    reward_scale: float  # the learner sees reward * reward_scale
    reward_range: tuple[float, float]  # bounds of one step's unscaled team reward
    action_values: Float32[np.ndarray, " A"] | None = None  # in [-1, 1] where actions are levels of one quantity
    masks_actions: bool = False  # False: every action is always available
    terminates: bool = False  # True: episodes can end by termination (value 0 afterwards)
    agents_die: bool = False  # True: agents can leave before the episode ends; time-steps say who is alive
    has_wins: bool = False  # True: episodes are won or not, and the score is the win rate
    readings: Bool[np.ndarray, "N O"] | None = None  # which readings each agent has; None: all, the rest is padding
    highest_return: float = math.inf  # bound of what an episode can still pay, unscaled; for rewards that are never < 0
    idle_action: int = 0  # what an agent does before anything was decided (actuator delay)
    scales_known: bool = False  # True: offsets and scales come from the physics of the environment, or were measured
    declared: Declared | None = None  # None: all scales are declared
    regulated: Regulated | None = None  # None: the agents hold nothing at a setpoint, or it is not known what
    described: Described | None = None  # None: it says nothing about its numbers

    @property
    def num_agents(self) -> int:
        return len(self.agents)


def standardise(x: Array, offset: np.ndarray | Array, scale: np.ndarray | Array) -> Array:
    """Return ``(x - offset) / scale``, as networks see it; offset and scale [S] or [N, O] are of x's last axes."""
    return (x - jnp.broadcast_to(jnp.asarray(offset), x.shape)) / jnp.broadcast_to(jnp.asarray(scale), x.shape)


def jit(function: Callable[P, R], options: dict[str, str | bool] | None = None) -> Callable[P, R]:
    """Return ``jax.jit`` of ``function``, compiled with ``options``."""
    # Its signature is untyped in part.
    return jax.jit(function, compiler_options=options)  # pyright: ignore[reportUnknownMemberType]


def traced(function: Callable[[], R]) -> R:
    """Return what ``function`` would, with shapes and types in place of arrays: nothing is computed."""
    return jax.eval_shape(function)  # pyright: ignore[reportUnknownMemberType] (as that of jit)


def value_and_grad(
    f: Callable[Concatenate[T, P], R], has_aux: bool = False
) -> Callable[Concatenate[T, P], tuple[R, T]]:
    """Return ``jax.value_and_grad`` of ``f`` in its first argument."""
    return jax.value_and_grad(f, has_aux=has_aux)  # pyright: ignore[reportUnknownMemberType] (as that of jit)


@overload
def map_tree(function: Callable[[Array], Leaf], tree: T) -> T: ...
@overload
def map_tree(function: Callable[[Array, Array], Leaf], tree: T, other: T, /) -> T: ...
def map_tree(function: Callable[..., Leaf], tree: T, *others: T) -> T:
    """Return ``jax.tree.map``: a tree of the same type."""
    return jax.tree.map(function, tree, *others)


def join_trees(join: Callable[[Sequence[Array]], Leaf], trees: Sequence[T]) -> T:
    """Return one tree of what ``join`` makes of each leaf of all ``trees``."""

    def joined(*leaves: Array) -> Leaf:
        return join(leaves)

    return jax.tree.map(joined, *trees)
