"""A team in the loop: each agent in its own process sees its own readings, acts, and everything is noted.

In shadow mode an existing controller drives the environment; the agents see what it leads to, are told what it did, and
what they would have done is noted beside that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from drigm.agents.policies import Policy
from drigm.core.errors import check, warn
from drigm.core.types import NO_ACTION, EnvSpec, StoredStep
from drigm.deployment.guard import Decision, Flag, possible
from drigm.deployment.networks import own_actions, own_readings
from drigm.deployment.processes import Asked, ProcessTeam
from drigm.deployment.simulation import Seen, Simulation, score_of
from drigm.envs.api import Environment


class AgentStep(NamedTuple):
    """What one agent saw and did at a step."""

    readings: list[float | None]  # None: it was no finite number
    action: int  # what was really done, as the environment counts
    flags: tuple[Flag, ...]
    fallback: bool
    would: int | None = None  # in shadow mode: what the agent would have done


class End(NamedTuple):
    """How an episode ended."""

    episode_return: float
    score: float
    won: bool | None  # None: nothing is won


class LoopStep(NamedTuple):
    """A step of the loop; agents that have left are not in it."""

    episode: int
    step: int
    reward: float  # the team's, that followed
    agents: dict[str, AgentStep]
    state: list[float] | None = None  # after the step, where that is noted
    end: End | None = None  # with the last step of an episode


class Seat(NamedTuple):
    """An agent's place in the environment."""

    name: str
    readings: list[int]  # its own, among those of the observation
    actions: int  # how many it has
    first: int  # what its contract calls action 0


def seats(spec: EnvSpec, contracts: Mapping[str, Mapping[str, Any]]) -> list[Seat]:
    """Return the place of each of the environment's agents, in its order.

    Raises:
        UserError: the team has no agent of that name, or one with other readings or actions.
    """
    found = list[Seat]()
    for n, name in enumerate(spec.agents):
        message = f"the team has no agent called {name} (it has {', '.join(list(contracts)[:8])})"
        check(name in contracts, "env", spec.name, message)
        contract, readings, actions = contracts[name], own_readings(spec, n), own_actions(spec, n)
        counts = len(contract["readings"]), contract["actions"]["count"]
        message = "the team's {} has {} readings and {} actions, its own {} and {}"
        same = counts == (len(readings), actions)
        check(same, "env", spec.name, message.format(name, *counts, len(readings), actions))
        for what in _otherwise(spec, n, readings, contract):
            warn(f"env: {spec.name} says otherwise than {name}'s contract {what}; its actions may make no sense there.")
        found.append(Seat(name, readings, actions, contract["actions"]["first"]))
    return found


def _otherwise(spec: EnvSpec, n: int, readings: list[int], contract: Mapping[str, Any]) -> Iterator[str]:
    """Yield in which respects an environment describes an agent's numbers otherwise than its contract does."""
    names = spec.described.readings[n] if spec.described and spec.described.readings else ()
    ours = [names[i] if i < len(names) else "" for i in readings]
    theirs = [str(one["name"]).removesuffix(f" ({i})") for i, one in zip(readings, contract["readings"], strict=True)]
    if any(a and a != b and b != f"reading {i}" for i, a, b in zip(readings, ours, theirs, strict=True)):
        yield "what its readings are"
    levels, known = contract["actions"]["values"], spec.action_values
    if levels is not None and known is not None and not np.allclose(known[: len(levels)], levels, atol=1e-6):
        yield "which levels its actions are"


class Clock:
    """Begins steps at a steady rate.

    Args:
        rate: steps per second; None: as fast as they can be.
    """

    def __init__(self, rate: float | None) -> None:
        self.period = None if rate is None else 1.0 / rate
        self.next = time.monotonic()

    def wait(self) -> None:
        """Wait until the next step is due; a step that was late is not made up for."""
        if self.period is None:
            return
        now = time.monotonic()
        time.sleep(max(0.0, self.next - now))
        self.next = max(now, self.next) + self.period


class Loop:
    """Episodes of a team in an environment.

    Args:
        env: the environment.
        world: the same, as one that is stepped.
        team: the agents' processes.
        controller: in shadow mode who drives the environment; None: the team does.
        keep_state: note the state after every step.
    """

    def __init__(
        self,
        env: Environment,
        world: Simulation,
        team: ProcessTeam,
        controller: Policy | None = None,
        *,
        keep_state: bool = False,
    ) -> None:
        self.env, self.world, self.team, self.controller, self.keep_state = env, world, team, controller, keep_state
        self.seats = seats(env.spec, team.contracts)

    def play(self, episodes: int, steps: int | None = None, rate: float | None = None) -> Iterator[LoopStep]:
        """Yield every step of ``episodes`` episodes of the evaluation; at most ``steps`` in all."""
        clock, left = Clock(rate), math.inf if steps is None else steps
        for episode in range(episodes):
            for found in self._episode(episode, clock):
                yield found
                left -= 1
                if left <= 0:
                    return

    def _episode(self, episode: int, clock: Clock) -> Iterator[LoopStep]:
        seen, total, number = self.world.reset(episode), 0.0, 0
        self.team.reset()
        memory: Any = None if self.controller is None else self.controller.initial_memory(1)
        last = np.full(len(self.seats), NO_ACTION, np.int32)
        while not seen.over:
            clock.wait()
            decisions = self.team.step(self._asked(seen, last))
            chosen = self._joint(seen, decisions)
            if self.controller is None:
                action = chosen
            else:
                memory, row = self.controller.act(memory, _row(self.env, seen, last, number == 0))
                action = np.asarray(row, np.int32)[0]
            after = self.world.step(action)
            total += after.reward
            end = None
            if after.over:
                won = after.won if self.env.spec.has_wins else None
                end = End(total, score_of(self.env, total, after.won), won)
            state = [float(x) for x in after.state] if self.keep_state else None
            agents = {seat.name: self._noted(seen, n, action, decisions) for n, seat in self._there(seen)}
            yield LoopStep(episode, number, after.reward, agents, state, end)
            seen, last, number = after, action, number + 1

    def _there(self, seen: Seen) -> list[tuple[int, Seat]]:
        """Return the agents that have not left."""
        return [(n, seat) for n, seat in enumerate(self.seats) if seen.alive[n]]

    def _asked(self, seen: Seen, last: np.ndarray) -> dict[str, Asked]:
        """Return what each agent is shown: its own readings and actions, and in shadow mode what was really done."""
        asked = {}
        for n, seat in self._there(seen):
            readings = [float(x) for x in seen.obs[n][seat.readings]]
            available = None if seen.avail is None else seen.avail[n, : seat.actions].tolist()
            previous = None if self.controller is None or last[n] == NO_ACTION else int(last[n]) + seat.first
            asked[seat.name] = Asked(readings, available, previous)
        return asked

    def _joint(self, seen: Seen, decisions: Mapping[str, Decision]) -> np.ndarray:
        """Return the joint action [N], counted from 0; who has left takes the idle action, or the first available."""
        action = np.full(len(self.seats), self.env.spec.idle_action, np.int32)
        if seen.avail is not None:
            action = possible(action, seen.avail, self.env.spec.idle_action).astype(np.int32)
        for n, seat in enumerate(self.seats):
            if seat.name in decisions:
                action[n] = decisions[seat.name].action - seat.first
        return action

    def _noted(self, seen: Seen, n: int, action: np.ndarray, decisions: Mapping[str, Decision]) -> AgentStep:
        seat = self.seats[n]
        decision = decisions[seat.name]
        readings = [float(x) if math.isfinite(x) else None for x in seen.obs[n][seat.readings]]
        would = None if self.controller is None else decision.action
        return AgentStep(readings, int(action[n]) + seat.first, decision.flags, decision.fallback, would)


def _row(env: Environment, seen: Seen, last: np.ndarray, first: bool) -> StoredStep:
    """Return what a controller sees, with a batch of one."""
    row: dict[str, Any] = {
        "obs": seen.obs[None],
        "state": seen.state[None],
        "avail_actions": None if seen.avail is None else seen.avail[None],
        "last_action": last[None],
        "reward": np.array([seen.reward], np.float32),
        "terminated": np.zeros(1, bool),
        "truncated": np.zeros(1, bool),
        "first": np.array([first]),
        "alive": seen.alive[None] if env.spec.agents_die else None,
    }
    return StoredStep(**row)
