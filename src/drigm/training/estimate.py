"""What a training will cost, before anything is compiled: memory exactly enough, time to a factor of two."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from drigm.algorithms.learner import make_learner
from drigm.core.config import TrainConfig
from drigm.core.naming import duration
from drigm.core.types import EnvSpec, traced
from drigm.envs.api import Environment
from drigm.runtime import devices

SIZE, TRIES = 64, 500  # of the matrices whose product is timed: one thread's work, whatever else the machine does
# How much of the speed of such products an update of small recurrent networks reaches, measured on two cores.
SHARE = 0.3
BACKWARD = 2.0  # a gradient's operations, in forward passes


class Estimate(NamedTuple):
    """What one training takes, all seeds together.

    Attributes:
        updates: of every seed.
        seconds: of acting and learning, without compilation and without the environment's own steps; nan on an
            accelerator, whose speed nobody knows beforehand.
        replay: bytes.
        ahead: bytes of it that hold next steps which were only drawn (samples).
        networks: bytes of weights, their averages, target and optimiser.
    """

    updates: int
    seconds: float
    replay: int
    networks: int
    ahead: int = 0

    def __str__(self) -> str:
        size = _size(self.replay + self.networks)
        took = "" if math.isnan(self.seconds) else f"about {duration(max(1.0, self.seconds))} of learning, and "
        drawn = f" ({_size(self.ahead)} of it for the samples)" if self.ahead else ""
        return (
            f"{took}{size} of memory for replay{drawn} and networks, apart from compilation and the environment's own "
            "steps"
        )


def _size(count: int) -> str:
    gib = count / 2**30
    return f"{gib:.1f} GiB" if gib >= 0.1 else f"{gib * 1024:.0f} MiB"


def replay_bytes(configs: Sequence[TrainConfig], spec: EnvSpec) -> int:
    """Return the bytes of the replay of all seeds of ``configs``."""
    step = _shown_bytes(spec) + 4 * spec.num_agents + 2 + _memory_bytes(configs[0], spec)
    return step * configs[0].replay_size * sum(config.seeds for config in configs) + ahead_bytes(configs, spec)


def ahead_bytes(configs: Sequence[TrainConfig], spec: EnvSpec) -> int:
    """Return the bytes of the next steps that the replay of all seeds of ``configs`` holds besides (samples)."""
    config = configs[0]
    return config.samples * _shown_bytes(spec) * config.replay_size * sum(config.seeds for config in configs)


def _memory_bytes(config: TrainConfig, spec: EnvSpec) -> int:
    """Return the bytes of what a step keeps of the agents' memories."""
    if not config.stored_state:
        return 0
    memory = traced(lambda: make_learner(config, spec).init(jax.random.key(0)).params.agents.initial_memory(1))
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(memory))


def _shown_bytes(spec: EnvSpec) -> int:
    """Return the bytes of what an environment shows in a step: observations, state, masks, reward, termination."""
    n = spec.num_agents
    return 4 * (n * spec.obs_size + spec.state_size + 1) + n * (spec.num_actions * spec.masks_actions) + 1


def estimate(config: TrainConfig, env: Environment) -> Estimate:
    """Return what training ``config`` in ``env`` takes on this machine."""
    learner = make_learner(config, env.spec)
    shapes = jax.eval_shape(lambda: learner.init(jax.random.key(0)))
    weights = _numbers(shapes.params)
    agents = _numbers(shapes.params.agents) * (env.spec.num_agents if config.share_parameters else 1)
    once = 2.0 * (agents + _numbers(shapes.params.mixer))  # operations of the team's joint value at one step
    passes = 2.0 + BACKWARD  # online and target network, and the gradient
    passes += config.samples * (1.0 + config.double_q)  # a step from every memory for each sample
    learning = config.updates_in_all * config.batch * (config.window + 1) * once * passes
    acting = config.ticks * config.num_envs * 2.0 * agents
    cores = min(config.shards, devices.usable_cores())
    speed = SHARE * cores * _product_speed() if devices.runs_in_turn() else math.nan
    seconds = config.seeds * (learning + acting) / speed
    networks = 4 * config.seeds * 5 * weights  # weights, target, average and two moments
    replay, ahead = replay_bytes([config], env.spec), ahead_bytes([config], env.spec)
    return Estimate(config.updates_in_all, seconds, replay, networks, ahead)


def _numbers(tree: object) -> int:
    return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def _product_speed() -> float:
    """Return one core's floating-point operations per second in a product of matrices, the best of some tries."""
    a = np.ones((SIZE, SIZE), np.float32)
    best = math.inf
    for _ in range(TRIES):
        began = time.perf_counter()
        np.matmul(a, a)
        best = min(best, time.perf_counter() - began)
    return 2.0 * SIZE**3 / best


def remarks(config: TrainConfig, env: Environment) -> list[str]:
    """Return what is allowed and yet probably not meant, a sentence each."""
    found, seen, limit = list[str](), config.batch * config.window, env.spec.episode_limit
    if seen > config.replay_size:
        found.append(
            f"batch: an update reads {config.batch} windows of {config.window} steps, {seen:,} in all, and replay_size "
            f"keeps {config.replay_size:,}: it sees the same steps several times"
        )
    if config.window > limit:
        found.append(f"window: {config.window} transitions are longer than an episode, which has at most {limit} steps")
    return found
