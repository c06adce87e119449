"""The record that a factorization is: how the agents' values make the team's value."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from drigm.types import Array, PyTree


class Factorization(NamedTuple):
    """A structured joint action value Q_tot(h, a) = f(Q_1, ..., Q_N; s).

    Attributes:
        name: what the command line and config.json call it.
        init: ``init(key, num_agents, state_size, embed_size) -> params``, the mixer's parameters.
        joint_value: ``joint_value(params, q [..., N], state [..., S]) -> [...]`` with the *standardised*
            global state; non-decreasing in every Q_i, so that greedy agents form the greedy team.
    """

    name: str
    init: Callable[[Array, int, int, int], PyTree]
    joint_value: Callable[[PyTree, Array, Array], Array]
