"""The theorem on random problems: under the one worst model of the team, the agents' own greedy actions are right.

A problem whose robust value is representable is built backwards. Draw Q of the wanted form and a nominal model P0, then
set ``r(s, a) = Q(s, a) - gamma inf_P E_P[max_a' Q(s', a')]``. Everything after that forgets the drawn Q: robust value
iteration has to find it again, and the check uses only what the solver returns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from drigm.core.errors import check
from drigm.verification.exact.drigm import KINDS, at_state, check_drigm, decompose, sum_values
from drigm.verification.exact.problems import Array, TabularProblem, random_problem
from drigm.verification.exact.solve import backup, model_values, robust_values, state_values, worst_model
from drigm.verification.exact.worst_cases import CAN_FAIL, WORST_CASE

SHAPES = ((2, 2), (2, 3), (3, 3), (4, 3), (2, 2, 2), (3, 2, 3))
GAMMAS = (0.5, 0.8, 0.95)
RADII = {"nominal": (0.0,), "wasserstein": (0.1, 0.5, 1.0), "chi2": (0.05, 0.5, 2.0), "kl": (0.02, 0.2, 1.0)}
TOLERANCE = 1e-7


class Outcome(NamedTuple):
    """One problem.

    Attributes:
        recovered: robust value iteration found the drawn value.
        same_value: the worst model's own optimal value is the robust value.
        represented: the value under the worst model has the form ``kind``.
        aligned: in every state, every tuple of own greedy actions is robust-optimal.
        private_fails: a state's greedy action of privately robust shares is not robust-optimal; None where the shares
            are not defined (QMIX).
    """

    recovered: bool
    same_value: bool
    represented: bool
    aligned: bool
    private_fails: bool | None

    @property
    def violates(self) -> bool:
        """Whether anything that the theorem promises is missing."""
        return not (self.recovered and self.same_value and self.represented and self.aligned)


class TheoremReport(NamedTuple):
    """What `check_theorem` counted.

    Attributes:
        problems: how many were solved.
        violations: of how many the theorem failed.
        private_problems: on how many privately robust shares are defined (VDN and QTRAN).
        private_failures: on how many of those they pick a joint action that is not robust-optimal.
        by_kind: {kind: {"problems", "violations", "private_problems", "private_failures"}}.
        by_set: the same by uncertainty set.
    """

    problems: int
    violations: int
    private_problems: int
    private_failures: int
    by_kind: dict[str, dict[str, int]]
    by_set: dict[str, dict[str, int]]

    def __str__(self) -> str:
        """Say the counts in a few lines."""
        lines = [
            f"Theorem: {self.problems} random problems, {self.violations} violations under the shared worst model.",
            f"Private worst cases pick a joint action that is not robust-optimal in {self.private_failures} of "
            f"{self.private_problems} (VDN and QTRAN).",
        ]
        for name, c in (*self.by_kind.items(), *self.by_set.items()):
            private = f"; private {c['private_failures']} of {c['private_problems']}" if c["private_problems"] else ""
            lines.append(f"  {name:13s} {c['problems']:5d} problems, {c['violations']} violations{private}")
        return "\n".join(lines)


def draw_value(rng: np.random.Generator, kind: str, actions: tuple[int, ...], local: Array) -> Array:
    """Return a random Q [S, J] of the form ``kind`` over the local histories [N, S].

    * vdn: ``sum_i q_i(h_i, a_i)``
    * qmix: ``w_s . elu(W_s q + b_s) + c_s`` with W_s, w_s > 0, QMIX's mixer
    * qtran: ``sum_i q_i - slack_s(a)``, slack >= 0, and 0 where every agent is greedy
    """
    q = [rng.normal(0, 2, (int(local[i].max()) + 1, A)) for i, A in enumerate(actions)]
    S, N = local.shape[1], len(actions)
    total = sum_values(q, local)
    if kind == "vdn":
        return total.reshape(S, -1)
    if kind == "qmix":
        W, w = rng.uniform(0.1, 1.5, (S, 4, N)), rng.uniform(0.1, 1.5, (S, 4))
        b, c = rng.normal(size=(S, 4)), rng.normal(size=S)
        own = np.unravel_index(np.arange(int(np.prod(actions))), actions)
        each = np.stack([q[i][local[i]][:, own[i]] for i in range(N)], -1)  # [S, J, N]
        hidden = np.einsum("skn,sjn->sjk", W, each) + b[:, None]
        return np.einsum("sk,sjk->sj", w, np.where(hidden > 0, hidden, np.expm1(np.minimum(hidden, 0)))) + c[:, None]
    flat = total.reshape(S, -1)
    slack = rng.exponential(3.0, flat.shape) * (rng.random(flat.shape) < 0.7)
    return flat - np.where(flat == flat.max(1, keepdims=True), 0.0, slack)


def draw_problem(rng: np.random.Generator, kind: str, uncertainty: str) -> tuple[TabularProblem, Array, float]:
    """Return a random problem, its robust value Q [S, J], which has the form ``kind``, and the radius.

    2 or 3 agents with 2 to 4 actions, 2 to 5 states; half of the problems are partially observed, some have a terminal
    state, and half of those for contamination and tv have a fail state.
    """
    actions, S = SHAPES[rng.integers(len(SHAPES))], int(rng.integers(2, 6))
    ends = int(rng.integers(2)) if S > 2 else 0
    rho = float(rng.choice(RADII.get(uncertainty, (0.05, 0.2, 0.5))))
    problem = random_problem(
        rng,
        states=S,
        actions=actions,
        gamma=float(rng.choice(GAMMAS)),
        local_histories=S - 1 if rng.random() < 0.5 else None,
        terminal_states=ends,
    )
    if ends:  # what an agent sees at the end is of no use: a history of its own keeps it out of the others' values
        last = problem.local.max() + 1
        problem = problem._replace(local=np.where(problem.terminal, last, problem.local))
    return (*plant(rng, problem, kind, uncertainty, rho, fail_state=rng.random() < 0.5), rho)


def plant(
    rng: np.random.Generator,
    problem: TabularProblem,
    kind: str,
    uncertainty: str,
    rho: Any,
    *,
    fail_state: bool = False,
) -> tuple[TabularProblem, Array]:
    """Return ``problem`` with rewards that make a random Q [S, J] of the form ``kind`` its robust value, and that Q.

    ``r(s, a) = Q(s, a) - gamma inf_P E_P[max_a' Q(s', a')]``. With ``fail_state``, contamination and tv get a fail
    state below every value.
    """
    Q = np.where(problem.terminal[:, None], 0.0, draw_value(rng, kind, problem.actions, problem.local))
    V = state_values(Q)
    if fail_state and uncertainty in CAN_FAIL:
        problem = problem._replace(fail_value=float(V.min() - rng.exponential()))
    future = backup(problem._replace(rewards=np.zeros(Q.shape)), worst_model(problem, uncertainty, rho, V), V)
    return problem._replace(rewards=Q - future), Q


def check_problem(problem: TabularProblem, kind: str, uncertainty: str, rho: Any, expected: Array) -> Outcome:
    """Return whether the theorem holds on one problem, by enumerating its joint actions.

    P_worst is the worst model at the robust value; the individual values are read off the optimal value under P_worst.
    """
    Q = robust_values(problem, uncertainty, rho, tolerance=1e-9)
    under_one = model_values(problem, worst_model(problem, uncertainty, rho, state_values(Q)))
    found = decompose(under_one, problem.actions, kind, problem.local)
    aligned = all(
        check_drigm(at_state(found.individual, problem.local, int(s)), Q[s], tolerance=TOLERANCE).holds
        for s in np.flatnonzero(~problem.terminal)
    )
    private = None
    if kind != "qmix":
        private = private_failure(problem, uncertainty, rho, found.individual, Q)
    return Outcome(_close(Q, expected), _close(under_one, Q), found.holds, aligned, private)


def private_failure(problem: TabularProblem, uncertainty: str, rho: Any, individual: Sequence[Array], Q: Array) -> bool:
    """Return whether agents that each meet a worst model of their own pick a joint action that is not robust-optimal.

    Their next value is ``sum_i inf_P E_P[max Q_i(h_i', .)]``, one infimum for each agent's share, in place of
    ``inf_P E_P[sum_i max Q_i(h_i', .)]``; the rest of the next value, V_s' (0 for VDN), and a fail value are shared
    equally. The joint action is the greedy one of reward plus that.
    """
    N = len(individual)
    shares = np.stack([q.max(1)[problem.local[i]] for i, q in enumerate(individual)])  # [N, S]
    shares = shares + (state_values(Q) - shares.sum(0)) / N
    alone = problem._replace(
        rewards=problem.rewards / N, fail_value=None if problem.fail_value is None else problem.fail_value / N
    )
    worst = (worst_model(alone, uncertainty, rho, share) for share in shares)
    private = sum(backup(alone, model, share) for model, share in zip(worst, shares, strict=True))
    chosen = np.take_along_axis(Q, np.argmax(private, -1)[:, None], -1)[:, 0]
    return bool(np.any((Q.max(-1) - chosen)[~problem.terminal] > TOLERANCE))


def check_theorem(
    problems: int = 1260,
    *,
    seed: int = 0,
    kinds: Sequence[str] = KINDS,
    uncertainties: Sequence[str] = tuple(WORST_CASE),
) -> TheoremReport:
    """Return how often DrIGM fails on random problems, spread evenly over kinds x sets.

    Args:
        problems: how many, at least one.
        seed: of the draws.
        kinds: which of `KINDS`.
        uncertainties: which of `WORST_CASE`.

    Raises:
        UserError: for no problems, or an unknown kind or set.
    """
    check(problems >= 1, "problems", problems, "at least 1")
    rng = np.random.default_rng(seed)
    by_kind: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    by_set: dict[str, Counter[str]] = {name: Counter() for name in uncertainties}
    pairs = [(kind, name) for kind in kinds for name in uncertainties]
    for n in range(problems):
        kind, name = pairs[n % len(pairs)]
        problem, expected, rho = draw_problem(rng, kind, name)
        outcome = check_problem(problem, kind, name, rho, expected)
        counted = {
            "problems": 1,
            "violations": int(outcome.violates),
            "private_problems": int(outcome.private_fails is not None),
            "private_failures": int(outcome.private_fails or 0),
        }
        by_kind[kind].update(counted)
        by_set[name].update(counted)
    total: Counter[str] = sum(by_kind.values(), Counter())
    return TheoremReport(
        total["problems"],
        total["violations"],
        total["private_problems"],
        total["private_failures"],
        {kind: dict(c) for kind, c in by_kind.items()},
        {name: dict(c) for name, c in by_set.items()},
    )


def _close(a: Array, b: Array) -> bool:
    return bool(np.abs(a - b).max() <= TOLERANCE * (1 + np.abs(b).max()))
