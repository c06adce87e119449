"""Simple spread in JAX, JaxMARL's: the twin of the environment that mpe2 offers through PettingZoo.

Both are cut after 25 steps, pay the team the sum of its agents' rewards, and show no global state: all observations
together stand in for it. Both take ``?local_ratio=0``: then every agent is paid the team's reward and nothing else.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import jax.numpy as jnp
import numpy as np

from drigm.core.errors import check, choose
from drigm.core.types import Array, EnvSpec, PyTree, TimeStep
from drigm.envs.api import Environment
from drigm.envs.foreign import permissive, strong
from drigm.envs.jaxmarl.imports import load

MAX_CYCLES = 25
NAMES = {"simple_spread_v3": ("simple_spread", "SimpleSpreadMPE")}  # JaxMARL's module and class
LOCAL_RATIO = 0.5  # the share of an agent's own collisions in its reward


def mpe(name: str) -> Environment:
    """Return the particle environment ``name``; `UserError` if JaxMARL is missing, a name unknown or a value wrong."""
    kind, _, query = name.partition("?")
    module, name_there = NAMES[choose("env", kind, tuple(NAMES))]
    world: Any = getattr(load(f"mpe.{module}"), name_there)
    local_ratio = _local_ratio(query)
    with permissive():
        # JaxMARL compares the step before it counts it.
        game = world(max_steps=MAX_CYCLES - 1, local_ratio=local_ratio)
        agents = tuple(game.agents)
        obs_size = game.observation_spaces[agents[0]].shape[0]
        num_actions = game.action_spaces[agents[0]].n
    n, lone = len(agents), np.ones(obs_size, np.float32)
    spec = EnvSpec(
        name=f"mpe:{name}",
        agents=agents,
        obs_size=obs_size,
        state_size=n * obs_size,
        num_actions=num_actions,
        episode_limit=MAX_CYCLES,
        obs_offset=np.zeros((n, obs_size), np.float32),
        obs_scale=np.ones((n, obs_size), np.float32),
        state_offset=np.zeros(n * obs_size, np.float32),
        state_scale=np.tile(lone, n),
        reward_scale=1.0,
        reward_range=(-np.inf, 0.0),
    )

    def show(state: PyTree, obs: dict[str, Array], reward: Array) -> TimeStep:
        seen = jnp.stack([obs[agent] for agent in agents])
        return TimeStep(
            obs=seen,
            state=seen.reshape(-1),
            avail_actions=jnp.ones((n, num_actions), bool),
            reward=reward.astype(jnp.float32),
            terminated=jnp.zeros((), bool),
            truncated=state.done,
        )

    def reset(key: Array, params: PyTree) -> tuple[PyTree, TimeStep]:
        del params
        with permissive():
            obs, state = game.reset(key)
            state = strong(state)
            state = state.replace(done=jnp.zeros((), bool))
            return state, show(state, obs, jnp.float32(0.0))

    def step(key: Array, state: PyTree, joint_action: Array, params: PyTree) -> tuple[PyTree, TimeStep]:
        del params
        with permissive():
            actions = dict(zip(agents, joint_action, strict=True))
            obs, state, rewards, dones, _ = game.step_env(key, state, actions)
            state = strong(state).replace(done=jnp.asarray(dones["__all__"], bool).reshape(()))
            return state, show(state, obs, jnp.sum(jnp.stack([rewards[agent] for agent in agents])))

    return Environment(spec=spec, params=(), reset=reset, step=step, num_eval_episodes=512)


def _local_ratio(query: str) -> float:
    """Return what ``local_ratio=...`` says, the only option there is."""
    value = LOCAL_RATIO
    for option, text in parse_qsl(query, keep_blank_values=True):
        check(option == "local_ratio", "env option", option, "the only one is local_ratio")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        check(0.0 <= value <= 1.0, "local_ratio", text, "a number from 0 to 1")
    return value
