"""Probe environments: problems so small that every value is known by hand.

=================  =====================================================================================
``discount``       two steps, reward 1 at the end, terminated: V = gamma at the start, 1 after it
``endless``        reward 1 each step, truncated after 5: V = 1 / (1 - gamma), because truncation bootstraps
``ends``           reward 1 each step, terminated after 5: V = sum of gamma^k over the steps left
``recall``         a cue is shown at the first step only; the last step pays 1 to agents that both name it
``coordinate``     one step; reward 1 if both agents choose what the shared cue asks for, else 0
``matrix``         one step; the matrix game [[8,-12,-12],[-12,0,0],[-12,0,0]]
``levels``         one step; actions are levels in [-1, 1], reward -|level - cue| summed over agents
``gamble``         risky (left picks 1) leads to a state worth 1, or with probability 1/4 to one worth -1; safe leads to
                   one worth 0.25. By the mean risky wins, 0.5 to 0.25. Total variation with rho = 0.6 and fail value
                   m takes nature's mass from the best state: safe wins, 0.1 + 0.6 m to -0.1 + 0.6 m. The suite
                   ``risk`` makes -1 likelier
=================  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.errors import choose
from drigm.core.types import Array, EnvSpec, PyTree, TimeStep
from drigm.envs.api import Environment, Shift

NOMINAL_RISK = 0.25
RISKS = (0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85)  # 0.85: all that total variation of radius 0.6 can do
AGENTS = ("left", "right")
MATRIX = np.array([[8.0, -12.0, -12.0], [-12.0, 0.0, 0.0], [-12.0, 0.0, 0.0]], np.float32)


class ProbeState(NamedTuple):
    """What a probe remembers between steps."""

    time: Array  # [] int32
    cue: Array  # [] float32, drawn at reset


class ProbeParams(NamedTuple):
    """What may shift."""

    risk: Array  # [] chance that the gamble is lost


class Rule(NamedTuple):
    """What makes one probe differ from another.

    ``cue(key) -> []``; ``reward(cue, time, action) -> []``; ``next_cue(key, cue, action, risk) -> []``. The cue is
    visible in the first ``shown`` steps.
    """

    length: int
    terminates: bool
    num_actions: int
    cue: Callable[[Array], Array]
    reward: Callable[[Array, Array, Array], Array]
    reward_range: tuple[float, float]
    ordered: bool = False
    shows_time: bool = True
    next_cue: Callable[[Array, Array, Array, Array], Array] = lambda key, cue, action, risk: cue
    shown: int = 1


def _no_cue(key: Array) -> Array:
    del key
    return jnp.float32(0.0)


def _coin(key: Array) -> Array:
    return jax.random.bernoulli(key).astype(jnp.float32)


def _uniform(key: Array) -> Array:
    return jax.random.uniform(key, (), jnp.float32, -0.8, 0.8)


def _one(cue: Array, time: Array, action: Array) -> Array:
    del cue, time, action
    return jnp.float32(1.0)


def _one_at_the_end(cue: Array, time: Array, action: Array) -> Array:
    del cue, action
    return (time == 1).astype(jnp.float32)


def _named(last: int) -> Callable[[Array, Array, Array], Array]:
    def reward(cue: Array, time: Array, action: Array) -> Array:
        return ((time == last) & jnp.all(action == cue.astype(jnp.int32))).astype(jnp.float32)

    return reward


def _matrix(cue: Array, time: Array, action: Array) -> Array:
    del cue, time
    return jnp.asarray(MATRIX)[action[0], action[1]]


def _distance(cue: Array, time: Array, action: Array) -> Array:
    del time
    return -jnp.sum(jnp.abs(jnp.asarray(LEVELS)[action] - cue))


def _prize(cue: Array, time: Array, action: Array) -> Array:
    del action
    return jnp.where(time == 1, cue, 0.0)


def _gamble(key: Array, cue: Array, action: Array, risk: Array) -> Array:
    del cue
    risky = jnp.where(jax.random.bernoulli(key, risk), -1.0, 1.0)
    return jnp.where(action[0] == 1, risky, 0.25)


LEVELS = np.linspace(-1.0, 1.0, 21, dtype=np.float32)
RULES: dict[str, Rule] = {
    "discount": Rule(2, True, 2, _no_cue, _one_at_the_end, (0.0, 1.0)),
    # The time is hidden: the value of a last observation is never trained, it must be known from the others.
    "endless": Rule(5, False, 2, _no_cue, _one, (0.0, 1.0), shows_time=False),
    "ends": Rule(5, True, 2, _no_cue, _one, (0.0, 1.0)),
    "recall": Rule(4, True, 2, _coin, _named(3), (0.0, 1.0)),
    "coordinate": Rule(1, True, 2, _coin, _named(0), (0.0, 1.0)),
    "matrix": Rule(1, True, 3, _no_cue, _matrix, (-12.0, 8.0)),
    "levels": Rule(1, True, 21, _uniform, _distance, (-4.0, 0.0), ordered=True),
    "gamble": Rule(2, True, 2, _no_cue, _prize, (-1.0, 1.0), next_cue=_gamble, shown=2),
}


def probe(name: str) -> Environment:
    """Return the probe called ``name``; `UserError` lists them if there is none."""
    rule = RULES[choose("env", name, tuple(RULES))]
    size = 2
    spec = EnvSpec(
        name=f"probe:{name}",
        agents=AGENTS,
        obs_size=size,
        state_size=size,
        num_actions=rule.num_actions,
        episode_limit=rule.length,
        obs_offset=np.zeros((len(AGENTS), size), np.float32),
        obs_scale=np.ones((len(AGENTS), size), np.float32),
        state_offset=np.zeros(size, np.float32),
        state_scale=np.ones(size, np.float32),
        reward_scale=1.0,
        scales_known=True,
        reward_range=rule.reward_range,
        action_values=LEVELS if rule.ordered else None,
        terminates=rule.terminates,
        idle_action=len(LEVELS) // 2 if rule.ordered else 0,
    )

    def show(state: ProbeState, reward: Array) -> TimeStep:
        cue = jnp.where(state.time < rule.shown, state.cue, 0.0)
        view = jnp.stack([cue, float(rule.shows_time) * jnp.float32(state.time) / rule.length])
        over = state.time >= rule.length
        return TimeStep(
            obs=jnp.broadcast_to(view, (len(AGENTS), size)),
            state=view,
            avail_actions=jnp.ones((len(AGENTS), rule.num_actions), bool),
            reward=reward,
            terminated=over & rule.terminates,
            truncated=over & (not rule.terminates),
        )

    def reset(key: Array, params: PyTree) -> tuple[ProbeState, TimeStep]:
        del params
        state = ProbeState(jnp.int32(0), rule.cue(key))
        return state, show(state, jnp.float32(0.0))

    def step(key: Array, state: ProbeState, joint_action: Array, params: ProbeParams) -> tuple[ProbeState, TimeStep]:
        reward = rule.reward(state.cue, state.time, joint_action)
        cue = jnp.where(state.time == 0, rule.next_cue(key, state.cue, joint_action, params.risk), state.cue)
        state = ProbeState(state.time + 1, cue)
        return state, show(state, reward)

    shifts = {"risk": _risks} if name == "gamble" else {}
    return Environment(
        spec=spec,
        params=ProbeParams(jnp.float32(NOMINAL_RISK)),
        reset=reset,
        step=step,
        num_eval_episodes=256,
        shifts=MappingProxyType(shifts),
    )


def _risks() -> list[Shift]:
    return [Shift(f"risk {risk:.2f}", ProbeParams(jnp.float32(risk))) for risk in RISKS]
