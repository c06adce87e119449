"""Static and rectangular nature, solved exactly: K worlds of a small problem, over a few steps.

A *static* nature picks one world for the whole episode, a *rectangular* one a world anew at every (state, joint
action). Against the first a policy that remembers can find out which world it is in; against the second that never
pays. Always::

    rectangular value  <=  worst world of the rectangular policy  <=  static value

and in `identification_problem` both are strict: the policy that finds out beats the robust one in every world's worst.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from drigm.core.errors import check
from drigm.verification.exact.problems import Array

MAX_VECTORS = 20_000  # of values that one state can have; more is no small problem


class World(NamedTuple):
    """One model of a problem with S joint states and J joint actions."""

    transitions: Array  # [S, J, S]
    rewards: Array  # [S, J]


class StaticReport(NamedTuple):
    """The values of a start state, over ``horizon`` steps."""

    rectangular: float  # max over policies of min over natures that choose anew at every step
    rectangular_policy: float  # the worst world of that policy
    static: float  # max over policies with a memory of min over worlds
    static_worlds: tuple[float, ...]  # what the best of these gets in each

    @property
    def identifying_pays(self) -> bool:
        """Whether the policy that finds out beats the rectangular one where each does worst."""
        return self.static > self.rectangular_policy + 1e-9

    def __str__(self) -> str:
        each = ", ".join(f"{value:.2f}" for value in self.static_worlds)
        return (
            f"Persistent worlds: against a nature that chooses anew at every step the robust team gets "
            f"{self.rectangular:.2f}, and {self.rectangular_policy:.2f} in its worst world; a team that finds out "
            f"which world it is in gets {self.static:.2f} ({each})."
        )


def solve_static(worlds: Sequence[World], horizon: int, start: int = 0) -> StaticReport:
    """Return the values of K ``worlds`` from state ``start`` over ``horizon`` steps, undiscounted.

    Raises:
        UserError: shapes disagree, or there are too many policies to enumerate.
    """
    P, r = (np.stack(part) for part in zip(*worlds, strict=True))  # [K, S, J, S], [K, S, J]
    check(P.shape == (*r.shape, r.shape[1]), "worlds", P.shape, "transitions [S, J, S] and rewards [S, J] of each")
    policy, value = rectangular_policy(P, r, horizon)
    fixed = np.zeros((len(worlds), r.shape[1]))
    for t in reversed(range(horizon)):
        rows = np.arange(r.shape[1])
        fixed = r[:, rows, policy[t]] + np.einsum("kst,kt->ks", P[:, rows, policy[t]], fixed)
    vectors = _values(P, r, start, horizon)
    best = vectors[np.argmax(vectors.min(axis=1))]
    return StaticReport(
        float(value[start]), float(fixed[:, start].min()), float(best.min()), tuple(float(x) for x in best)
    )


def rectangular_policy(P: Array, r: Array, horizon: int) -> tuple[Array, Array]:
    """Return the robust policy [horizon, S] and its value [S]: ``V = max_a min_k (r_k + P_k V)``, backwards."""
    value, policy = np.zeros(r.shape[1]), []
    for _ in range(horizon):
        q = (r + np.einsum("ksjt,t->ksj", P, value)).min(axis=0)
        policy.append(q.argmax(axis=1))
        value = q.max(axis=1)
    return np.array(policy[::-1]), value


def _values(P: Array, r: Array, state: int, steps: int) -> Array:
    """Return what deterministic policies with a memory get in each world from here, [V, K]; none beaten everywhere."""
    if steps == 0:
        return np.zeros((1, len(r)))
    found = []
    for action in range(r.shape[2]):
        reached = np.flatnonzero((P[:, state, action] > 0).any(axis=0))
        ahead = [_values(P, r, int(s), steps - 1) for s in reached]  # what can be done there, whatever came before
        count = int(np.prod([len(one) for one in ahead]))
        check(count <= MAX_VECTORS, "horizon", steps, f"fewer steps: {count} policies after one state")
        chances = P[:, state, action, reached]  # [K, states ahead]
        for choice in itertools.product(*ahead):
            found.append(r[:, state, action] + (chances * np.array(choice).T).sum(axis=1))
    return _undominated(np.unique(np.round(found, 12), axis=0))


def _undominated(vectors: Array) -> Array:
    """Return those of ``vectors`` [V, K] that no other is at least as good as in every world."""
    others, one = vectors[:, None], vectors[None]  # [V, V, K]: is ``one`` beaten by ``others``
    beaten = (others >= one).all(axis=-1) & (others > one).any(axis=-1)
    return vectors[~beaten.any(axis=0)]


def identification_problem() -> list[World]:
    """Return two worlds in which it pays to find out which one it is.

    Two agents have three actions each (left, right, hold). Both left pays 1 in the first world and costs 1 in the
    second, both right the other way round, both hold pays 0.2; anything else pays 0. The next state says which of the
    two worlds it was, if either was tried.
    """
    worlds = []
    for sign in (1.0, -1.0):
        rewards = np.zeros((3, 9))
        rewards[:, 0], rewards[:, 4], rewards[:, 8] = sign, -sign, 0.2
        transitions = np.zeros((3, 9, 3))
        transitions[:, :, 0] = 1.0  # nothing was found out
        for tried in (0, 4):
            transitions[:, tried] = np.eye(3)[1 if sign > 0 else 2]
        worlds.append(World(transitions, rewards))
    return worlds
