"""Environments of other libraries, which live in worker processes: PettingZoo's and StarCraft's.

They have no pure functions: `Environment.subprocess` says how to make them, and `drigm.training.subprocess_loop` and
`drigm.evaluation.subprocess_play` step them. Everything else (spec, perturbations, learner, run directory) is the same.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from drigm.core.errors import UserError
from drigm.core.types import Declared, Described, EnvSpec, Regulated
from drigm.envs.api import Environment, Held, Parameter, Strength
from drigm.envs.subprocess.vector import STEP_SECONDS, SubprocessSource, SubprocessWorld, ask
from drigm.envs.subprocess.worker.adapters import KINDS
from drigm.envs.subprocess.worker.factory import with_options
from drigm.envs.subprocess.worker.steps import Facts

SMALLEST = 1e-30  # scale; XLA takes what is much smaller for zero


def subprocess_env(
    kind: str, name: str, *, python: str = "", workers: int = 0, timeout: float = STEP_SECONDS
) -> Environment:
    """Return the environment ``name`` of ``kind`` (``pettingzoo`` or ``smac``).

    Args:
        kind: what the workers adapt it with.
        name: for PettingZoo ``package.module:factory?option=value``; for StarCraft a map.
        python: the interpreter that runs it (default: this one).
        workers: processes (default: one for each usable core).
        timeout: seconds that a step may take; to be made and to be reset, an environment has
            `drigm.envs.subprocess.vector.START_SECONDS` if that is more.

    Raises:
        UserError: it cannot be made or breaks the contract of a ParallelEnv; the message says where.
    """
    source = SubprocessSource(kind, name, python, workers, KINDS[kind].at_once, timeout)
    opened = ask(source, {"do": "open", "seeds": [0]}, "while it made an environment")
    facts = Facts(**opened["facts"])
    parameters = {name: _parameter(*message) for name, *message in facts.parameters}
    env = Environment(
        spec=spec_of(kind, facts),
        params=(),
        reset=_refuse,
        step=_refuse,
        num_eval_episodes=KINDS[kind].eval_episodes,
        suites=facts.suites or {},
        parameters=MappingProxyType(parameters),
        subprocess=source,
        notes=tuple(facts.notes),
    )
    return env._replace(vary=functools.partial(_varied, env)) if parameters else env


def _parameter(about: str, values: list[float], lowest: float | None) -> Parameter:
    return Parameter(about, tuple(values), -math.inf if lowest is None else lowest)


def _varied(env: Environment, strengths: Mapping[str, Strength]) -> Environment:
    """Return ``env`` with other options, which are found to be right or wrong when it is played."""
    source = env.subprocess
    assert source is not None
    options = [(name, float(np.asarray(x).item())) for name, x in strengths.items() if not isinstance(x, Held)]
    name = with_options(source.name, options)
    varied = env._replace(params=SubprocessWorld(name), subprocess=source._replace(name=name))
    return varied._replace(vary=functools.partial(_varied, varied))


def pettingzoo(name: str, **options: Any) -> Environment:
    """Return a PettingZoo environment; see `subprocess_env`."""
    return subprocess_env("pettingzoo", name, **options)


def smac(name: str, **options: Any) -> Environment:
    """Return a StarCraft map of SMAC or SMACv2; see `subprocess_env`."""
    return subprocess_env("smac", name, **options)


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


class Standardisation(NamedTuple):
    """How networks see numbers: ``(x - offset) / scale``; as they are where no bounds were ``declared``."""

    offset: np.ndarray  # float32
    scale: np.ndarray  # float32
    declared: np.ndarray  # bool


def standardisation(low: Any, high: Any) -> Standardisation:
    """Return what maps bounds of any shape, None where there are none, onto [-1, 1]."""
    low, high = np.array(low, np.float64), np.array(high, np.float64)
    declared = np.isfinite(low) & np.isfinite(high) & (high >= low)
    low, high = np.where(declared, low, 0.0), np.where(declared, high, 0.0)
    # Two float32 numbers that far from zero are at least so far apart; a scale below that would blow up rounding.
    apart = np.spacing(np.maximum(np.abs(low), np.abs(high)).astype(np.float32)).astype(np.float64)
    half = np.maximum((high - low) / 2.0, np.maximum(apart, SMALLEST))
    scale = np.where(declared & (high > low), half, 1.0)
    return Standardisation(((high + low) / 2.0).astype(np.float32), scale.astype(np.float32), declared)


def spec_of(kind: str, facts: Facts) -> EnvSpec:
    """Return the spec of what a worker declared; the rest is measured before training (`drigm.envs.calibration`)."""
    obs = standardisation(facts.obs_low, facts.obs_high)
    state = standardisation(facts.state_low, facts.state_high)
    lowest, highest = facts.reward_range
    return EnvSpec(
        name=facts.name,
        agents=tuple(facts.agents),
        obs_size=facts.obs_size,
        state_size=facts.state_size,
        num_actions=facts.num_actions,
        episode_limit=facts.episode_limit,
        obs_offset=obs.offset,
        obs_scale=obs.scale,
        state_offset=state.offset,
        state_scale=state.scale,
        reward_scale=1.0,
        scales_known=KINDS[kind].scales_known,
        declared=Declared(obs.declared, state.declared, False),
        reward_range=(-math.inf if lowest is None else lowest, math.inf if highest is None else highest),
        readings=np.arange(facts.obs_size)[None, :] < np.array(facts.readings)[:, None],
        masks_actions=facts.masks_actions,
        terminates=True,
        agents_die=facts.agents_die,
        has_wins=facts.has_wins,
        idle_action=facts.idle_action,
        action_values=None if facts.regulated is None else np.array(facts.regulated[2], np.float32),
        regulated=None if facts.regulated is None else _regulated(*facts.regulated[:2]),
        described=_described(facts),
    )


def _described(facts: Facts) -> Described:
    """Return what the environment says about its numbers; texts are padded as its readings are."""
    said = facts.described or {}

    def padded(name: str) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(row) + ("",) * (facts.obs_size - len(row)) for row in said.get(name, ()))

    low, high = (
        np.array([[end if x is None else x for x in row] for row in side], np.float64).astype(np.float32)
        for end, side in ((-math.inf, facts.obs_low), (math.inf, facts.obs_high))
    )
    return Described(
        readings=padded("readings"),
        units=padded("units"),
        low=low,
        high=high,
        actions=tuple(said.get("actions", ())),
        own_actions=None if facts.own_actions is None else tuple(facts.own_actions),
        first_actions=None if facts.first_actions is None else tuple(facts.first_actions),
        step_seconds=said.get("step_seconds"),
    )


def _regulated(reading: int, setpoints: list[float]) -> Regulated:
    return Regulated(reading, np.array(setpoints, np.float32))


def _refuse(*arguments: Any) -> Any:
    """Stands where a JAX environment has its functions."""
    raise UserError("env: this one lives in another process and has no pure functions; this command needs them.")
