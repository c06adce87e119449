"""Why not make each agent robust alone: a frozen problem on which that picks the wrong joint action.

One decision, two agents. Each may go *toward* a market or stay *away*. The team gets there with probability

    P(market | a_1, a_2) = 1.0, 0.8, 0.2, 0.0   for (toward, toward), (toward, away), (away, toward), (away, away)

and is paid at once r_1 + r_2: agent 1 gets 3 for staying away, agent 2 gets 1 for going. The market is worth 20 or
nothing, half and half. How likely, nobody knows: the uncertainty set is total variation of radius 2/5 at the market
(and 0 elsewhere), so the market is worth x between 2 and 18. It is rectangular in (state, joint action).

Under EVERY model of the set the decision's team value is additive, Q(a) = Q_1(a_1) + Q_2(a_2), so IGM holds in each.
With the part that belongs to neither agent shared equally (the least-squares VDN of minimum norm), agent 1's own value
of staying away FALLS with x, and that of going RISES with x. So inf_P Q_1 has agent 1 meet the model x = 18 for one
action and x = 2 for the other, two models that are never true together, and it goes. The team's worst model is x = 2
whatever it does; under that one model agent 1 stays away, which is the robust optimum.

Individual values that satisfy IGM are not unique, and the infimum depends on which are taken: an agent's best value
with the others' help, max over a_-i of Q^P, would not be fooled in a rectangular set. Values under one shared model
choose the same for every additive split, because another split adds a constant.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from drigm.verification.exact.drigm import check_drigm, decompose
from drigm.verification.exact.problems import Array, TabularProblem, make_problem
from drigm.verification.exact.solve import Model, model_values, nominal_model, robust_values, state_values, worst_model
from drigm.verification.exact.worst_cases import worst_case

START, MARKET, PAID, NOTHING, END = range(5)
TOWARD, AWAY = 0, 1
ACTION_NAMES = ("toward", "away")
RADIUS = 0.4


class Counterexample(NamedTuple):
    """What `solve_counterexample` found.

    Attributes:
        problem: the problem; the decision is in state 0.
        rho: the TV radius [S, J].
        robust: robust team value of each joint action [4].
        models: x, the market's value, of the corners of the set (lowest, highest).
        under_models: for each corner, team value [4] and individual values [2, 2].
        alone: ``inf_P Q_i^P`` [2, 2], each agent and action with its own infimum.
        shared: Q_i under the one worst model of the team's robust-greedy action [2, 2].
        alone_action, shared_action: the joint actions that these pick, as (a_1, a_2).
        alone_value, shared_value: the robust team value of those.
    """

    problem: TabularProblem
    rho: Array
    robust: Array
    models: tuple[float, float]
    under_models: tuple[tuple[Array, Array], ...]
    alone: Array
    shared: Array
    alone_action: tuple[int, ...]
    shared_action: tuple[int, ...]
    alone_value: float
    shared_value: float

    def summary(self) -> dict[str, object]:
        """Return the numbers as plain types, for JSON."""
        return {
            "team_robust_values": self.robust.tolist(),
            "individually_robust": {
                "values": self.alone.tolist(),
                "action": list(self.alone_action),
                "robust_team_value": self.alone_value,
            },
            "shared_worst_model": {
                "values": self.shared.tolist(),
                "action": list(self.shared_action),
                "robust_team_value": self.shared_value,
            },
            "shows_it": fooled(self),
        }

    def __str__(self) -> str:
        """Say the tables and both choices in a few lines."""
        lines = [
            f"Counterexample: one decision, 2 agents; the market is worth {self.models[0]:g} to {self.models[1]:g}."
        ]
        rows = [("inf over P of Q_i^P, each agent alone", self.alone), ("Q_i under the one P_worst", self.shared)]
        for title, table in rows:
            cells = "; ".join(
                f"agent {i + 1}: " + ", ".join(f"{n} {x:.2f}" for n, x in zip(ACTION_NAMES, q, strict=True))
                for i, q in enumerate(table)
            )
            lines.append(f"  {title:38s} {cells}")
        chosen = (
            ("individually robust agents pick", self.alone_action, self.alone_value),
            ("agents under the shared P_worst pick", self.shared_action, self.shared_value),
        )
        for who, action, value in chosen:
            pair = ", ".join(ACTION_NAMES[a] for a in action)
            lines.append(f"  {who:38s} ({pair}): robust team value {value:.2f}")
        lines.append(f"  {'the best robust team value is':38s} {self.robust.max():.2f}")
        return "\n".join(lines)


def counterexample_problem() -> tuple[TabularProblem, Array]:
    """Return the problem of this module's docstring and its TV radius [S, J]."""
    P = np.zeros((5, 4, 5))
    P[START, :, MARKET] = [1.0, 0.8, 0.2, 0.0]
    P[START, :, END] = 1 - P[START, :, MARKET]
    P[MARKET, :, [PAID, NOTHING]] = 0.5
    P[[PAID, NOTHING, END], :, END] = 1
    rewards = np.zeros((5, 4))
    rewards[START] = [0 + 1, 0 + 0, 3 + 1, 3 + 0]  # agent 1: 3 for away; agent 2: 1 for toward
    rewards[PAID] = 20
    allowed = np.zeros((5, 4, 5), bool)
    allowed[START, :, MARKET] = allowed[MARKET, :, PAID] = allowed[MARKET, :, NOTHING] = True
    rho = np.zeros((5, 4))
    rho[MARKET] = RADIUS
    problem = make_problem(P, rewards, (2, 2), 1.0, terminal=np.arange(5) == END, horizon=3, allowed=allowed)
    return problem, rho


def solve_counterexample() -> Counterexample:
    """Return both choices on the frozen problem, with the tables they come from (DrIGM, section on naive robustness).

    Each Q_i^P is linear in x, so that its infimum over the set is at one of two corners: nature against the team, and
    nature for it.
    """
    problem, rho = counterexample_problem()
    Q = robust_values(problem, "tv", rho)
    against = worst_model(problem, "tv", rho, state_values(Q))
    corners = (against, _best_model(problem, rho))
    teams = [model_values(problem, model) for model in corners]
    tables = [np.stack(decompose(team[START], problem.actions, "vdn").individual)[:, 0] for team in teams]
    alone, shared = np.minimum(*tables), tables[0]
    alone_action, shared_action = (tuple(int(a) for a in table.argmax(1)) for table in (alone, shared))
    return Counterexample(
        problem,
        rho,
        Q[START],
        (float(teams[0][MARKET, 0]), float(teams[1][MARKET, 0])),
        tuple((team[START], table) for team, table in zip(teams, tables, strict=True)),
        alone,
        shared,
        alone_action,
        shared_action,
        *(float(Q[START][np.ravel_multi_index(a, problem.actions)]) for a in (alone_action, shared_action)),
    )


def fooled(found: Counterexample) -> bool:
    """Return whether the example shows what it should: the agents alone break DrIGM, the shared model keeps it."""
    alone = check_drigm(list(found.alone), found.robust)
    shared = check_drigm(list(found.shared), found.robust)
    return not alone.holds and shared.holds


def _best_model(problem: TabularProblem, rho: Array) -> Model:
    """Return the model of the set that is best for the team: the market pays as often as the radius allows."""
    nominal = nominal_model(problem)
    transitions = nominal.transitions.copy()
    values = model_values(problem, nominal).max(1)[[PAID, NOTHING]]
    for a in range(problem.rewards.shape[1]):
        kindest = worst_case("tv", -values, transitions[MARKET, a, [PAID, NOTHING]], rho[MARKET, a])
        transitions[MARKET, a, [PAID, NOTHING]] = kindest.q
    return Model(transitions, nominal.fail_mass)
