"""What a JAX environment declares: whether its spec and its parameters agree with themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from drigm.core.errors import shown
from drigm.core.types import EnvSpec
from drigm.envs.api import Environment
from drigm.envs.subprocess.worker.errors import Finding

WIDE = ("float64", "int64", "uint64", "complex128")  # JAX computes with half of that


def of_spec(spec: EnvSpec) -> Iterator[Finding]:
    """Yield what is wrong with a spec; sizes come first, since the rest depends on them."""
    agents = spec.agents
    named = isinstance(agents, tuple) and agents and all(isinstance(name, str) and name for name in agents)
    if not named or len(set(agents)) != len(agents):
        yield Finding(f"spec.agents is {shown(agents)}; a tuple of different names is needed")
    for field in ("obs_size", "state_size", "num_actions", "episode_limit"):
        value = getattr(spec, field)
        if not _whole(value) or value < 1:
            yield Finding(f"spec.{field} is {shown(value)}; a whole number from 1 is needed")
    if not isinstance(spec.name, str) or not spec.name:
        yield Finding(f"spec.name is {shown(spec.name)}; a text is needed")


def of_numbers(spec: EnvSpec) -> Iterator[Finding]:
    """Yield what is wrong with the numbers of a spec whose sizes are right."""
    agents, readings, actions = spec.num_agents, spec.obs_size, spec.num_actions
    for field, shape in (("obs", (agents, readings)), ("state", (spec.state_size,))):
        yield from _array(f"{field}_offset", getattr(spec, f"{field}_offset"), shape, "float32")
        yield from _array(f"{field}_scale", scale := getattr(spec, f"{field}_scale"), shape, "float32")
        if np.any(np.asarray(scale) <= 0.0):
            yield Finding(f"spec.{field}_scale holds numbers that are not above 0; networks divide by them")
    if spec.readings is not None:
        yield from _array("readings", spec.readings, (agents, readings), "bool")
    if spec.action_values is not None:
        yield from _array("action_values", spec.action_values, (actions,), "float32")
        levels = np.asarray(spec.action_values, np.float64)
        if np.any(np.abs(levels) > 1.0):
            yield Finding("spec.action_values leave [-1, 1], which the levels of one quantity are scaled to")
        elif np.any(np.diff(levels) <= 0.0):
            yield Finding("spec.action_values do not rise; the ordered head takes neighbours for alike", "warning")
    yield from _rewards(spec)
    if not _whole(spec.idle_action) or not 0 <= spec.idle_action < actions:
        yield Finding(f"spec.idle_action is {shown(spec.idle_action)}; it must be an action, from 0 to {actions - 1}")


def of_params(env: Environment) -> Iterator[Finding]:
    """Yield which parameters no `jax.vmap` can take."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(env.params):
        where = f"params{jax.tree_util.keystr(path)}"
        if not isinstance(leaf, np.ndarray | np.generic | jax.Array):
            kind = type(leaf).__name__
            yield Finding(f"{where} is a {kind}; worlds are stacked with jax.vmap, so give an array (np.float32(...))")
        elif str(leaf.dtype) in WIDE:
            yield Finding(f"{where} is {leaf.dtype}, of which JAX keeps 32 bits", "warning")
    if not _whole(env.num_eval_episodes) or env.num_eval_episodes < 1:
        yield Finding(f"num_eval_episodes is {shown(env.num_eval_episodes)}; a whole number from 1 is needed")


def _rewards(spec: EnvSpec) -> Iterator[Finding]:
    ends = spec.reward_range
    sound = isinstance(ends, tuple | list) and len(ends) == 2 and all(isinstance(x, int | float) for x in ends)
    if not sound or not ends[0] <= ends[1]:
        yield Finding(f"spec.reward_range is {shown(ends)}; a lowest and a highest reward of a step are needed")
    scale = spec.reward_scale
    if not isinstance(scale, int | float) or not 0.0 < scale < math.inf:
        yield Finding(f"spec.reward_scale is {shown(scale)}; a number above 0 is needed")


def _array(field: str, value: Any, shape: tuple[int, ...], dtype: str) -> Iterator[Finding]:
    if not hasattr(value, "shape") or tuple(value.shape) != shape or str(value.dtype) != dtype:
        found = f"{value.dtype}{list(value.shape)}" if hasattr(value, "shape") else shown(value)
        yield Finding(f"spec.{field} is {found}; an array {dtype}{list(shape)} is needed")
    elif not np.all(np.isfinite(np.asarray(value, np.float64))):
        yield Finding(f"spec.{field} holds numbers that are not finite")


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
