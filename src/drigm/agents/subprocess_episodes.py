"""One greedy episode in each of some environments that live in other processes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import jax
import numpy as np

from drigm.agents.policies import Policy
from drigm.agents.rollout import Outcome
from drigm.agents.subprocess_acting import Actor, Perturber, Strengths, before_reset
from drigm.core.errors import UserError
from drigm.envs.api import Environment
from drigm.envs.subprocess.vector import SubprocessVector

PATIENCE = 10  # times the length that an environment declares, or 10,000 steps: then an episode counts as endless
SHORTEST = 10_000
FIRST_SEED = 1_000_003  # of the evaluation episodes; training draws its seeds elsewhere


def play(
    env: Environment,
    vector: SubprocessVector,
    perturber: Perturber,
    team: Policy,
    strengths: Strengths,
    seeds: list[int],
) -> Outcome:
    """Return the outcomes [B] of one greedy episode in every environment of ``vector``, started from ``seeds`` [B].

    Episodes are played until they end, whatever length the environment declares; raises `UserError` if one does not.
    """
    keys = jax.random.key(0)[None]
    carry = before_reset(env.spec, strengths, team.initial_memory(len(seeds)), (1, len(seeds)))
    actor = Actor(env, perturber, strengths, keys, carry, -1)
    actor.arrive(vector.reset(seeds))
    total, won, over = np.zeros(len(seeds), np.float32), np.zeros(len(seeds), bool), np.zeros(len(seeds), bool)
    most = PATIENCE * max(SHORTEST, env.spec.episode_limit)
    for _ in range(most):
        _, orders = actor.decide(team)
        vector.send(orders[0])
        steps = vector.receive()
        actor.arrive(steps)
        total += np.where(over, np.float32(0.0), steps.reward)
        won |= steps.won & ~over
        over |= steps.terminated | steps.truncated
        if over.all():
            return Outcome(total, won)  # type: ignore[arg-type]
    raise UserError(
        f"env {env.spec.name}: greedy episode {int(np.argmin(over))} has not ended after {most} steps, where "
        "evaluation gives up; an episode must terminate or truncate."
    )


def episode_seeds(env: Environment) -> Iterator[int]:
    """Yield the seeds of the evaluation's episodes, the environment's own first, and of others like them for ever."""
    return itertools.chain(env.eval_seeds, itertools.count(FIRST_SEED))
