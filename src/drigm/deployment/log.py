"""The log of a team in the loop: JSON lines, a header and then a line for each step, written as they happen.

Version ``drigm-log/1``. The header::

    {"schema": "drigm-log/1", "drigm": "0.1.0", "started": "2026-01-31T12:00:00Z", "env": "building:OfficeSmall/Tucson",
     "team": "runs/mine", "seed": 0, "controller": null, "rate": null, "perturb": {"obs_noise": 0.1},
     "step_seconds": 300.0, "has_wins": false,
     "agents": [{"name": "CORE_ZN", "readings": [{"name": ..., "unit": ...}], "actions": {...},
                 "setpoint": {"reading": 0, "value": 22.0}}]}

``controller`` is who drove in shadow mode, ``actions`` as in the agent's contract, ``setpoint`` null where there is
none. A line::

    {"episode": 0, "step": 0, "reward": -0.02, "agents": {"CORE_ZN": {"readings": [22.4, ...], "action": 101,
     "flags": [{"kind": "nan", "reading": "zone temperature", "steps": 1}], "fallback": false}}}

A reading of null was no finite number. In shadow mode ``action`` is the controller's and ``would`` what the agent would
have done. ``state`` is there for buildings. The last step of an episode has ``"end": {"return", "score", "won"}``.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NamedTuple, Self

from drigm.core.errors import UserError, check
from drigm.deployment.loop import AgentStep, End, LoopStep
from drigm.deployment.words import flag_rows, flags_of
from drigm.envs.api import Environment
from drigm.runtime.files import FileError, file_errors, make_folder, read_text

SCHEMA = "drigm-log/1"  # a reader refuses what it does not know


class Log(NamedTuple):
    """A log that was read."""

    header: dict[str, Any]
    steps: list[LoopStep]


def header_of(
    env: Environment,
    contracts: Mapping[str, Mapping[str, Any]],
    *,
    env_id: str,
    team: str,
    controller: str | None = None,
    rate: float | None = None,
    perturb: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the first line of a log of the agents of ``contracts``, in the environment's order."""
    agents = [contracts[name] for name in env.spec.agents]
    return {
        "schema": SCHEMA,
        "drigm": version("drigm"),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "env": env_id,
        "team": team,
        "seed": agents[0]["trained"]["seed"],
        "controller": controller,
        "rate": rate,
        "perturb": dict(perturb),
        "step_seconds": agents[0]["step"]["seconds"],
        "has_wins": env.spec.has_wins,
        "agents": [
            {
                "name": one["agent"],
                "readings": [{"name": reading["name"], "unit": reading["unit"]} for reading in one["readings"]],
                "actions": one["actions"],
                "setpoint": _setpoint(env, n, one),
            }
            for n, one in enumerate(agents)
        ],
    }


def _setpoint(env: Environment, agent: int, contract: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return which reading an agent holds where; None where the environment does not say."""
    held = env.spec.regulated
    if held is None or held.reading >= len(contract["readings"]):
        return None
    return {"reading": int(held.reading), "value": float(held.setpoint[agent])}


class Writer:
    """Writes a log line by line, so that whatever ends the process leaves all steps before it.

    Args:
        path: a file that is not there.
        header: its first line.

    Raises:
        UserError: the file is there, or cannot be written.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        make_folder(path.parent)
        check(not path.exists(), "log", str(path), "it is there already; give another name, or remove it")
        with file_errors(path):
            self.file: IO[str] = open(path, "x", encoding="utf-8", buffering=1)  # noqa: SIM115 (closed by `__exit__`)
        self._write(header)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        with file_errors(self.path):
            self.file.close()

    def add(self, step: LoopStep) -> None:
        """Write a step."""
        self._write(line_of(step))

    def _write(self, line: Mapping[str, Any]) -> None:
        with file_errors(self.path):
            self.file.write(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n")


def line_of(step: LoopStep) -> dict[str, Any]:
    """Return a step as a line's object."""
    line: dict[str, Any] = {
        "episode": step.episode,
        "step": step.step,
        "reward": _plain(step.reward),
        "agents": {name: _agent_line(one) for name, one in step.agents.items()},
    }
    if step.state is not None:
        line["state"] = [_plain(x) for x in step.state]
    if step.end is not None:
        end = step.end
        line["end"] = {"return": _plain(end.episode_return), "score": _plain(end.score), "won": end.won}
    return line


def _agent_line(one: AgentStep) -> dict[str, Any]:
    line = {"readings": one.readings, "action": one.action, "flags": flag_rows(one.flags), "fallback": one.fallback}
    return line if one.would is None else {**line, "would": one.would}


def _plain(x: float) -> float | None:
    return float(f"{x:.9g}") if math.isfinite(x) else None  # as a float32 is, so that nothing is lost


def is_log(path: Path) -> bool:
    """Return whether ``path`` is a file that begins as a log does, of whatever version."""
    try:
        with open(path, "rb") as file:
            return b'"schema":"drigm-log/' in file.read(200).replace(b" ", b"")
    except OSError:
        return False


def read_log(path: Path) -> Log:
    """Return the log in ``path``; a last line that was cut short is left out.

    Raises:
        UserError: it cannot be read, is of another version, or has no step.
    """
    lines = read_text(path).split("\n")
    rows = [line for line in lines[:-1] if line]  # what has no newline was not finished
    try:
        header = json.loads(rows[0]) if rows else None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or not str(header.get("schema", "")).startswith("drigm-log/"):
        raise FileError(f"{path}: is no log that drigm deploy wrote.")
    if header["schema"] != SCHEMA:
        raise FileError(f"{path}: has the schema {header['schema']!r:.80}, but this version reads {SCHEMA}.")
    if len(rows) == 1:
        raise FileError(f"{path}: has no steps.")
    steps, number = [], 1
    try:
        _check_header(header)
        for row in rows[1:]:
            number += 1
            steps.append(_step_of(json.loads(row)))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path}: line {number} is not as a log has it ({error!r:.80}).") from None
    return Log(header, steps)


def _check_header(header: Mapping[str, Any]) -> None:
    """Raise `KeyError`, `TypeError` or `ValueError` where something lacks that readers need."""
    _require(header, "env", "team", "controller", "has_wins", "seed", "started")
    for agent in header["agents"]:
        _require(agent, "name")
        for reading in agent["readings"]:
            _require(reading, "name", "unit")
        actions = agent["actions"]
        _require(actions, "first", "count", "names", "values", "meaning")
        for name in ("first", "count"):
            int(actions[name])
    for strength in header.get("perturb", {}).values():  # which the first logs did not have
        float(strength)
    if header["step_seconds"] is not None:
        float(header["step_seconds"])


def _require(found: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if name not in found:
            raise KeyError(name)


def _step_of(line: Mapping[str, Any]) -> LoopStep:
    end = line.get("end")
    return LoopStep(
        int(line["episode"]),
        int(line["step"]),
        _number(line["reward"]),
        {str(name): _agent_of(one) for name, one in line["agents"].items()},
        None if line.get("state") is None else [_number(x) for x in line["state"]],
        None if end is None else End(_number(end["return"]), _number(end["score"]), end["won"]),
    )


def _agent_of(line: Mapping[str, Any]) -> AgentStep:
    readings = [None if x is None else float(x) for x in line["readings"]]
    would = line.get("would")
    flags = flags_of(line["flags"])
    return AgentStep(
        readings, int(line["action"]), flags, bool(line["fallback"]), None if would is None else int(would)
    )


def _number(x: Any) -> float:
    return math.nan if x is None else float(x)
