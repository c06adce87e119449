"""The controller that the prototype came with: its own heat pumps, each zone's thermostat held at the target."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np

from drigm.envs.building.simulator import published_score
from drigm.envs.energyplus import parallel_env
from drigm.envs.energyplus.environment import EVAL_DAYS
from drigm.experiments.reproduce.transfer.measures import BUILDING, comfort_of

AT_ONCE = 2  # engines, each in a process of its own


def measure_heat_pumps(cities: list[str], gains: str, days: tuple[int, ...] = EVAL_DAYS) -> dict[str, np.ndarray]:
    """Return the measures [W cities, 1] of set points that stay at the target +- half a kelvin.

    As of whoever else plays, but that ``thermal_kwh`` is what the machines brought, ``electric_kwh`` (per day) is known
    because they are modelled, and ``oscillation`` is nan: no level is set, a machine switches by itself. The score's
    power term counts the electricity and gas that were bought (see `drigm.envs.energyplus`).
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda city: _in_city(city, gains, days), cities))
    return {name: np.array([one[name] for one in found])[:, None] for name in found[0]}


def _in_city(city: str, gains: str, days: tuple[int, ...]) -> dict[str, float]:
    env = parallel_env(BUILDING, city, gains=gains, mode="setpoint", levels=2)
    hold = dict.fromkeys(env.possible_agents, 1)  # the target: level k of two is (k - 1) of the span away from it
    errors, energy, returns = list[list[float]](), np.zeros(2), list[float]()
    try:
        for day in days:
            seen, _ = env.reset(options={"day": day})
            total = 0.0
            while env.agents:
                errors.append([float(seen[agent][0]) - env.regulated["setpoint"] for agent in env.agents])
                seen, rewards, _, _, infos = env.step(hold)
                total += sum(rewards.values())
                first = next(iter(infos.values()))  # of the whole building, the same for every agent
                energy += sum(info["thermal_kwh"] for info in infos.values()), first["electric_kwh"]
            returns.append(total)
    finally:
        env.close()
    thermal, electric = (energy / len(days)).tolist()
    comfort = comfort_of(np.array(errors).reshape(1, len(days), -1, len(hold)))
    return {
        "score": float(np.mean(published_score(jnp.array(returns), len(hold)))),
        **{name: float(x[0]) for name, x in comfort.items()},
        "thermal_kwh": thermal,
        "oscillation": float("nan"),
        "electric_kwh": electric,
    }
