"""How far the simple model and EnergyPlus are apart: the same actions in both, step responses, the heat they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents.rollout import episode
from drigm.core.types import Array, jit
from drigm.envs.api import Environment, Shift
from drigm.envs.building.simulator import BuildingState
from drigm.envs.shifts import shift_suite
from drigm.evaluation.controllers import TITLES, controller
from drigm.evaluation.players import fixed
from drigm.evaluation.tuning import LONGEST, simc, step_responses
from drigm.experiments.reproduce.transfer.measures import Days, play_recorded
from drigm.storage.results import load_result, store_result

DAYS = 5  # of the protocol's
AFTER = {"5 min": 1, "1 h": 12, "6 h": 72, "a day": 288}  # steps after which temperatures are compared
RESPONSE_STEPS = (1, 2, 3, 6, 12, 24, 48, LONGEST)
ACTIONS = ("do_nothing", "pi")
Say = Callable[[str], None]


def measure_gap(folder: Path, home: Environment, places: dict[str, Environment], say: Say) -> dict[str, Any]:
    """Return ``{"actions": rows, "responses": rows}`` for tables; what was measured is kept in ``folder``.

    Args:
        folder: where results are kept.
        home: the simple model.
        places: EnergyPlus with and without gains, by name.
        say: is told what is under way.
    """
    key = {"days": DAYS, "places": {place: env.spec.name for place, env in places.items()}, "home": home.spec.name}
    found = load_result(folder / "gap.json", key)
    if found is None:
        actions = [row for place, env in places.items() for row in _same_actions(home, place, env, say)]
        say("step responses")
        first = next(iter(places))
        found = {"actions": actions, "responses": _responses(home, places[first])}
        store_result(folder / "gap.json", key, found)
    return found


def _same_actions(home: Environment, place: str, env: Environment, say: Say) -> list[dict[str, Any]]:
    """Return rows of what the simple model does under the levels that EnergyPlus was given, from where that began."""
    env = env._replace(num_eval_episodes=DAYS, eval_seeds=env.eval_seeds[:DAYS])
    tried, rows = shift_suite(env, "climate"), list[dict[str, Any]]()
    models = {world.name: world for world in shift_suite(home, "climate")}
    for name in ACTIONS:
        say(f"gap: {TITLES[name]}, {place}")
        policy = controller(name, env, home)
        _, (lived,) = play_recorded(env, fixed(policy), tried)
        for w, world in enumerate(tried):
            modelled = replayed(home, models[world.name], env.spec.agents, _of_world(lived, w), env.eval_seeds)
            agents = [home.spec.agents.index(agent) for agent in env.spec.agents]
            error = (modelled - lived.temperatures[w])[..., agents]  # [E, T, N], from the first step on
            row: dict[str, Any] = {"place": place, "city": world.name, "actions": TITLES[name]}
            row |= {f"after {said}": _rms(error[:, min(step, error.shape[1] - 1)]) for said, step in AFTER.items()}
            row |= {"bias": float(error.mean()), "mean level": float(lived.levels[w].mean())}
            rows.append(row | {"mean level, simple model": _home_level(home, models[world.name], name, agents)})
    return rows


def replayed(home: Environment, world: Shift, agents: Sequence[str], lived: Days, days: Sequence[int]) -> np.ndarray:
    """Return the temperatures [E, T, n] of the simple model under the levels of ``lived`` [E, T, N] of ``agents``.

    Every day begins at the temperatures at which it began there; zones without an agent there stay without power.
    """
    spec = home.spec
    assert spec.action_values is not None
    nearest = np.abs(np.asarray(spec.action_values) - lived.levels[..., None]).argmin(axis=-1)  # [E, T, N]
    joint = np.full((*nearest.shape[:2], spec.num_agents), spec.idle_action, np.int32)
    joint[..., [spec.agents.index(agent) for agent in agents]] = nearest
    params = world.params

    def day(start: Array, number: Array, actions: Array) -> Array:
        key = jax.random.key(0)
        state, _ = home.reset(key, params._replace(days=number[None]))

        def step(state: BuildingState, action: Array) -> tuple[BuildingState, Array]:
            after, _ = home.step(key, state, action, params)
            return after, state.temperatures

        return jax.lax.scan(step, state._replace(temperatures=start), actions)[1]

    starts = jnp.asarray(lived.temperatures[:, 0], jnp.float32)
    return np.asarray(jit(jax.vmap(day))(starts, jnp.asarray(days, jnp.int32), jnp.asarray(joint)))


def _of_world(days: Days, w: int) -> Days:
    return Days(*(x[w] for x in days))


def _home_level(home: Environment, world: Shift, name: str, agents: list[int]) -> float:
    """Return the mean level that a controller needs on the same days in the simple model."""
    policy, spec = controller(name, home, home), home.spec
    assert spec.action_values is not None

    def day(index: Array) -> Array:
        return episode(home, policy, jax.random.key(0), home.episode(world.params, index))[1]

    actions = np.asarray(jit(jax.vmap(day))(jnp.arange(DAYS, dtype=jnp.int32)))
    return float(np.asarray(spec.action_values)[actions][..., agents].mean())


def _responses(home: Environment, there: Environment) -> list[dict[str, Any]]:
    """Return what full power adds to a zone's own temperature after some steps, in both, and how it would be tuned."""
    rows = []
    for simulator, env in (("simple model", home), ("EnergyPlus", there)):
        for agent, response in zip(env.spec.agents, step_responses(env), strict=True):
            if agent not in there.spec.agents:
                continue
            tuned = simc(agent, response)
            row: dict[str, Any] = {"zone": agent, "simulator": simulator}
            row |= {f"{5 * step} min": float(response[step - 1]) for step in RESPONSE_STEPS}
            rows.append(row | {"delay, steps": tuned.delay, "kp": tuned.kp, "ki": tuned.ki})
    return sorted(rows, key=lambda row: row["zone"])


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt((x**2).mean()))
