"""StarCraft-like battles: JaxMARL's SMAX (Rutherford et al. 2024) against its heuristic enemy.

The simulator is JaxMARL's own, as released; this file only tells apart what it merges. Its ``done`` holds a destroyed
team as well as the time limit: the first terminates (value 0 afterwards), the second truncates. A battle is won where
all enemies are dead and an ally is not. Dead agents keep only the action "stop", and `TimeStep.alive` says who lives.

What may shift is `SmaxParams`: health, speed, range and cooldown of every unit type.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from drigm.core.errors import UserError, choose
from drigm.core.types import Array, EnvSpec, PyTree, TimeStep
from drigm.envs.api import Environment, Parameter
from drigm.envs.foreign import permissive, strong
from drigm.envs.jaxmarl.imports import INSTALL, load

STOP = 4  # SMAX's action of doing nothing, the only one of the dead
EVAL_EPISODES = 512
REWARD_SCALE = 10.0  # returns lie in [0, 2]; values of order 10 train several times faster


class SmaxParams(NamedTuple):
    """What may shift, one value per unit type [6]: marine, marauder, stalker, zealot, zergling, hydralisk."""

    health: Array
    speed: Array
    range: Array
    cooldown: Array  # s between two shots


SCALED = {"unit_health": "health", "unit_speed": "speed", "unit_range": "range", "unit_cooldown": "cooldown"}
PARAMETERS = MappingProxyType(
    {
        "unit_health": Parameter("health of every unit, times 1 + strength"),
        "unit_speed": Parameter("speed of every unit, times 1 + strength"),
        "unit_range": Parameter("shooting range of every unit, times 1 + strength"),
        "unit_cooldown": Parameter("time between two shots of every unit, times 1 + strength"),
    }
)


def scenarios() -> list[str]:
    """Return the names of the installed JaxMARL's scenarios; `UserError` says how to install it.

    They are read from its source: importing it takes seconds.
    """
    found = importlib.util.find_spec("jaxmarl")
    if found is None or found.origin is None:
        raise UserError(f"env: smax needs JaxMARL: {INSTALL}.")
    source = Path(found.origin).parent / "environments" / "smax" / "smax_env.py"
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "MAP_NAME_TO_SCENARIO":
            assert isinstance(node.value, ast.Dict)
            return [
                key.value for key in node.value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
            ]
    return list(_smax()[1])


def smax(name: str) -> Environment:
    """Return the scenario ``name``, such as ``3s_vs_5z``, of the installed JaxMARL.

    Raises:
        UserError: JaxMARL is missing, or has no such scenario.
    """
    battle, known = _smax()
    choose("env", name, tuple(known))

    def game(params: SmaxParams) -> Any:
        return battle(
            scenario=known[name],
            unit_type_health=params.health,
            unit_type_velocities=params.speed,
            unit_type_attack_ranges=params.range,
            unit_type_weapon_cooldowns=params.cooldown,
        )

    with permissive():
        nominal = battle(scenario=known[name])
        spec = _spec(f"smax:{name}", nominal)

    def reset(key: Array, params: SmaxParams) -> tuple[PyTree, TimeStep]:
        with permissive():
            world = game(params)
            obs, state = world.reset(key)
            state = strong(state)
            return state, _time_step(world, spec, state, obs, jnp.float32(0.0))

    def step(key: Array, state: PyTree, joint_action: Array, params: SmaxParams) -> tuple[PyTree, TimeStep]:
        with permissive():
            world = game(params)
            actions = dict(zip(spec.agents, joint_action, strict=True))
            obs, state, rewards, _, _ = world.step_env(key, state, actions)
            state = strong(state)
            return state, _time_step(world, spec, state, obs, rewards[spec.agents[0]])

    env = Environment(
        spec=spec,
        params=_params_of(nominal),
        reset=reset,
        step=step,
        num_eval_episodes=EVAL_EPISODES,
        parameters=PARAMETERS,
    )
    return env._replace(vary=lambda strengths: env._replace(params=_scaled(env.params, strengths)))


def _params_of(world: Any) -> SmaxParams:
    tables = (
        world.unit_type_health,
        world.unit_type_velocities,
        world.unit_type_attack_ranges,
        world.unit_type_weapon_cooldowns,
    )
    return SmaxParams(*(jnp.asarray(x, jnp.float32) for x in tables))


def _scaled(params: SmaxParams, strengths: Mapping[str, float]) -> SmaxParams:
    factors = {SCALED[name]: 1.0 + strength for name, strength in strengths.items()}
    return params._replace(**{field: getattr(params, field) * jnp.float32(x) for field, x in factors.items()})


def _time_step(world: Any, spec: EnvSpec, state: PyTree, obs: Mapping[str, Array], reward: Array) -> TimeStep:
    avail = world.get_avail_actions(state)
    units, allies = state.state.unit_alive, world.num_allies
    beaten, lost = ~jnp.any(units[allies:]), ~jnp.any(units[:allies])
    terminated = beaten | lost
    return TimeStep(
        obs=jnp.stack([obs[agent] for agent in spec.agents]),
        state=obs["world_state"],
        avail_actions=jnp.stack([avail[agent] for agent in spec.agents]).astype(bool),
        reward=reward.astype(jnp.float32),
        terminated=terminated,
        truncated=state.state.done & ~terminated,
        alive=units[:allies],
        won=beaten & ~lost,
    )


def _spec(name: str, world: Any) -> EnvSpec:
    agents = tuple(world.agents)
    obs_size = world.obs_size
    # JaxMARL's world state: per unit health, position in map units, cooldown, type bits; then teams and types.
    features = len(world.own_features)
    unit = np.ones(features, np.float32)
    unit[1:3] = world.map_width, world.map_height
    units = world.num_allies + world.num_enemies
    types = np.full(units, max(1, world.unit_type_bits - 1), np.float32)
    state_scale = np.concatenate([np.tile(unit, units), np.ones(units, np.float32), types])
    return EnvSpec(
        name=name,
        agents=agents,
        obs_size=obs_size,
        state_size=len(state_scale),
        num_actions=world.num_ally_actions,
        episode_limit=world.max_steps + 1,  # JaxMARL compares the step before it counts it
        obs_offset=np.zeros((len(agents), obs_size), np.float32),
        obs_scale=np.ones((len(agents), obs_size), np.float32),
        state_offset=np.zeros(len(state_scale), np.float32),
        state_scale=state_scale,
        reward_scale=REWARD_SCALE,
        scales_known=True,
        reward_range=(0.0, 1.0 + world.won_battle_bonus),
        highest_return=1.0 + world.won_battle_bonus,  # all damage, and the bonus
        masks_actions=True,
        terminates=True,
        agents_die=True,
        has_wins=True,
        idle_action=STOP,
    )


def _smax() -> tuple[Any, Mapping[str, Any]]:
    """JaxMARL's class and its scenarios."""
    return load("smax").HeuristicEnemySMAX, load("smax.smax_env").MAP_NAME_TO_SCENARIO
