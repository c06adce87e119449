"""The record that a factorization is: how the agents' values make the team's value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int

from drigm.core.choice import Choice
from drigm.core.types import Array, PyTree


class TeamSizes(NamedTuple):
    """What a factorization's parameters are sized by."""

    num_agents: int  # N
    num_actions: int  # A
    state_size: int  # S
    feature_size: int  # F
    embed_size: int  # width of the factorization's own layers
    levels: Float32[np.ndarray, " A"] | None = None  # in [-1, 1] where actions are levels of one quantity


class Team(NamedTuple):
    """A joint history and a joint action, as the factorization sees them."""

    q: Float[Array, "*batch N"]  # each agent's own value of its action
    action: Int[Array, "*batch N"]
    features: Float[Array, "*batch N F"]  # what each agent's network makes of its own history
    state: Float[Array, "*batch S"]  # standardised


class Factorization(NamedTuple):
    """A joint action value Q_tot(h, a) made of Q_1(h_1, a_1), ..., Q_N(h_N, a_N).

    Attributes:
        name: what the command line and config.json call it.
        init: ``init(key, sizes) -> params``.
        joint_value: ``joint_value(params, team) -> [...]``.
        consistency: ``consistency(params, taken, greedy, q [..., N, A], weights) -> [...]``, a loss per sample that
            ties agents to joint values that are not monotone in theirs; None where the structure itself does (VDN,
            QMIX). ``taken`` and ``greedy`` are the same joint histories with the actions taken and with the agents'
            own greedy ones; ``q`` is every agent's value of every action, -inf where not available; ``weights`` =
            (lambda_opt, lambda_nopt).
        additive: the joint value is the plain sum, so that every agent has a share of it.
    """

    name: str
    init: Callable[[Array, TeamSizes], PyTree]
    joint_value: Callable[[PyTree, Team], Array]
    consistency: Callable[[PyTree, Team, Team, Array, tuple[float, float]], Array] | None = None
    additive: bool = False

    def __call__(self, **settings: Any) -> Choice:
        """Return the choice of this factorization with ``settings``, such as ``mixer_embed=16``, for `drigm.train`."""
        return Choice("factorization", self, settings)
