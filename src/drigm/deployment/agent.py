"""A trained agent that keeps its own memory, and a team of them; bad input leads to flags, never to an exception."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from drigm.agents.numpy_network import NO_ACTION, Network
from drigm.deployment.guard import KINDS, LARGEST, Decision, Fallback, Flag, Guard, allowed, as_array, possible
from drigm.deployment.step import NumpyNetwork, OnnxNetwork

KEPT = 1000  # flags in an agent's log
log = logging.getLogger("drigm.deploy")


class Watchdog:
    """Says when an agent has not been stepped in time.

    Args:
        seconds: how long a step may be ago; None: for ever.
        clock: returns seconds.
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.clock, self.fed = seconds, clock, None

    def rest(self) -> None:
        """Wait for the next step, however long that takes: an episode is over."""
        self.fed = None

    def feed(self) -> bool:
        """Note that the agent is being stepped; returns whether that is late."""
        late, self.fed = self.late, self.clock()
        return late

    @property
    def late(self) -> bool:
        """Whether the next step is overdue now."""
        fed = self.fed  # once: another thread may let it rest meanwhile
        return self.seconds is not None and fed is not None and self.clock() - fed > self.seconds

    def watch(self, call: Callable[[], Any], every: float = 1.0) -> Callable[[], None]:
        """Call ``call`` from a thread whenever the agent becomes late; looks ``every`` seconds.

        Returns:
            What ends the watch.
        """
        over = threading.Event()

        def look() -> None:
            said = False
            while not over.wait(every):
                late = self.late
                if late and not said:
                    _call(call)
                said = late

        threading.Thread(target=look, daemon=True, name="drigm-watchdog").start()
        return over.set


class Agent:
    """One trained agent; `step` or `act` at every step, `reset` before every episode.

    Args:
        network: its weights, without leading axes, or the graph that has them.
        contract: what it reads and does, see `drigm.deployment.contract`.
        clock: of the watchdog, in seconds.
        on_flag: called with every flag as it is raised.

    Attributes:
        name: of the agent.
        contract: as it was given.
        log: the last 1,000 flags, as (number of the step, flag); what begins is also logged as a warning by
            ``logging.getLogger("drigm.deploy")``.
        flags: those of the last step.
        watchdog: see `Watchdog`.
    """

    def __init__(
        self,
        network: Network | OnnxNetwork,
        contract: Mapping[str, Any],
        *,
        clock: Callable[[], float] = time.monotonic,
        on_flag: Callable[[Flag], Any] | None = None,
    ) -> None:
        self.network = NumpyNetwork(network) if isinstance(network, Network) else network
        self.contract, self.name, self.on_flag = contract, str(contract["agent"]), on_flag
        actions, safety = contract["actions"], contract["safety"]
        self.first, self.count, self.idle = actions["first"], actions["count"], actions["idle"] - actions["first"]
        self.guard, self.fallback = Guard(contract["readings"], safety), Fallback.of(contract)
        self.watchdog = Watchdog(safety["late_seconds"], clock)
        self.log: deque[tuple[int, Flag]] = deque(maxlen=KEPT)
        self.flags: tuple[Flag, ...] = ()
        self.reset()

    def reset(self, batch: int | None = None) -> None:
        """Begin a new episode, or ``batch`` parallel ones (None: one, or as many as the first observation has rows).

        Raises:
            ValueError: ``batch`` is no whole number from 1.
        """
        if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int | np.integer) or batch < 1):
            raise ValueError(f"batch: a whole number from 1 is needed, not {batch!r:.80}")
        self.batch, self.rows, self.steps = batch, 0, 0
        self.since: dict[tuple[str, str | None, int], int] = {}
        self.watchdog.rest()

    def act(self, observation: Any, available: Any = None, *, previous: Any = None, stamp: Any = None) -> Any:
        """Return the action at this step (of a batch: [B] int32), as the environment counts actions; see `step`."""
        return self.step(observation, available, previous=previous, stamp=stamp).action

    def step(self, observation: Any, available: Any = None, *, previous: Any = None, stamp: Any = None) -> Decision:
        """Return the action at this step, and what was wrong; it never raises.

        Args:
            observation: readings [O] in physical units, in the contract's order, or a mapping of their names; [B, O]
                for a batch. PettingZoo's ``{"observation": ..., "action_mask": ...}`` will do too.
            available: which actions can be taken now, [A] or [B, A]; None: all.
            previous: the action that was really taken since the last step, where it was not this agent's.
            stamp: a time or a number of the measurement: where it does not change, the readings are not new.
        """
        observation, available = _unwrapped(observation, available)
        if self.rows == 0:
            self._begin(observation)
        flags = [Flag("late")] if self.watchdog.feed() else []
        values, kinds, lost = self.guard.check(observation, stamp)
        last = self._last(previous, flags)
        mask = self._mask(available, flags)
        with np.errstate(all="ignore"):
            action, finite = self.network.step(values, last, mask, self.keep)
        broken = ~finite
        falls = np.asarray(lost.any(axis=-1) | broken)
        if falls.any() or self.fell:
            other = self.fallback.act(values, lost, falls)
            action, self.fell = np.where(falls, possible(other, mask, self.idle), action), bool(falls.any())
        # A network that did not decide starts anew when it does: it has not seen what has happened since.
        self.keep = (~falls)[:, None].astype(np.float32)
        self.last = action.astype(np.int64)
        self._note(flags, kinds, falls, broken)
        if self.batch is None:
            return Decision(int(action[0]) + self.first, self.flags, bool(falls[0]))
        return Decision((action + self.first).astype(np.int32), self.flags, falls)

    def q_values(self) -> np.ndarray:
        """Return the values of all actions at the last step, [A] or [B, A] float32, as the network sees them."""
        if self.rows == 0:
            return np.full(self.count, np.nan, np.float32)
        values = self.network.q_values()
        return values[0] if self.batch is None else values

    def try_out(self) -> None:
        """Raise ValueError unless the network fits the readings and the actions."""
        self.network.try_out(len(self.guard.names), self.count)

    def _begin(self, observation: Any) -> None:
        """Make room for as many rows as `reset` or the first observation says."""
        try:
            seen = as_array(observation)
            shape = seen.shape if isinstance(seen, np.ndarray) else ()
        except Exception:  # as of a reading
            shape = ()
        if self.batch is None and len(shape) == 2 and shape[0] > 0 and shape[1] == len(self.guard.names):
            self.batch = shape[0]
        self.rows = self.batch or 1
        self.guard.reset(self.rows)
        self.fallback.reset(self.rows)
        self.network.reset(self.rows)
        self.keep, self.fell = np.zeros((self.rows, 1), np.float32), False
        self.last = np.full(self.rows, NO_ACTION)
        self.mask: np.ndarray | None = None

    def _last(self, previous: Any, flags: list[Flag]) -> np.ndarray:
        """Return the previous actions [B]."""
        if previous is None:
            return self.last
        try:
            given = np.asarray(previous)
            right = given.dtype.kind in "iu" and given.size == self.rows
            if right and ((given >= self.first) & (given < self.first + self.count)).all():
                taken = given.reshape(self.rows).astype(np.int64) - self.first
                return np.where(self.last == NO_ACTION, NO_ACTION, taken)
        except Exception:  # as of a reading
            pass
        flags.append(Flag("previous"))
        return self.last

    def _mask(self, available: Any, flags: list[Flag]) -> np.ndarray:
        """Return the available actions [B, A]: what is given, else those of the step before, else the idle one."""
        shape = (self.rows, self.count)
        if available is None:
            return np.ones(shape, bool)
        mask = allowed(available, shape)
        if mask is None:
            flags.append(Flag("mask"))
            mask = np.tile(np.arange(self.count) == self.idle, (self.rows, 1)) if self.mask is None else self.mask
        self.mask = mask
        return mask

    def _note(self, flags: list[Flag], kinds: np.ndarray, falls: np.ndarray, broken: np.ndarray) -> None:
        """Count the flags of this step, keep them, and say what is new among them."""
        found = list(flags)
        for row in np.flatnonzero(kinds.any(axis=1) | falls):
            bad = kinds[row]
            if len(bad) > 1 and (bad == bad[0]).all():
                found += [Flag(KINDS[bad[0]], None, 0, int(row))] if bad[0] else []
            else:
                found += [Flag(KINDS[bad[i]], self.guard.names[i], 0, int(row)) for i in np.flatnonzero(bad)]
            found += [Flag("network", None, 0, int(row))] if broken[row] else []
            found += [Flag("fallback", None, 0, int(row))] if falls[row] else []
        before, self.since = self.since, {}
        for i, (kind, reading, _, row) in enumerate(found):
            steps = self.since[kind, reading, row] = before.get((kind, reading, row), 0) + 1
            found[i] = Flag(kind, reading, steps, row)
            self.log.append((self.steps, found[i]))
            if steps == 1:
                log.warning("%s, step %d: %s%s", self.name, self.steps, kind, f" of {reading}" if reading else "")
            if self.on_flag is not None:
                _call(self.on_flag, found[i])
        self.flags, self.steps = tuple(found), self.steps + 1


def _call(function: Callable[..., Any], *arguments: Any) -> None:
    """Call what the user gave; where it fails, that is logged, and the agent goes on."""
    try:
        function(*arguments)
    except Exception:
        log.exception("a function that drigm was given has failed")


def _unwrapped(observation: Any, available: Any) -> tuple[Any, Any]:
    """Return the readings and the mask of PettingZoo's ``{"observation": ..., "action_mask": ...}``."""
    try:
        if isinstance(observation, Mapping) and "observation" in observation:
            mask = observation.get("action_mask") if available is None else available
            return observation["observation"], mask
    except Exception:  # as of a reading
        return None, available
    return observation, available


def _by_agent(given: Any) -> dict[Any, Any]:
    """Return what a team was given, by agent; {} where it cannot be read."""
    try:
        return dict(given) if isinstance(given, Mapping) else {}
    except Exception:  # as of a reading
        return {}


def _masks_of(available: Any) -> tuple[dict[str, Any], Any]:
    """Return the masks by agents' names, and what an agent has that is not among them: all actions, or an odd mask."""
    if available is None:
        return {}, None
    try:
        if isinstance(available, Mapping):
            return {_name(key): mask for key, mask in dict(available).items()}, None
    except Exception:  # as of a reading
        pass
    return {}, "what is no mapping is nobody's mask, and flagged"


def _name(key: Any) -> str:
    """Return the name of the agent that a key stands for; an environment's ids may be any objects."""
    try:
        return str(key)
    except Exception:  # as of a reading
        return f"({type(key).__name__})"


class Team:
    """Trained agents that act together, each on its own memory; nothing passes from one to another.

    Attributes:
        agents: by name, in the order of training.
        flags: those of the last step, by agent; only of agents that have any.
    """

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        self.agents = dict(agents)

    def reset(self, batch: int | None = None) -> None:
        """Begin a new episode of all agents, or ``batch`` parallel ones."""
        for agent in self.agents.values():
            agent.reset(batch)

    def act(self, observations: Mapping[Any, Any], available: Mapping[Any, Any] | None = None) -> dict[Any, Any]:
        """Return the action of every agent that ``observations`` has; see `step`."""
        return {key: decision.action for key, decision in self.step(observations, available).items()}

    def step(self, observations: Mapping[Any, Any], available: Mapping[Any, Any] | None = None) -> dict[Any, Decision]:
        """Return what each agent decides, under the keys of ``observations``.

        Args:
            observations: of each agent that is there, by its name or its id, as `Agent.step` takes them. Where agents
                may leave, one that is not among them is not stepped; elsewhere its readings are missing. One that the
                team does not have is left out, with a warning.
            available: which actions each can take; None, or an agent that is not in it: all.
        """
        seen = _by_agent(observations)
        masks, others = _masks_of(available)
        known = {_name(key) for key in seen}
        seen |= {name: None for name, one in self.agents.items() if name not in known and not one.contract["leaves"]}
        found = {}
        for key, observation in seen.items():
            agent = self.agents.get(_name(key))
            if agent is None:
                log.warning("the team has no agent %r; it has %s", _name(key), ", ".join(self.agents))
            else:
                found[key] = agent.step(observation, masks.get(agent.name, others))
        return found

    @property
    def flags(self) -> dict[str, tuple[Flag, ...]]:
        """The flags of each agent's last step."""
        return {name: agent.flags for name, agent in self.agents.items() if agent.flags}


def check_safety(safety: Mapping[str, Any], contract: Mapping[str, Any]) -> str:
    """Return what is wrong with what an agent shall do on bad input, as a clause; "" if nothing."""
    actions, fallback = contract["actions"], safety.get("fallback")
    known = {"hold_steps", "stale_steps", "late_seconds", "fallback"}
    if set(safety) != known:
        return f"safety has {', '.join(sorted(known))}, not {', '.join(sorted(map(str, safety)))}"
    for name in ("hold_steps", "stale_steps"):
        if type(safety[name]) is not int or safety[name] < 0:
            return f"{name} is a whole number of steps from 0, not {safety[name]!r}"
    late = safety["late_seconds"]
    if late is not None and not (_is_number(late) and late > 0):
        return f"late_seconds is a number above 0, or null, not {late!r}"
    if not isinstance(fallback, Mapping) or fallback.get("kind") not in ("idle", "constant", "pi"):
        return f"fallback is a mapping whose kind is idle, constant or pi, not {fallback!r}"
    numbers = range(actions["first"], actions["first"] + actions["count"])
    if fallback["kind"] == "constant" and (
        type(fallback.get("action")) is not int or fallback["action"] not in numbers
    ):
        return f"a constant fallback has an action from {numbers[0]} to {numbers[-1]}, not {fallback.get('action')!r}"
    if fallback["kind"] == "pi":
        if actions["values"] is None:
            return "a pi fallback needs actions that are levels of one quantity"
        reading = fallback.get("reading")
        if type(reading) is not int or reading not in range(len(contract["readings"])):
            return f"a pi fallback has the index of a reading, not {reading!r}"
        if not all(_is_number(fallback.get(name)) for name in ("setpoint", "kp", "ki")):
            return "a pi fallback has the numbers setpoint, kp and ki"
    return ""


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) <= LARGEST
