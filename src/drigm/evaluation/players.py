"""Who plays an evaluation: K policies that one program plays, made of their weights in JAX or in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from drigm.agents.numpy_agents import NumpyAgents
from drigm.agents.pi import PI, Trimmed, loop_of
from drigm.agents.policies import Constant, Policy, subteam
from drigm.agents.recurrent import RecurrentAgents
from drigm.agents.rollout import Greedy
from drigm.core.types import Array, EnvSpec, PyTree

Wrap = Callable[[Policy], Policy]


class Players(NamedTuple):
    """K policies that differ in their weights alone.

    Attributes:
        weights: stacked on a leading axis [K].
        in_jax: makes a policy of one's weights, without that axis.
        in_numpy: the same of NumPy arrays that keep it, as [1].
    """

    weights: PyTree
    in_jax: Callable[[Any], Policy]
    in_numpy: Callable[[Any], Policy]


def teams(agents: RecurrentAgents, wrap: Wrap = lambda team: team) -> Players:
    """Return K trained teams that act greedily, each within ``wrap``; weights [K, ...]."""

    def in_jax(one: RecurrentAgents) -> Policy:
        return wrap(Greedy(one))

    def in_numpy(one: RecurrentAgents) -> Policy:
        return wrap(NumpyAgents(one))

    return Players(agents, in_jax, in_numpy)


def constant(action: Array) -> Players:
    """Return K policies that never change their joint actions [K, N]."""
    return Players(action, Constant, Constant)


def fixed(policy: Policy) -> Players:
    """Return ``policy``, which has no weights to choose between, as the only player."""

    def always(nothing: Any) -> Policy:
        del nothing
        return policy

    return Players(np.zeros(1), always, always)


def pi_controllers(spec: EnvSpec, kp: Array, ki: Array) -> Players:
    """Return K PI controllers with gains [K, N]; `UserError` where ``spec`` says nothing that they could hold."""
    loop = loop_of(spec)

    def controller(gains: tuple[Any, Any]) -> Policy:
        return PI(loop, *gains)

    return Players((kp, ki), controller, controller)


def wrapped(spec: EnvSpec, agents: tuple[str, ...], trim: float) -> Wrap:
    """Return what makes a team of ``agents`` play in ``spec``'s environment, with a trim of gain ``trim`` unless 0.

    Raises:
        UserError: a trim, where ``spec`` says nothing that it could hold.
    """
    loop = loop_of(spec) if trim else None

    def wrap(team: Policy) -> Policy:
        here = subteam(team, agents, spec.agents)
        return here if loop is None else Trimmed(here, loop, trim)

    return wrap
