"""Two rooms, a heater in each, one thin wall between them: keep both at 21 degrees."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.types import EnvSpec, TimeStep
from drigm.envs.api import Environment, Parameter, Shift

LEVELS = np.linspace(-1.0, 1.0, 5, dtype=np.float32)  # off ... full power


class Params(NamedTuple):
    """What may shift, as arrays, so that worlds can be stacked."""

    outside: np.ndarray  # [] degrees
    power: np.ndarray  # [] degrees an hour at full power


class State(NamedTuple):
    """What the rooms remember."""

    hour: jax.Array  # [] int32
    warmth: jax.Array  # [2] degrees


def rooms(hours="24", params=None):
    """Return the rooms for a day of so many ``hours``; ids are ``rooms:HOURS``."""
    limit = int(hours)
    params = Params(np.float32(5.0), np.float32(4.0)) if params is None else params

    def show(state, reward):
        over = state.hour >= limit
        return TimeStep(
            obs=jnp.stack([state.warmth, state.warmth[::-1]], axis=-1),  # [N, O]: its own room, the other one
            state=jnp.append(state.warmth, state.hour.astype(jnp.float32)),  # [S], for training only
            avail_actions=jnp.ones((2, len(LEVELS)), bool),
            reward=reward,
            terminated=jnp.bool_(False),  # the rooms have a future
            truncated=over,  # after the time limit: its value is bootstrapped
        )

    def reset(key, params):
        warmth = jax.random.uniform(key, (2,), jnp.float32, 15.0, 25.0)
        state = State(jnp.int32(0), warmth)
        return state, show(state, jnp.float32(0.0))

    def step(key, state, joint_action, params):
        heat = params.power * (jnp.asarray(LEVELS)[joint_action] + 1.0) / 2.0
        loss = 0.1 * (state.warmth - params.outside) + 0.2 * (state.warmth - state.warmth[::-1])
        state = State(state.hour + 1, jnp.clip(state.warmth + heat - loss, -20.0, 40.0))
        return state, show(state, -jnp.sum(jnp.abs(state.warmth - 21.0)))

    spec = EnvSpec(
        name=f"rooms:{hours}",
        agents=("left", "right"),
        obs_size=2,
        state_size=3,
        num_actions=len(LEVELS),
        episode_limit=limit,
        obs_offset=np.full((2, 2), 20.0, np.float32),  # networks see (x - offset) / scale
        obs_scale=np.full((2, 2), 5.0, np.float32),
        state_offset=np.array([20.0, 20.0, limit / 2], np.float32),
        state_scale=np.array([5.0, 5.0, limit / 2], np.float32),
        reward_scale=0.1,
        reward_range=(-82.0, 0.0),  # of a step: bounds every value, so robust sets need it
        action_values=LEVELS,
    )
    return Environment(
        spec=spec,
        params=params,
        reset=reset,
        step=step,
        parameters={"cold": Parameter("degrees colder outside", values=(-10.0, 10.0), lowest=-30.0)},
        vary=lambda by: rooms(hours, params._replace(outside=params.outside - np.asarray(by["cold"], np.float32))),
        shifts={
            "winter": lambda: [Shift(f"{t:g} C", params._replace(outside=np.float32(t))) for t in (5.0, 0.0, -10.0)]
        },
    )
