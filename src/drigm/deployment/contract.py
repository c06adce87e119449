"""The contract of an exported agent: what it reads, what its actions mean, what it does on bad input, how good it is.

It is one JSON object beside each agent's network, because a device needs its own agent's two files and nothing of the
others. Its JSON Schema is ``contract.schema.json`` in this folder; its version is `drigm.deployment.files.SCHEMA`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from drigm.agents.numpy_network import NO_ACTION, Network
from drigm.agents.pi import HAND_PICKED
from drigm.core.config import TrainConfig
from drigm.core.defaults import HOLD_STEPS, STALE_STEPS
from drigm.core.errors import UserError, check, shown
from drigm.core.naming import method_name
from drigm.core.types import Described, EnvSpec
from drigm.deployment.agent import check_safety
from drigm.deployment.files import SCHEMA, digest
from drigm.deployment.networks import own_readings
from drigm.envs.subprocess.source import SOURCE_KINDS

LATE_STEPS = 2  # where the user says nothing else
NOTHING = Described()
HELD = "The last good value stands in for it for hold_steps steps; then, or where there was none, the fallback decides."
RULES = {
    "missing": HELD,
    "nan": HELD,
    "size": HELD,
    "type": HELD,
    "range": HELD,
    "stale": "A reading without a new value for stale_steps steps counts as bad from then on: by its stamp, where "
    "stamps are given, else by its value, if the reading's `stale` is true. " + HELD,
    "mask": "Available actions that cannot be read, or allow nothing, are those of the step before, else the idle one.",
    "previous": "A previous action that the agent does not have is ignored; its own stands.",
    "network": "Where the network gives no finite number, the fallback decides.",
    "late": "The agent was not stepped for late_seconds; it acts as usual. The watchdog says it while it lasts.",
    "fallback": "The fallback decides: the idle action, a constant one, or PI on its reading while that is good. When "
    "all readings are good again the network decides, with its memory cleared and the last action kept.",
}


def make_contract(
    agent: int, network: Network, spec: EnvSpec, config: TrainConfig, seed: int, safety: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the contract of an agent, without what an export adds: network file, parity, scores, checksum.

    Args:
        agent: its place in the team.
        network: its own.
        spec: of the environment that it was trained in.
        config: the run's settings.
        seed: of the run.
        safety: what to do on bad input, where that is not the default: ``hold_steps``, ``stale_steps``,
            ``late_seconds`` and ``fallback`` (a mapping with a kind, or ``"pi"`` for PI with hand-picked gains).

    Raises:
        UserError: ``safety`` makes no sense for this agent.
    """
    said = spec.described or NOTHING
    first = 0 if said.first_actions is None else said.first_actions[agent]
    idle = spec.idle_action if spec.idle_action < _count(network) else 0
    contract: dict[str, Any] = {
        "schema": SCHEMA,
        "drigm": version("drigm"),
        "agent": spec.agents[agent],
        "index": agent,
        "team": list(spec.agents),
        "readings": _readings(agent, network, spec, said),
        "actions": {
            "count": _count(network),
            "first": first,
            "idle": idle + first,
            "names": list(said.actions[: _count(network)]) or None,
            "values": _values(spec, _count(network)),
            "meaning": said.levels or None,
            "masked": spec.masks_actions,
        },
        "memory": _memory(network),
        "leaves": spec.agents_die,
        "step": {"seconds": said.step_seconds, "episode_steps": spec.episode_limit},
        "trained": _trained(config, seed),
        "rules": RULES,
    }
    contract["safety"] = _safety(agent, spec, said, contract, safety or {})
    if wrong := check_safety(contract["safety"], contract):
        raise UserError(f"safety: {wrong}.")
    return contract


def sealed(contract: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``contract`` with its checksum."""
    content = {key: value for key, value in contract.items() if key != "sha256"}
    return {**content, "sha256": digest(content)}


def _count(network: Network) -> int:
    return int(network.head.shape[-1] if network.levels is None else network.levels.shape[-1])


def _values(spec: EnvSpec, count: int) -> list[float] | None:
    return None if spec.action_values is None else [float(x) for x in spec.action_values[:count]]


def _readings(agent: int, network: Network, spec: EnvSpec, said: Described) -> list[dict[str, Any]]:
    """Describe each reading; ``stale`` is set by an export, which knows whether the reading ever stands still."""
    names = said.readings[agent] if said.readings else ()
    units = said.units[agent] if said.units else ()
    own = own_readings(spec, agent)
    taken = [names[i] if i < len(names) and names[i] else f"reading {i}" for i in own]
    unique = [name if taken.count(name) == 1 else f"{name} ({i})" for i, name in zip(own, taken, strict=True)]
    return [
        {
            "name": name,
            "unit": (units[i] if i < len(units) else "") or None,
            "low": _finite(None if said.low is None else said.low[agent, i]),
            "high": _finite(None if said.high is None else said.high[agent, i]),
            "offset": float(network.offset[0, k]),
            "scale": float(network.scale[0, k]),
            "stale": False,
        }
        for k, (i, name) in enumerate(zip(own, unique, strict=True))
    ]


def _finite(x: Any) -> float | None:
    return None if x is None or not math.isfinite(x) else float(x)


def _memory(network: Network) -> list[dict[str, Any]]:
    """Name what an agent carries from step to step, and what it is before the first."""
    width = network.recurrent.shape[-2]
    found = [{"name": name, "shape": [width], "type": "float32", "reset": 0} for name in ("hidden", "cell")]
    if network.kept is not None:
        size = network.offset.shape[-1] + (network.levels is not None) + 1
        found.append({"name": "previous", "shape": [size], "type": "float32", "reset": 0})
    return [*found, {"name": "last_action", "shape": [], "type": "int64", "reset": NO_ACTION}]


def _trained(config: TrainConfig, seed: int) -> dict[str, Any]:
    kind, colon, name = config.env.partition(":")
    return {
        "env": kind + colon + (name.rpartition("/")[2] if kind in SOURCE_KINDS else name),  # without folders
        "method": method_name(config),
        "seed": seed,
        "steps": config.steps,
        "gamma": config.gamma,
        "perturb": config.perturb or None,
        "worlds": config.worlds or None,
        "alpha": config.alpha,
    }


def _safety(
    agent: int, spec: EnvSpec, said: Described, contract: Mapping[str, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
    late = None if said.step_seconds is None else LATE_STEPS * said.step_seconds
    safety = {"hold_steps": HOLD_STEPS, "stale_steps": STALE_STEPS, "late_seconds": late, "fallback": {"kind": "idle"}}
    safety |= changes
    if safety["fallback"] == "pi":
        message = "the environment says nothing that a PI controller could hold; give idle or constant:ACTION"
        check(spec.regulated is not None and contract["actions"]["values"] is not None, "fallback", "pi", message)
        assert spec.regulated is not None
        kp, ki = HAND_PICKED
        setpoint = float(spec.regulated.setpoint[agent])
        safety["fallback"] = {"kind": "pi", "reading": spec.regulated.reading, "setpoint": setpoint, "kp": kp, "ki": ki}
    elif isinstance(safety["fallback"], str):
        check(safety["fallback"] == "idle", "fallback", safety["fallback"], "give idle, pi or a mapping with a kind")
        safety["fallback"] = {"kind": "idle"}
    return safety


def parse_fallback(text: str) -> Any:
    """Return the fallback that ``idle``, ``pi`` or ``constant:ACTION`` names, for `make_contract`."""
    kind, _, rest = text.partition(":")
    try:
        if kind == "constant":
            return {"kind": "constant", "action": int(rest)}
        if text in ("idle", "pi"):
            return text
    except ValueError:
        pass
    raise UserError(f"fallback: {shown(text)} is not allowed; give idle, pi or constant:ACTION.")


def with_play(contract: Mapping[str, Any], rounds: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Return ``contract`` with what the simulator's own readings say about the limits of good ones.

    A bound that the simulator itself leaves is none; a reading counts as stale by its value only where it never stood
    still for half as long in the simulator.

    Args:
        contract: of the agent.
        rounds: of whole episodes: the agent's readings [T, B, O], and where it took part [T, B].
    """
    seen = np.concatenate([obs[there] for obs, there in rounds])
    still = np.max([_longest_still(obs, there) for obs, there in rounds], axis=0)
    moves = bool(len(seen)) & (2 * still <= contract["safety"]["stale_steps"])
    readings = []
    for i, one in enumerate(contract["readings"]):
        low, high, x = one["low"], one["high"], seen[:, i]
        low = None if low is None or (x < low).any() else low
        high = None if high is None or (x > high).any() else high
        readings.append({**one, "low": low, "high": high, "stale": bool(moves[i])})
    return {**contract, "readings": readings}


def _longest_still(obs: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return for how many steps in a row each reading [O] did not change, at most."""
    longest = now = np.zeros(obs.shape[1:], np.int64)  # [B, O]
    for t in range(1, len(obs)):
        now = np.where((obs[t] == obs[t - 1]) & (there[t] & there[t - 1])[:, None], now + 1, 0)
        longest = np.maximum(longest, now)
    return longest.max(axis=0, initial=0)


def lost_bounds(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of readings whose declared bounds the simulator itself leaves."""
    return [a["name"] for a, b in zip(before, after, strict=True) if (a["low"], a["high"]) != (b["low"], b["high"])]
