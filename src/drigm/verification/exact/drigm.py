"""The DrIGM checker: do the agents' own greedy actions form a robust-greedy joint action? By enumeration."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from drigm.core.errors import check, choose

Array = np.ndarray
KINDS = ("vdn", "qmix", "qtran")


class DrIGMCheck(NamedTuple):
    """What enumerating the joint actions of one state found.

    Attributes:
        holds: every tuple of the agents' own greedy actions is greedy for the joint value.
        gap: the largest loss ``max Q - Q(a)`` over tuples a of own greedy actions; 0 if DrIGM holds.
        local: the tuples of own greedy actions, more than one if an agent's values tie.
        joint: the greedy joint actions of the joint value, as tuples.
    """

    holds: bool
    gap: float
    local: tuple[tuple[int, ...], ...]
    joint: tuple[tuple[int, ...], ...]


def check_drigm(individual: Sequence[Array], joint: Array, *, tolerance: float = 1e-9) -> DrIGMCheck:
    """Check ``(argmax Q_1) x ... x (argmax Q_N)`` is a subset of ``argmax Q`` (DrIGM's definition, one joint history).

    Args:
        individual: Q_i(h_i, .), N arrays [A_i].
        joint: the ROBUST joint value Q(h, .) [J], J = prod A_i in `numpy.ravel_multi_index` order.
        tolerance: values closer than this count as equal, in both argmaxes.

    Raises:
        UserError: if the joint value does not have one entry for each joint action.
    """
    actions = tuple(len(q) for q in individual)
    table = _table(joint, actions)
    own = [np.flatnonzero(q >= np.max(q) - tolerance).tolist() for q in individual]
    local = tuple(product(*own))
    loss = table.max() - table
    gap = max(float(loss[a]) for a in local)
    best = tuple(tuple(int(x) for x in a) for a in np.argwhere(loss <= tolerance))
    return DrIGMCheck(all(a in best for a in local), gap if gap > tolerance else 0.0, local, best)


class Representation(NamedTuple):
    """How well individual values represent a joint value in every state, as one of `KINDS`.

    Attributes:
        individual: Q_i(h_i, a_i), N arrays [H_i, A_i].
        holds: the kind's condition is met, up to the tolerance.
        residual: how far it is missed: the largest error of the sum (vdn), the largest fall of Q where no agent's value
            falls (qmix), the largest violation of QTRAN's equality or inequality (qtran).
    """

    individual: list[Array]
    holds: bool
    residual: float


def decompose(
    joint: Array, actions: tuple[int, ...], kind: str, local: Array | None = None, *, tolerance: float = 1e-7
) -> Representation:
    """Return individual values that represent ``joint`` as ``kind`` asks, and by how much they miss.

    * vdn: ``Q(s, a) = sum_i Q_i(h_i, a_i)``, least squares of minimum norm over all states and actions
    * qmix: ``Q(s, a) = f_s(Q_1, ..., Q_N)``, f_s non-decreasing; Q_i = mean over s of max over the others of Q(s, .)
    * qtran: ``sum_i Q_i - Q + V_s >= 0`` with equality at the agents' greedy actions (QTRAN, Theorem 1); QMIX's values,
      times the largest factor that keeps the inequality

    Args:
        joint: Q [S, J], or [J] for one state.
        actions: number of actions of each agent.
        kind: one of `KINDS`.
        local: index of agent i's local history in state s [N, S]; default: every agent sees s.
        tolerance: for ``holds``.

    Raises:
        UserError: for an unknown kind, or shapes that disagree.
    """
    choose("kind", kind, KINDS)
    Q = np.atleast_2d(np.asarray(joint, float))
    tables = np.stack([_table(row, actions) for row in Q])
    seen = np.tile(np.arange(len(Q)), (len(actions), 1)) if local is None else np.asarray(local)
    check(seen.shape == (len(actions), len(Q)), "local", seen.shape, f"[{len(actions)}, {len(Q)}]")
    individual = _additive(Q, actions, seen) if kind == "vdn" else _best_with_others(tables, seen)
    if kind == "qtran":
        individual = _shrink(individual, tables, seen)
    residual = {"vdn": sum_error, "qmix": monotone_error, "qtran": qtran_error}[kind](individual, tables, seen)
    return Representation(individual, residual <= tolerance, residual)


def at_state(individual: Sequence[Array], local: Array, state: int) -> list[Array]:
    """Return Q_i(h_i, .) of each agent in one joint state, N arrays [A_i]."""
    return [q[local[i, state]] for i, q in enumerate(individual)]


def sum_values(individual: Sequence[Array], local: Array) -> Array:
    """Return ``sum_i Q_i(h_i, a_i)`` [S, A_1, ..., A_N]."""
    N = len(individual)
    total: Array = np.zeros(())
    for i, q in enumerate(individual):
        total = total + q[local[i]].reshape(-1, *(q.shape[1] if j == i else 1 for j in range(N)))
    return total


def sum_error(individual: Sequence[Array], tables: Array, local: Array) -> float:
    """Return ``max |Q - sum_i Q_i|``."""
    return float(np.abs(tables - sum_values(individual, local)).max())


def monotone_error(individual: Sequence[Array], tables: Array, local: Array) -> float:
    """Return ``max over s and pairs a, b with Q_i(a_i) <= Q_i(b_i) for all i of Q(s, a) - Q(s, b)``, at least 0."""
    actions, worst = tables.shape[1:], 0.0
    joint = np.array(list(np.ndindex(*actions)))
    for s, table in enumerate(tables):
        own = np.stack([q[joint[:, i]] for i, q in enumerate(at_state(individual, local, s))], -1)  # [J, N]
        no_better = (own[:, None] <= own[None] + 1e-12).all(-1)
        fall = table.reshape(-1)[:, None] - table.reshape(-1)[None]
        worst = max(worst, float(fall[no_better].max()))
    return worst


def qtran_error(individual: Sequence[Array], tables: Array, local: Array) -> float:
    """Return the largest violation of ``sum Q_i - Q + V_s >= 0``, with V_s such that it is 0 at the greedy actions.

    V_s = max Q - sum_i max Q_i, which is the V of QTRAN only if the greedy tuple attains max Q: if it does not, the
    equality is violated, by that much.
    """
    total = sum_values(individual, local)
    flat, summed = tables.reshape(len(tables), -1), total.reshape(len(tables), -1)
    greedy = summed >= summed.max(1, keepdims=True) - 1e-12
    V = flat.max(1, keepdims=True) - summed.max(1, keepdims=True)
    slack = summed - flat + V
    return float(max(-slack.min(), np.where(greedy, slack, 0.0).max(), 0.0))


def _table(joint: Array, actions: tuple[int, ...]) -> Array:
    check(np.shape(joint) == (int(np.prod(actions)),), "joint", np.shape(joint), f"[{int(np.prod(actions))}]")
    return np.asarray(joint, float).reshape(actions)


def _additive(Q: Array, actions: tuple[int, ...], local: Array) -> list[Array]:
    """Return the least-squares Q_i of minimum norm: agents share what belongs to none of them equally."""
    states, joint = np.indices((len(Q), len(list(np.ndindex(*actions))))).reshape(2, -1)
    own = np.unravel_index(joint, actions)
    sizes = [(int(local[i].max()) + 1, A) for i, A in enumerate(actions)]
    starts = np.cumsum([0, *(h * a for h, a in sizes)])
    design = np.zeros((Q.size, starts[-1]))
    for i, (_, A) in enumerate(sizes):
        design[np.arange(Q.size), starts[i] + local[i, states] * A + own[i]] = 1
    solution = np.linalg.lstsq(design, Q.reshape(-1), rcond=None)[0]
    return [solution[starts[i] : starts[i + 1]].reshape(size) for i, size in enumerate(sizes)]


def _best_with_others(tables: Array, local: Array) -> list[Array]:
    """Return the mean, over the states of one local history, of ``max over the others' actions of Q(s, .)``.

    If Q = f_s(q_1, ..., q_N) with increasing f_s, this orders an agent's actions as q_i does.
    """
    N = tables.ndim - 1
    individual = []
    for i in range(N):
        best = tables.max(axis=tuple(j + 1 for j in range(N) if j != i))  # [S, A_i]
        H = int(local[i].max()) + 1
        count = np.bincount(local[i], minlength=H)
        total = np.zeros((H, best.shape[1]))
        np.add.at(total, local[i], best)
        individual.append(total / np.maximum(count, 1)[:, None])
    return individual


def _shrink(individual: list[Array], tables: Array, local: Array) -> list[Array]:
    """Return ``factor * Q_i`` with the largest factor that has ``factor * (sum max Q_i - sum Q_i) <= max Q - Q``."""
    total = sum_values(individual, local).reshape(len(tables), -1)
    flat = tables.reshape(len(tables), -1)
    below, loss = total.max(1, keepdims=True) - total, flat.max(1, keepdims=True) - flat
    worse = below > 1e-12
    factor = float(np.min(loss[worse] / below[worse])) if worse.any() else 1.0
    return [max(factor, 0.0) * q for q in individual]
