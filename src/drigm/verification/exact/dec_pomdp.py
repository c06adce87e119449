"""Finite-horizon Dec-POMDPs as trees of joint histories."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from drigm.core.errors import check
from drigm.verification.exact.problems import Array, TabularProblem, make_problem

MAX_HISTORIES = 1500  # tables are [S, J, S]


class _Node(NamedTuple):
    """A joint history: what each agent saw and did, the joint belief [X], and where it comes from."""

    histories: tuple[tuple[tuple[int, int], ...], ...]  # of each agent: (own action, own observation), ...
    belief: Array
    depth: int


def from_dec_pomdp(
    initial: Any,
    transitions: Any,
    observations: Any,
    rewards: Any,
    *,
    actions: tuple[int, ...],
    observation_counts: tuple[int, ...],
    horizon: int,
    gamma: float = 1.0,
    fail_value: float | None = None,
) -> TabularProblem:
    """Return the MDP over joint histories ``h = (a, o, a, o, ...)`` of a finite-horizon Dec-POMDP (Oliehoek 2012).

    ``P0(h, a, o | h, a) = sum_x' Z(o | a, x') sum_x T(x' | x, a) b_h(x)`` and ``r(h, a) = sum_x b_h(x) R(x, a)``. The
    uncertainty set is rectangular in (h, a): nature picks the next joint observation's distribution, among those that
    the nominal model makes possible. State 0 is the empty history, the last state is the end after ``horizon`` actions.

    Args:
        initial: b0 [X]; nobody observes anything before the first action.
        transitions: T(x' | x, a) [X, J, X].
        observations: Z(o | a, x') [J, X, Y], Y joint observations, ``np.ravel_multi_index(o, observation_counts)``.
        rewards: R(x, a) [X, J].
        actions: number of actions of each agent.
        observation_counts: number of observations of each agent.
        horizon: number of actions, at least 1.
        gamma: discount; 1 is allowed, every path ends.
        fail_value: see `TabularProblem`.

    Raises:
        UserError: if shapes disagree, rows are no distributions, or there are more than 1500 joint histories.
    """
    b0, T, Z, R = (np.asarray(x, float) for x in (initial, transitions, observations, rewards))
    _check_shapes(b0, T, Z, R, int(np.prod(actions)), int(np.prod(observation_counts)))
    check(horizon >= 1, "horizon", horizon, "at least 1")
    check(len(observation_counts) == len(actions), "observation_counts", observation_counts, "one for each agent")
    nodes, edges = _tree(b0, T, Z, actions, observation_counts, horizon)
    S = len(nodes) + 1
    P = np.zeros((S, R.shape[1], S))
    for parent, action, child, probability in edges:
        P[parent, action, child] = probability
    P[:, :, -1] = 1 - P.sum(-1)  # 0 up to rounding where the history goes on
    P[np.abs(P) < 1e-12] = 0
    r = np.vstack([np.array([node.belief @ R for node in nodes]), np.zeros(R.shape[1])])
    return make_problem(
        P / P.sum(-1, keepdims=True),
        r,
        actions,
        gamma,
        terminal=np.arange(S) == S - 1,
        local=_local_indices(nodes, len(actions)),
        horizon=horizon,
        fail_value=fail_value,
        allowed=P > 0,
    )


def _check_shapes(b0: Array, T: Array, Z: Array, R: Array, J: int, Y: int) -> None:
    X = len(b0)
    check(T.shape == (X, J, X), "transitions", T.shape, f"[{X}, {J}, {X}]")
    check(Z.shape == (J, X, Y), "observations", Z.shape, f"[{J}, {X}, {Y}]")
    check(R.shape == (X, J), "rewards", R.shape, f"[{X}, {J}]")
    for name, rows in (("initial", b0), ("transitions", T), ("observations", Z)):
        check(
            bool((rows >= 0).all() and np.allclose(rows.sum(-1), 1, atol=1e-9)),
            name,
            "a row",
            "every one must sum to 1",
        )


def _tree(
    b0: Array,
    T: Array,
    Z: Array,
    actions: tuple[int, ...],
    counts: tuple[int, ...],
    horizon: int,
) -> tuple[list[_Node], list[tuple[int, int, int, float]]]:
    """Return the possible joint histories, breadth first, and (parent, joint action, child, probability)."""
    nodes = [_Node(tuple(() for _ in actions), b0, 0)]
    edges: list[tuple[int, int, int, float]] = []
    for index, node in enumerate(nodes):  # grows while it runs
        if node.depth == horizon - 1:
            break
        for a in range(Z.shape[0]):
            joint = (node.belief @ T[:, a])[:, None] * Z[a]  # [x', o]
            own_actions = np.unravel_index(a, actions)
            for o in np.flatnonzero(joint.sum(0) > 1e-12):
                seen = zip(node.histories, own_actions, np.unravel_index(o, counts), strict=True)
                histories = tuple((*h, (int(a_i), int(o_i))) for h, a_i, o_i in seen)
                edges.append((index, a, len(nodes), float(joint[:, o].sum())))
                nodes.append(_Node(histories, joint[:, o] / joint[:, o].sum(), node.depth + 1))
                check(len(nodes) <= MAX_HISTORIES, "horizon", horizon, f"at most {MAX_HISTORIES} joint histories")
    return nodes, edges


def _local_indices(nodes: list[_Node], agents: int) -> Array:
    """Return each agent's index of its own history in every state [N, S]; the end is a history of its own."""
    local = np.zeros((agents, len(nodes) + 1), int)
    for i in range(agents):
        known: dict[object, int] = {}
        for s, node in enumerate(nodes):
            local[i, s] = known.setdefault(node.histories[i], len(known))
        local[i, -1] = len(known)
    return local
