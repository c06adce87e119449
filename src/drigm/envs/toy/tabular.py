"""Tables as environments: small cooperative problems whose exact robust solution `drigm.verification.exact` computes.

``tabular:detour``, or any `Tables` of your own through `make_tabular`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.errors import check, choose
from drigm.core.types import Array, EnvSpec, PyTree, TimeStep
from drigm.envs.api import Environment


class Tables(NamedTuple):
    """A fully observed multi-agent MDP; joint action j of J = `np.ravel_multi_index` (actions)."""

    transitions: np.ndarray  # [S, J, S] probabilities
    rewards: np.ndarray  # [S, J]
    initial: np.ndarray  # [S] probabilities
    terminal: np.ndarray  # [S] bool: the episode ends on arrival
    actions: tuple[int, ...]  # per agent, all alike
    episode_limit: int  # steps after which an episode is truncated


class TabularParams(NamedTuple):
    """What may shift."""

    transitions: Array  # [S, J, S]
    rewards: Array  # [S, J]
    initial: Array  # [S]


class TabularState(NamedTuple):
    """What a table remembers between steps."""

    state: Array  # [] int32
    elapsed: Array  # [] int32


def make_tabular(name: str, tables: Tables) -> Environment:
    """Return ``tables`` as an environment in which every agent sees the state, one-hot.

    Raises:
        UserError: shapes do not fit, probabilities do not add up to 1, or agents differ in their number of actions.
    """
    _check(tables)
    states, terminal = len(tables.initial), jnp.asarray(tables.terminal)
    rows = np.asarray(tables.rewards)[~np.asarray(tables.terminal)]
    spec = EnvSpec(
        name=name,
        agents=tuple(f"agent_{i}" for i in range(len(tables.actions))),
        obs_size=states,
        state_size=states,
        num_actions=tables.actions[0],
        episode_limit=tables.episode_limit,
        obs_offset=np.zeros((len(tables.actions), states), np.float32),
        obs_scale=np.ones((len(tables.actions), states), np.float32),
        state_offset=np.zeros(states, np.float32),
        state_scale=np.ones(states, np.float32),
        reward_scale=1.0 / max(float(np.abs(rows).max()), 1e-6),
        scales_known=True,
        reward_range=(float(rows.min()), float(rows.max())),
        terminates=bool(np.any(tables.terminal)),
    )
    strides = jnp.asarray(np.cumprod([1, *tables.actions[:0:-1]])[::-1].copy(), jnp.int32)

    def show(state: TabularState, reward: Array) -> TimeStep:
        view = jax.nn.one_hot(state.state, states, dtype=jnp.float32)
        over = terminal[state.state]
        return TimeStep(
            obs=jnp.broadcast_to(view, (spec.num_agents, states)),
            state=view,
            avail_actions=jnp.ones((spec.num_agents, spec.num_actions), bool),
            reward=reward,
            terminated=over,
            truncated=~over & (state.elapsed >= spec.episode_limit),
        )

    def reset(key: Array, params: TabularParams) -> tuple[TabularState, TimeStep]:
        start = TabularState(_draw(key, params.initial), jnp.int32(0))
        return start, show(start, jnp.float32(0.0))

    def step(key: Array, state: TabularState, joint_action: Array, params: PyTree) -> tuple[TabularState, TimeStep]:
        joint = jnp.sum(joint_action * strides)
        after = TabularState(_draw(key, params.transitions[state.state, joint]), state.elapsed + 1)
        return after, show(after, params.rewards[state.state, joint])

    params = TabularParams(*(jnp.asarray(x, jnp.float32) for x in tables[:3]))
    return Environment(spec=spec, params=params, reset=reset, step=step, num_eval_episodes=256)


def tabular(name: str) -> Environment:
    """Return the problem of `PROBLEMS` called ``name``; `UserError` lists them if there is none."""
    return make_tabular(f"tabular:{name}", PROBLEMS[choose("env", name, tuple(PROBLEMS))]())


def detour() -> Tables:
    """Costs only. Agent 0 may quit at once for -2, or go on for -0.5 and pay -3 at the next step, whatever it does.

    Quitting is better: -2 to -2.9 for gamma 0.8. With the paper's fail value 0 nature's mass *rescues* whoever goes on:
    -0.5 + 0.8 (1 - rho) (-3) is above -2 for rho > 0.375. A fail value below all values says the contrary.
    """
    transitions, rewards = np.zeros((3, 4, 3)), np.zeros((3, 4))
    quits = np.array([0, 0, 1, 1], bool)  # joint actions (0, 0), (0, 1), (1, 0), (1, 1)
    transitions[0, quits, 2] = transitions[0, ~quits, 1] = 1.0
    transitions[1, :, 2] = transitions[2, :, 2] = 1.0
    rewards[0], rewards[1] = np.where(quits, -2.0, -0.5), -3.0
    return Tables(transitions, rewards, np.array([1.0, 0, 0]), np.array([False, False, True]), (2, 2), 4)


PROBLEMS = {"detour": detour}


def _draw(key: Array, probabilities: Array) -> Array:
    return jax.random.categorical(key, jnp.log(probabilities)).astype(jnp.int32)


def _check(tables: Tables) -> None:
    states, joint = len(tables.initial), int(np.prod(tables.actions))
    shape = (states, joint, states)
    check(
        np.shape(tables.transitions) == shape, "transitions", np.shape(tables.transitions), f"give [S, J, S] = {shape}"
    )
    check(np.shape(tables.rewards) == shape[:2], "rewards", np.shape(tables.rewards), f"give [S, J] = {shape[:2]}")
    check(np.shape(tables.terminal) == (states,), "terminal", np.shape(tables.terminal), f"give [S] = ({states},)")
    for field in ("transitions", "initial"):
        total = np.sum(getattr(tables, field), axis=-1)
        fine = np.allclose(total, 1.0) and np.min(getattr(tables, field)) >= 0.0
        check(bool(fine), field, "an entry below 0 or a sum other than 1", "give probabilities")
    check(len(set(tables.actions)) == 1, "actions", tables.actions, "give every agent the same number")
