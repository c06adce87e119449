"""Small cooperative problems as tables: fully observed multi-agent MDPs and finite-horizon Dec-POMDPs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from drigm.core.errors import check

Array = np.ndarray


class TabularProblem(NamedTuple):
    """A cooperative problem with S joint states (or joint histories), J joint actions and N agents.

    Nature moves probability among continuing states, separately for each (state, joint action). It cannot touch the
    probability of a termination, as in the learner's target ``r + gamma (1 - terminated) bootstrap``.

    Attributes:
        transitions: nominal P0(s' | s, a) [S, J, S], rows sum to 1.
        rewards: r(s, a) [S, J].
        actions: number of actions of each agent; joint action = ``np.ravel_multi_index(a, actions)``.
        gamma: discount in [0, 1]; 1 only where every path ends.
        terminal: bool [S]; reaching one ends the episode with value 0, whatever its row says.
        local: index of agent i's local history in joint state s [N, S]; fully observed: every row is 0..S-1.
        initial: distribution of the first state [S].
        horizon: steps after which an episode is truncated (for learners; the values here do not use it), or None.
        distance: between states [S, S], for wasserstein, or None.
        fail_value: m, the value of a fail state that nature may also use (contamination and tv), or None.
        allowed: bool [S, J, S], the continuing states nature may move mass to, or None for all.
    """

    transitions: Array
    rewards: Array
    actions: tuple[int, ...]
    gamma: float
    terminal: Array
    local: Array
    initial: Array
    horizon: int | None = None
    distance: Array | None = None
    fail_value: float | None = None
    allowed: Array | None = None


def make_problem(
    transitions: Any, rewards: Any, actions: tuple[int, ...], gamma: float, *, terminal: Any = None, **rest: Any
) -> TabularProblem:
    """Return a `TabularProblem` from array-likes: no terminal states, full observation, start in state 0 by default.

    Raises:
        UserError: if shapes disagree, a row is no distribution, or gamma is outside [0, 1].
    """
    P, r = np.asarray(transitions, float), np.asarray(rewards, float)
    S, J = len(P), int(np.prod(actions))
    check(P.shape == (S, J, S), "transitions", P.shape, f"[S, {J}, S] for actions {actions}")
    check(
        bool((P >= 0).all() and np.allclose(P.sum(-1), 1, atol=1e-9)), "transitions", "a row", "every one must sum to 1"
    )
    check(r.shape == (S, J), "rewards", r.shape, f"[{S}, {J}]")
    check(0 <= gamma <= 1, "gamma", gamma, "a number in [0, 1]")
    ends = np.zeros(S, bool) if terminal is None else np.asarray(terminal, bool)
    check(ends.shape == (S,), "terminal", ends.shape, f"[{S}]")
    rest.setdefault("local", np.tile(np.arange(S), (len(actions), 1)))
    rest.setdefault("initial", np.eye(S)[0])
    problem = TabularProblem(P, r, tuple(actions), float(gamma), ends, **rest)
    check(problem.local.shape == (len(actions), S), "local", problem.local.shape, f"[{len(actions)}, {S}]")
    check(problem.initial.shape == (S,), "initial", problem.initial.shape, f"[{S}]")
    return problem


def random_problem(
    rng: np.random.Generator,
    *,
    states: int = 4,
    actions: tuple[int, ...] = (2, 2),
    gamma: float = 0.8,
    local_histories: int | None = None,
    terminal_states: int = 0,
    fail_value: float | None = None,
) -> TabularProblem:
    """Return a problem with Dirichlet transitions, standard normal rewards and states at random places on a line.

    Args:
        rng: source of everything that is drawn.
        states: S, with the terminal ones.
        actions: number of actions of each agent.
        gamma: discount.
        local_histories: if given, each agent tells apart only this many groups of states, drawn at random.
        terminal_states: how many of the states end the episode (the last ones).
        fail_value: see `TabularProblem`.
    """
    J, N = int(np.prod(actions)), len(actions)
    place = np.sort(rng.uniform(0, states, states))
    extra: dict[str, Any] = {} if local_histories is None else {"local": rng.integers(0, local_histories, (N, states))}
    return make_problem(
        rng.dirichlet(np.full(states, 0.7), (states, J)),
        rng.normal(size=(states, J)),
        actions,
        gamma,
        terminal=np.arange(states) >= states - terminal_states,
        distance=np.abs(place[:, None] - place),
        fail_value=fail_value,
        **extra,
    )


def gamble_problem() -> TabularProblem:
    """Return a 2-agent problem to learn on: its robust joint policy differs from its nominal one, by wide margins.

    In the *valley* (state 0) an agent may stay (action 0: reward 1) or climb (action 1: no reward, and 0.14 more chance
    that the team is on the *peak* next). On the peak (state 1) the team gets 6; there an agent may idle (action 0: 0.3
    more chance to fall back to the valley) or hold on (action 1: costs 0.5). gamma = 0.8, m = 0, no terminal states.

    Nominal: climb, because the peak is worth 25. With tv or contamination of radius 0.3: stay, and still hold on. The
    robust Q of both sets, and the nominal Q, is additive over the agents (VDN) exactly. An agent that takes its other
    action loses at least 0.32 (nominal), 0.46 (contamination) and 1 (tv).
    """
    climbers, idlers = np.array([0, 1, 1, 2]), np.array([2, 1, 1, 0])
    up, down = 0.14 * climbers, 0.3 * idlers
    P = np.stack([np.stack([1 - up, up], -1), np.stack([down, 1 - down], -1)])
    rewards = np.stack([2.0 - climbers, 6.0 - 0.5 * (2 - idlers)])
    return make_problem(P, rewards, (2, 2), 0.8, initial=np.array([0.5, 0.5]), horizon=20, fail_value=0.0)
