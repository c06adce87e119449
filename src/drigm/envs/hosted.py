"""Environments of other libraries, which live in worker processes: PettingZoo's and StarCraft's.

They have no pure functions: `Environment.host` says how to make them, and `drigm.host_loop` and `drigm.host_evaluate`
step them. Everything else (spec, perturbations, learner, run directory) is the same.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from drigm.envs.api import Environment
from drigm.envs.host.steps import Facts
from drigm.envs.host_vector import HostSource, ask
from drigm.errors import UserError
from drigm.types import EnvSpec

EVAL_EPISODES = {"pettingzoo": 64, "smac": 32}
AT_ONCE = {"pettingzoo": 64, "smac": 8}  # every StarCraft environment is a game of its own
REWARD_SCALES = {"pettingzoo": 1.0, "smac": 1.0}  # SMAC's returns lie in [0, 20] already


def hosted(kind: str, name: str, *, python: str = "", workers: int = 0) -> Environment:
    """Return the environment ``name`` of ``kind`` (``pettingzoo`` or ``smac``).

    Args:
        kind: what the workers adapt it with.
        name: for PettingZoo ``package.module:factory?option=value``; for StarCraft a map.
        python: the interpreter that runs it (default: this one).
        workers: processes (default: one for each usable core).

    Raises:
        UserError: it cannot be made or breaks the contract of a ParallelEnv; the message says where.
    """
    source = HostSource(kind, name, python, workers, AT_ONCE[kind])
    opened = ask(source, {"do": "open", "seeds": [0]}, "while it made an environment")
    facts = Facts(**opened["facts"])
    return Environment(
        spec=spec_of(kind, facts),
        params=(),
        reset=_refuse,
        step=_refuse,
        num_eval_episodes=EVAL_EPISODES[kind],
        host=source,
        notes=tuple(facts.notes),
    )


def pettingzoo(name: str, **options: Any) -> Environment:
    """Return a PettingZoo environment; see `hosted`."""
    return hosted("pettingzoo", name, **options)


def smac(name: str, **options: Any) -> Environment:
    """Return a StarCraft map of SMAC or SMACv2; see `hosted`."""
    return hosted("smac", name, **options)


def name_of(factory: Callable[..., Any]) -> str:
    """Return the id ``pettingzoo:module:name`` of a factory, so that other processes can find it.

    Raises:
        UserError: it has no name of its own (a lambda, a local function, one typed into a session).
    """
    module, name = getattr(factory, "__module__", None), getattr(factory, "__qualname__", "")
    if module and "." not in module:  # a script, or a file beside one: another process may not find it by its name
        file = getattr(sys.modules.get(module), "__file__", None)
        module = os.path.abspath(file) if file else None if module == "__main__" else module
    if not module or "<" in name or not name:
        raise UserError(
            f"env: {factory!r} is not allowed; worker processes must be able to import it, so give a function or class "
            "of a module or script, not a lambda, a local function or one from a notebook."
        )
    return f"pettingzoo:{module}:{name}"


def spec_of(kind: str, facts: Facts) -> EnvSpec:
    """Return the spec of what a worker declared; readings without bounds are taken as they are."""
    low, high = (
        np.array([math.nan if x is None else x for x in side], np.float32) for side in (facts.obs_low, facts.obs_high)
    )
    bounded = np.isfinite(low) & np.isfinite(high) & (high > low)
    offset = np.where(bounded, (high + low) / 2.0, 0.0).astype(np.float32)
    scale = np.where(bounded, (high - low) / 2.0, 1.0).astype(np.float32)
    lowest, highest = facts.reward_range
    states = np.zeros(facts.state_size, np.float32), np.ones(facts.state_size, np.float32)
    return EnvSpec(
        name=facts.name,
        agents=tuple(facts.agents),
        obs_size=facts.obs_size,
        state_size=facts.state_size,
        num_actions=facts.num_actions,
        episode_limit=facts.episode_limit,
        obs_offset=offset,
        obs_scale=scale,
        state_offset=states[0],
        state_scale=states[1],
        reward_scale=REWARD_SCALES[kind],
        reward_range=(-math.inf if lowest is None else lowest, math.inf if highest is None else highest),
        readings=np.arange(facts.obs_size)[None, :] < np.array(facts.readings)[:, None],
        masks_actions=facts.masks_actions,
        terminates=True,
        agents_die=facts.agents_die,
        has_wins=facts.has_wins,
        idle_action=facts.idle_action,
    )


def _refuse(*arguments: Any) -> Any:
    """Stands where a JAX environment has its functions."""
    raise UserError("env: this one lives in another process and has no pure functions; this command needs them.")
