"""Agents that fail, for good or for a step: the functions of `drigm.envs.perturbations` that replace their actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from drigm.core.types import Array, EnvSpec, PyTree, TimeStep


class Failure(NamedTuple):
    """When an agent fails, and what all did last."""

    moment: Array  # [] int32
    time: Array  # [] int32
    last: Array  # [N] int32


def failure_start(key: Array, spec: EnvSpec, strength: Array) -> Failure:
    """Return the memory of an agent that fails at a random moment of the first quarter of the time limit."""
    del strength
    moment = jax.random.randint(key, (), 0, max(1, spec.episode_limit // 4))
    return Failure(moment, jnp.int32(0), jnp.full(spec.num_agents, spec.idle_action, jnp.int32))


def possible(action: Array, avail: Array, idle: int) -> Array:
    """Return each action [..., N] where ``avail`` [..., N, A] has it, else ``idle``, else the first that it has."""
    resting = jnp.where(avail[..., idle], idle, jnp.argmax(avail, axis=-1)).astype(action.dtype)
    return jnp.where(jnp.take_along_axis(avail, action[..., None], axis=-1)[..., 0], action, resting)


def failure(instead: Callable[[Array, EnvSpec, Failure, Array, Array], Array]) -> Callable[..., tuple[Failure, Array]]:
    """Return the ``act`` of an agent that does ``instead(key, spec, memory, action, avail)`` [N] once it has failed."""

    def act(key: Array, spec: EnvSpec, strength: Array, memory: Failure, action: Array, avail: Array):
        fails = (jnp.arange(1, spec.num_agents + 1) == jnp.round(strength).astype(jnp.int32)) & (
            memory.time >= memory.moment
        )
        done = jnp.where(fails, possible(instead(key, spec, memory, action, avail), avail, spec.idle_action), action)
        return Failure(memory.moment, memory.time + 1, jnp.where(fails, memory.last, action)), done

    return act


def idles(key: Array, spec: EnvSpec, memory: Failure, action: Array, avail: Array) -> Array:
    """Return the idle action, of all [N]."""
    del key, memory, avail
    return jnp.full_like(action, spec.idle_action)


def repeats(key: Array, spec: EnvSpec, memory: Failure, action: Array, avail: Array) -> Array:
    """Return what all did last [N]."""
    del key, spec, action, avail
    return memory.last


def acts_at_random(key: Array, spec: EnvSpec, memory: Failure, action: Array, avail: Array) -> Array:
    """Return random available actions [N]."""
    del spec, memory
    return jax.random.categorical(key, jnp.where(avail, 0.0, -jnp.inf)).astype(action.dtype)


def faults_start(key: Array, spec: EnvSpec, strength: Array) -> PyTree:
    """Return who is alive, [N] bool; nothing where nobody dies."""
    del key, strength
    return jnp.ones(spec.num_agents, bool) if spec.agents_die else ()


def faults_act(key: Array, spec: EnvSpec, strength: Array, memory: PyTree, action: Array, avail: Array):
    """Let one agent idle, of those alive: in the agent-wise set, whose control this is, only they fail."""
    key_coin, key_who = jax.random.split(key)
    if spec.agents_die:
        who = jax.random.categorical(key_who, jnp.where(memory, 0.0, -jnp.inf))
    else:
        who = jax.random.randint(key_who, (), 0, spec.num_agents)
    fails = (jnp.arange(spec.num_agents) == who) & (jax.random.uniform(key_coin) < strength)
    return memory, jnp.where(fails, possible(jnp.full_like(action, spec.idle_action), avail, spec.idle_action), action)


def faults_show(key: Array, spec: EnvSpec, strength: Array, memory: PyTree, step: TimeStep, first: bool):
    """Remember who is alive."""
    del key, strength, first
    return step.alive if spec.agents_die else memory, step
