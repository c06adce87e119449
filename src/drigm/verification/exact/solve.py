"""Robust dynamic programming on tables: robust value iteration, the worst model, and values under one model."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from drigm.core.errors import UserError, check
from drigm.verification.exact.problems import TabularProblem
from drigm.verification.exact.worst_cases import CAN_FAIL, worst_case

Array = np.ndarray


class Model(NamedTuple):
    """One model out of the uncertainty set.

    Attributes:
        transitions: P(s' | s, a) [S, J, S], terminations included.
        fail_mass: probability of the fail state [S, J]; with ``transitions`` it sums to 1.
    """

    transitions: Array
    fail_mass: Array


def nominal_model(problem: TabularProblem) -> Model:
    """Return P0."""
    return Model(problem.transitions, np.zeros(problem.rewards.shape))


def worst_model(
    problem: TabularProblem, uncertainty: str, rho: Any, values: Array, *, max_ratio: float | None = None
) -> Model:
    """Return ``argmin over P in P_{s,a} of E_P[V]`` at every (s, a): P_worst, if V is the robust value.

    The set is rectangular, so one model is the worst at all (s, a) at once (Iyengar 2005). The set is taken around P0
    given that the episode goes on; terminations keep their probability.

    Args:
        problem: S states, J joint actions.
        uncertainty: a name in `WORST_CASE`.
        rho: radius, a number or [S, J].
        values: V [S]; terminal states count as 0.
        max_ratio: see `worst_case`.
    """
    going = np.where(problem.terminal, 0.0, problem.transitions)
    mass = going.sum(-1)
    free = ~problem.terminal if problem.allowed is None else problem.allowed & ~problem.terminal
    free = np.broadcast_to(free, going.shape)
    # An ended row gets any distribution; its mass of 0 removes it again.
    dummy = np.eye(len(values))[free.argmax(-1)]
    live = (mass > 0)[..., None]
    p = np.where(live, going / np.where(live, mass[..., None], 1.0), dummy)
    kept = np.where(problem.terminal, 0.0, values)
    worst = worst_case(
        uncertainty,
        kept,
        p,
        rho,
        fail_value=problem.fail_value if uncertainty in CAN_FAIL else None,
        distance=problem.distance if uncertainty == "wasserstein" else None,
        allowed=np.where(live, free, dummy > 0),
        max_ratio=max_ratio,
    )
    ended = np.where(problem.terminal, problem.transitions, 0.0)
    return Model(mass[..., None] * worst.q + ended, mass * worst.fail_mass)


def backup(problem: TabularProblem, model: Model, values: Array) -> Array:
    """Return ``Q = r + gamma (E_P[V] + fail_mass m)`` [S, J] with V [S]; 0 in terminal states."""
    future = model.transitions @ np.where(problem.terminal, 0.0, values) + model.fail_mass * (problem.fail_value or 0.0)
    return np.where(problem.terminal[:, None], 0.0, problem.rewards + problem.gamma * future)


def robust_values(
    problem: TabularProblem,
    uncertainty: str,
    rho: Any,
    *,
    policy: Array | None = None,
    tolerance: float = 1e-10,
    max_sweeps: int = 10_000,
    max_ratio: float | None = None,
) -> Array:
    """Return the fixed point of ``Q(s, a) = r + gamma inf_P E_P[max_a' Q(s', a')]`` by robust value iteration.

    Sweeps (Iyengar 2005) alternate with steps of robust policy iteration: the values of the current greedy policy under
    the current worst model, by one linear solve.

    Args:
        problem: S states, J joint actions.
        uncertainty: a name in `WORST_CASE`.
        rho: radius, a number or [S, J].
        policy: joint action of each state [S], to take instead of the maximum.
        tolerance: the returned Q [S, J] is this close to the fixed point (gamma < 1) or equal to it (a finite horizon).
        max_sweeps: give up after this many.
        max_ratio: see `worst_case`.

    Raises:
        UserError: if gamma is 1 and the values have not settled, or ``max_sweeps`` is too small.
    """
    enough = tolerance * (1 - problem.gamma) / max(problem.gamma, 1e-12) if problem.gamma < 1 else 0.0
    values = np.zeros(len(problem.rewards))
    at_jump = np.inf
    for _ in range(max_sweeps):
        model = worst_model(problem, uncertainty, rho, values, max_ratio=max_ratio)
        Q = backup(problem, model, values)
        swept = state_values(Q, policy)
        error = float(np.max(np.abs(swept - values)))
        if error <= enough + 1e-15 * np.max(np.abs(swept)):
            return Q
        values = swept
        # A Newton step whenever the error is half of that at the last one: the sweeps alone converge, and so does this.
        if error < at_jump / 2:
            at_jump = error
            with suppress(UserError):
                values = _evaluate(problem, model, Q.argmax(-1) if policy is None else policy)
    raise UserError(f"robust values did not settle within {max_sweeps} sweeps; gamma = 1 needs a finite horizon.")


def policy_values(problem: TabularProblem, uncertainty: str, rho: Any, policy: Any, **options: Any) -> Array:
    """Return ``Q^pi(s, a) = r + gamma inf_P E_P[Q^pi(s', pi(s'))]`` [S, J] of the joint policy [S] (joint indices)."""
    return robust_values(problem, uncertainty, rho, policy=_joint_policy(problem, policy), **options)


def state_values(Q: Array, policy: Array | None = None) -> Array:
    """Return ``max_a Q(s, a)``, or ``Q(s, pi(s))``; Q [S, J] -> [S]."""
    return Q.max(-1) if policy is None else Q[np.arange(len(Q)), policy]


def model_values(problem: TabularProblem, model: Model, policy: Any = None, *, max_sweeps: int = 10_000) -> Array:
    """Return Q [S, J] of one fixed model, for a joint policy [S] or the optimal one, exact by policy iteration.

    Raises:
        UserError: if the policy has no value (gamma = 1 and paths that do not end).
    """
    if policy is not None:
        return backup(problem, model, _evaluate(problem, model, _joint_policy(problem, policy)))
    greedy = problem.rewards.argmax(-1)
    for _ in range(max_sweeps):
        Q = backup(problem, model, _evaluate(problem, model, greedy))
        better = Q.max(-1) > state_values(Q, greedy) + 1e-12 * (1 + np.abs(Q).max())
        if not better.any():
            return Q
        greedy = np.where(better, Q.argmax(-1), greedy)
    raise UserError(f"policy iteration did not settle within {max_sweeps} sweeps.")


def _evaluate(problem: TabularProblem, model: Model, policy: Array) -> Array:
    """Return V [S] solving ``V = r_pi + gamma (P_pi V + fail_pi m)``."""
    states = np.arange(len(policy))
    going = np.where(problem.terminal, 0.0, model.transitions[states, policy]) * ~problem.terminal[:, None]
    constant = backup(problem, model, np.zeros(len(policy)))[states, policy]
    try:
        values = np.linalg.solve(np.eye(len(policy)) - problem.gamma * going, constant)
    except np.linalg.LinAlgError:
        raise UserError("the policy has no value: gamma = 1 and some paths do not end.") from None
    return values


def _joint_policy(problem: TabularProblem, policy: Any) -> Array:
    policy = np.asarray(policy)
    S, J = problem.rewards.shape
    check(
        policy.shape == (S,) and bool(((policy >= 0) & (policy < J)).all()),
        "policy",
        policy.shape,
        f"[{S}] of 0..{J - 1}",
    )
    return policy.astype(int)
