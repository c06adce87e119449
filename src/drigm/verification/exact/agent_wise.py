"""The agent-wise set on tables: exact values, and for which teams greedy agents are the best against it.

One agent's action is replaced by its fault with chance rho, that of the agent whom it hurts most::

    W(s) = max_a [ (1 - rho) Q(s, a) + rho min_i Q(s, (fault_i, a_-i)) ],   Q(s, a) = r + gamma E[W(s')]

a monotone gamma-contraction. Where Q is monotone in every agent's own value, the maximum is at the agents' own greedy
actions (docs/mathematics.md); in the climbing game, which is not, it is elsewhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from drigm.verification.exact.problems import TabularProblem, make_problem

Array = np.ndarray
CLIMBING = np.array([[8.0, -12.0, -12.0], [-12.0, 0.0, 0.0], [-12.0, 0.0, 0.0]])  # the matrix game of QTRAN's paper
CLIMBING_RHO, CLIMBING_FAULT = 0.5, 1
TOLERANCE = 1e-9


class AgentWiseReport(NamedTuple):
    """How often greedy agents were the best team against a failing one, and what becomes of it without monotonicity."""

    draws: int
    violations: int  # among draws of monotone team values
    games: int  # random problems that value iteration and an enumeration of all policies solve
    error: float  # the largest difference between the two
    greedy: float  # of the climbing game: the value of its best joint action with one failing agent
    best: float  # of another one

    @property
    def holds(self) -> bool:
        """Whether it came out as the proof and the counterexample say."""
        return self.violations == 0 and self.error < TOLERANCE and self.greedy < self.best

    def __str__(self) -> str:
        return (
            f"Failing teammates: in {self.draws - self.violations} of {self.draws} monotone team values the agents' "
            f"own greedy actions are the team's best where its most critical agent may fail; in {self.games} random "
            f"problems the robust value is that of the best of all policies against every choice of who fails, within "
            f"{self.error:.0e}. Where the value is not "
            f"monotone they need not be: in the climbing game, rho {CLIMBING_RHO:g}, the greedy team is worth "
            f"{self.greedy:g} and another one {self.best:g}."
        )


def with_failures(q: Array, faults: Sequence[int], rho: float) -> Array:
    """Return ``(1 - rho) Q(a) + rho min_i Q(fault_i, a_-i)``, of the shape of ``q`` [A_1, ..., A_N]."""
    failed = [np.broadcast_to(np.take(q, [fault], axis=i), q.shape) for i, fault in enumerate(faults)]
    return (1.0 - rho) * q + rho * np.min(failed, axis=0)


def agent_wise_values(problem: TabularProblem, rho: float, faults: Sequence[int] | None = None) -> Array:
    """Return the exact robust Q [S, J] by value iteration.

    Args:
        problem: discounted.
        rho: the chance that the most critical agent's action is its fault.
        faults: every agent's; by default its action 0.
    """
    faults = [0] * len(problem.actions) if faults is None else faults
    values = np.zeros(len(problem.rewards))
    while True:
        q = problem.rewards + problem.gamma * problem.transitions @ np.where(problem.terminal, 0.0, values)
        q = np.where(problem.terminal[:, None], 0.0, q)
        tables = q.reshape(-1, *problem.actions)
        new = np.array([with_failures(table, faults, rho).max() for table in tables])
        if np.abs(new - values).max() < 1e-12:
            return q
        values = new


def best_policy_values(problem: TabularProblem, rho: float, faults: Sequence[int]) -> Array:
    """Return W [S] without value iteration: every policy is evaluated against every choice of the agent that fails.

    Each pair is one Markov chain, whose value is a linear system. Only for a few states and actions.

    Args:
        problem: discounted, without terminal states.
        rho: the chance that the chosen agent's action is its fault.
        faults: every agent's.
    """
    states, agents = np.arange(len(problem.rewards)), range(len(problem.actions))
    joint = np.stack(np.unravel_index(np.arange(problem.rewards.shape[1]), problem.actions), axis=-1)  # [J, N]
    best = np.full(len(states), -np.inf)
    for policy in itertools.product(range(len(joint)), repeat=len(states)):
        worst = np.full(len(states), np.inf)
        for critical in itertools.product(agents, repeat=len(states)):
            failed = joint[list(policy)]
            failed[states, list(critical)] = np.asarray(faults)[list(critical)]
            mix = ((1.0 - rho, np.array(policy)), (rho, np.ravel_multi_index(tuple(failed.T), problem.actions)))
            chain = sum(share * problem.transitions[states, action] for share, action in mix)
            paid = sum(share * problem.rewards[states, action] for share, action in mix)
            worst = np.minimum(worst, np.linalg.solve(np.eye(len(states)) - problem.gamma * chain, paid))
        best = np.maximum(best, worst)
    return best


def game_error(rng: np.random.Generator) -> float:
    """Return how far value iteration is from `best_policy_values` in a random problem: two agents, three states."""
    states, actions = 3, (2, 2)
    shape = (states, int(np.prod(actions)))
    transitions, rho = rng.dirichlet(np.ones(states), shape), float(rng.uniform())
    problem = make_problem(transitions, rng.normal(size=shape), actions, float(rng.uniform(0.5, 0.95)))
    faults = [int(rng.integers(size)) for size in actions]
    tables = agent_wise_values(problem, rho, faults).reshape(states, *actions)
    values = [with_failures(table, faults, rho).max() for table in tables]
    return float(np.abs(values - best_policy_values(problem, rho, faults)).max())


def check_agent_wise(draws: int = 200, games: int = 10, seed: int = 0) -> AgentWiseReport:
    """Return whether greedy agents are the best team in random monotone team values, and the counterexample.

    Args:
        draws: random monotone team values.
        games: random problems that are solved in two ways.
        seed: of both.
    """
    rng, violations = np.random.default_rng(seed), 0
    for _ in range(draws):
        sizes = tuple(rng.integers(2, 5, rng.integers(2, 4)).tolist())
        own = [rng.normal(size=size) for size in sizes]
        faults, rho = [int(rng.integers(size)) for size in sizes], float(rng.uniform())
        robust = with_failures(monotone_values(rng, own), faults, rho)
        greedy = tuple(int(q.argmax()) for q in own)
        violations += bool(robust[greedy] < robust.max() - TOLERANCE)
    robust = with_failures(CLIMBING, [CLIMBING_FAULT] * 2, CLIMBING_RHO)
    greedy = np.unravel_index(CLIMBING.argmax(), CLIMBING.shape)
    error = max(game_error(rng) for _ in range(games))
    return AgentWiseReport(draws, violations, games, error, float(robust[greedy]), float(robust.max()))


def monotone_values(rng: np.random.Generator, own: Sequence[Array]) -> Array:
    """Return Q [A_1, ..., A_N] of a random mixer whose weights on the agents' ``own`` values are not negative."""
    grid = np.stack(np.meshgrid(*own, indexing="ij"), axis=-1)  # [..., N]
    hidden = np.tanh(grid @ np.abs(rng.normal(size=(len(own), 8))) + rng.normal(size=8))
    return hidden @ np.abs(rng.normal(size=8))
