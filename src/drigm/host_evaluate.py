"""Greedy episodes in environments that live in other processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from drigm import rollout
from drigm.envs.api import Environment, Shift
from drigm.envs.host_vector import HostVector
from drigm.errors import UserError
from drigm.host_loop import Liar, Lies, time_steps
from drigm.networks import Memory, RecurrentAgents
from drigm.rollout import Outcome, RolloutState
from drigm.types import Array, TimeStep

FIRST_SEED = 1_000_003  # of the evaluation episodes; training draws its seeds elsewhere


Strengths = dict[str, Array]


class Decided(NamedTuple):
    """What was decided at a tick."""

    action: Array  # [B, N] by the agents
    memory: Memory
    lies: Lies
    orders: Array  # [B, N] what really happens


class Player:
    """Plays one greedy episode in every environment of a vector; compiled once for all worlds and teams."""

    def __init__(self, env: Environment, vector: HostVector) -> None:
        self.env, self.vector = env, vector
        self._begin, self._think, self._see = jax.jit(self._start), jax.jit(self._decide), jax.jit(self._take_in)

    def play(self, agents: RecurrentAgents, strengths: Strengths, seeds: list[int]) -> Outcome:
        """Return the outcomes [B] of the episodes that start from ``seeds`` [B]."""
        axes, key = (len(seeds),), jax.random.key(0)
        steps = self.vector.reset(seeds)
        carry = self._begin(strengths, agents, key, time_steps(self.env.spec, steps, axes))
        total, won, over = np.zeros(axes, np.float32), np.zeros(axes, bool), np.zeros(axes, bool)
        limit = self.env.spec.episode_limit
        for _ in range(limit):
            key, decided = self._think(strengths, agents, key, carry)
            self.vector.send(np.asarray(decided.orders))
            steps = self.vector.receive()
            carry = self._see(strengths, key, carry, decided, time_steps(self.env.spec, steps, axes))
            total += np.where(over, 0.0, steps.reward).astype(np.float32)
            won |= steps.won & ~over
            over |= steps.terminated | steps.truncated
            if over.all():
                return Outcome(total, won)  # type: ignore[arg-type]
        endless = int(np.argmin(over))
        raise UserError(
            f"env {self.env.spec.name}: greedy episode {endless} has not ended after {limit} steps; it must end."
        )

    def _start(self, strengths: Strengths, agents: RecurrentAgents, key: Array, steps: TimeStep) -> RolloutState:
        return Liar(self.env.spec, strengths).begin(agents, key, steps)

    def _decide(
        self, strengths: Strengths, agents: RecurrentAgents, key: Array, carry: RolloutState
    ) -> tuple[Array, Decided]:
        key, now = jax.random.split(key)
        memory, action = rollout.act(agents, carry.memory, rollout.row_of(self.env, carry))
        lies, orders = Liar(self.env.spec, strengths).act(now, carry.env_state, action)
        return key, Decided(action, memory, lies, orders)

    def _take_in(
        self, strengths: Strengths, key: Array, carry: RolloutState, decided: Decided, steps: TimeStep
    ) -> RolloutState:
        last = carry.timestep.terminated | carry.timestep.truncated
        lies, shown = Liar(self.env.spec, strengths).show(key, decided.lies, steps, last)
        return rollout.arrive(carry, lies, shown, decided.action, decided.memory)[0]


def host_outcomes(
    env: Environment, agents: RecurrentAgents, worlds: list[Shift], done: Callable[[int], None] = lambda count: None
) -> Outcome:
    """Return the outcomes [W worlds, K seeds, E episodes] of greedy episodes.

    Episode e starts from the same seed in every world and for every team.

    Args:
        env: an environment with a ``host``, perturbed or not.
        agents: weights of K seeds stacked on a leading axis.
        worlds: strengths of the perturbations (see `drigm.envs.perturbations.Perturbed`).

        done: called with the number of worlds that have been played.

    Raises:
        UserError: an environment failed.
    """
    assert env.host is not None
    seeds = [FIRST_SEED + e for e in range(env.num_eval_episodes)]
    size = min(env.host.most, len(seeds))
    padded = seeds + seeds[: -len(seeds) % size]  # every environment plays in every round; what is too much is cut
    rounds = [padded[k : k + size] for k in range(0, len(padded), size)]
    teams = [jax.tree.map(lambda x: x[k], agents) for k in range(jax.tree.leaves(agents)[0].shape[0])]  # noqa: B023
    vector = env.host.open(rounds[0])
    try:
        player, played = Player(env, vector), []
        for count, world in enumerate(worlds, 1):
            strengths = getattr(world.params, "strengths", {})
            for team in teams:
                parts = [player.play(team, strengths, some) for some in rounds]
                played.append(jax.tree.map(lambda *x: np.concatenate(x)[: len(seeds)], *parts))
            done(count)
    finally:
        vector.close()
    return jax.tree.map(lambda *x: np.stack(x).reshape(len(worlds), len(teams), -1), *played)
