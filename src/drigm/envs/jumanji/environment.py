"""Teams in Jumanji's environments: ``jumanji:NAME?OPTION=VALUE&...``, with the names under which Jumanji has them.

The simulators are Jumanji's own, as released. What is ours:

* Jumanji has no time limit here, and drigm counts the steps: an end that Jumanji declares then **terminates** (all food
  eaten, robots that collide), the limit **truncates**. Jumanji's robot warehouse merges the two.
* The team's reward is the sum of its agents' where each is paid for itself.
* Chance comes from the key of the step, and the state holds none.
* No game shows a global state: all observations together stand in for it.

Action 0 does nothing in each of them: that is what an agent does that idles.
"""

from __future__ import annotations

import builtins
import importlib
from collections.abc import Mapping
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.errors import UserError, check, choose, shown
from drigm.core.types import Array, Described, EnvSpec, PyTree, TimeStep
from drigm.envs.api import Environment
from drigm.envs.foreign import permissive, strong
from drigm.envs.jumanji.games import GAMES, Option
from drigm.envs.query import parse_query

NEVER = 2**30  # steps after which Jumanji itself would end an episode
EVAL_EPISODES = 512
MAX_SIZE, MAX_STEPS = 100, 100_000
INSTALL = "pip install 'drigm[jumanji]'"


def jumanji(name: str) -> Environment:
    """Return the environment ``name``, such as ``LevelBasedForaging-v0?num_agents=3&num_food=3``.

    Raises:
        UserError: Jumanji is missing, has no such environment, or an option is unknown or out of range.
    """
    kind, _, query = name.partition("?")
    game = GAMES[choose("env", kind, tuple(GAMES))]
    options = _options(query, {**game.layout, **game.rules})
    simulator, limit, n = _simulator(name, kind, options), int(options["time_limit"]), int(options["num_agents"])

    def show(state: PyTree, observation: Any, reward: Array, over: Array) -> TimeStep:
        obs = game.view(observation, n).astype(jnp.float32)
        return TimeStep(
            obs=obs,
            state=obs.reshape(-1),
            avail_actions=observation.action_mask.astype(bool),
            reward=reward,
            terminated=over,
            truncated=(state.step_count >= limit) & ~over,
        )

    def without_key(state: PyTree) -> PyTree:
        return strong(state.replace(key=()))

    def reset(key: Array, params: PyTree) -> tuple[PyTree, TimeStep]:
        del params
        with permissive():
            state, said = simulator.reset(key)
            state = without_key(state)
            return state, show(state, said.observation, jnp.float32(0.0), jnp.bool_(False))

    def step(key: Array, state: PyTree, joint_action: Array, params: PyTree) -> tuple[PyTree, TimeStep]:
        del params
        with permissive():
            state, said = simulator.step(state.replace(key=key), joint_action)
            state = without_key(state)
            return state, show(state, said.observation, jnp.sum(said.reward).astype(jnp.float32), said.last())

    obs_size = jax.eval_shape(reset, jax.random.key(0), ())[1].obs.shape[1]
    scale = game.scale(options, obs_size)
    lowest, highest, highest_return = game.rewards(options)
    spec = EnvSpec(
        name=f"jumanji:{name}",
        agents=tuple(f"agent_{i}" for i in range(n)),
        obs_size=obs_size,
        state_size=n * obs_size,
        num_actions=len(game.actions),
        episode_limit=limit,
        obs_offset=np.zeros((n, obs_size), np.float32),
        obs_scale=np.tile(scale, (n, 1)),
        state_offset=np.zeros(n * obs_size, np.float32),
        state_scale=np.tile(scale, n),
        reward_scale=game.reward_scale,
        reward_range=(lowest, highest),
        highest_return=highest_return,
        masks_actions=True,
        terminates=True,
        scales_known=True,
        idle_action=0,
        described=Described(actions=game.actions),
    )
    return Environment(spec=spec, params=(), reset=reset, step=step, num_eval_episodes=EVAL_EPISODES)


def option_names() -> dict[str, list[str]]:
    """Return the options of every environment, each with its usual value."""
    return {
        name: [f"{option}={str(value).lower()}" for option, value in {**game.layout, **game.rules}.items()]
        for name, game in GAMES.items()
    }


def _simulator(name: str, kind: str, options: Mapping[str, Option]) -> Any:
    """Return Jumanji's environment ``kind`` without a time limit."""
    game = GAMES[kind]
    module, _, generator = game.generator.partition(":")
    rules = {option: options[option] for option in game.rules} | {"time_limit": NEVER}
    library = _imported("jumanji")
    try:
        draw = getattr(_imported(f"jumanji.environments.routing.{module}"), generator)
        with permissive():
            made = library.make(kind, generator=draw(**{option: options[option] for option in game.layout}), **rules)
    except (AssertionError, TypeError, ValueError) as error:
        raise UserError(f"env: {shown(f'jumanji:{name}')} is not allowed; Jumanji says: {error}") from error
    if kind == "RobotWarehouse-v0":  # Jumanji itself would fail at the first step
        message = "give fewer than the warehouse has shelves"
        check(int(made.not_in_queue_size) > 0, "request_queue_size", options["request_queue_size"], message)
    return made


def _imported(module: str) -> Any:
    """Return ``module``; `UserError` says how to install it."""
    try:
        # In a notebook its import would choose another backend for everybody's figures.
        with mock.patch.object(builtins, "__IPYTHON__", False, create=True), permissive():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"env: this one needs Jumanji, and {error.name} is missing: {INSTALL}.") from None


def _options(query: str, usual: Mapping[str, Option]) -> dict[str, Option]:
    """Return the options ``OPTION=VALUE&...`` over the ``usual`` ones; who says nothing about sight sees everything."""
    texts = parse_query("env option", query, usual)
    given = {option: _value(option, text, usual[option]) for option, text in texts.items()}
    options = {**usual, **given}
    if "fov" in options and "fov" not in given:
        options["fov"] = options["grid_size"]
    return options


def _value(option: str, text: str, usual: Option) -> Option:
    if isinstance(usual, bool):
        return choose(option, text, ("true", "false")) == "true"
    try:
        value = type(usual)(text)
    except ValueError:
        value = -1
    whole, most = isinstance(usual, int), MAX_STEPS if option == "time_limit" else MAX_SIZE
    ends = f"give a whole number from 1 to {most:,}" if whole else f"give a number from 0 to {most:,}"
    check(int(whole) <= value <= most, option, text, ends)
    return value
