"""Exported agents from their files: arrays without pickle, each beside its contract, checked before it is used."""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from drigm.agents.numpy_network import Network
from drigm.deployment.agent import Agent, Team, check_safety
from drigm.deployment.guard import Flag
from drigm.deployment.step import OnnxNetwork

SCHEMA = "drigm-agent/1"  # of the contract; a reader refuses what it does not know
FLAGS = {"kept", "velocity"}  # fields of `Network` that are no arrays
MAX_CONTRACT = 16_000_000  # bytes


class LoadError(ValueError):
    """An exported agent cannot be loaded; the message is one sentence."""


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def load_agent(
    path: str | Path,
    agent: str | None = None,
    *,
    safety: Mapping[str, Any] | None = None,
    clock: Callable[[], float] = time.monotonic,
    on_flag: Callable[[Flag], Any] | None = None,
) -> Agent:
    """Return an agent that ``drigm export`` wrote; one in ONNX needs ONNX Runtime beside NumPy.

    Args:
        path: the folder of the export, or one of the agent's two files.
        agent: its name; not needed where the folder has one alone.
        safety: what to do otherwise on bad input than the contract says, as in ``{"hold_steps": 5}``.
        clock: of the watchdog, in seconds.
        on_flag: called with every flag.

    Raises:
        LoadError: there is no such agent, a file is damaged, or ``safety`` makes no sense.
    """
    path = Path(path)
    if path.is_dir():
        found = contracts(path)
        names = [name for name in found if agent in (None, name)]
        if len(names) != 1:
            asked = "name one of its agents" if agent is None else f"it has no agent {agent!r}"
            raise LoadError(f"{path}: {asked}; it has {', '.join(found)}.")
        path = found[names[0]]
    contract = read_contract(path.with_suffix(".json"))
    if agent not in (None, contract["agent"]):
        raise LoadError(f"{path}: holds the agent {contract['agent']!r}, not {agent!r}.")
    try:
        _check_form(contract, path)
        contract = with_safety(contract, safety or {}, path)
        found = Agent(read_network(path.with_suffix(".json"), contract), contract, clock=clock, on_flag=on_flag)
        found.try_out()
    except LoadError:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise LoadError(f"{path}: its contract lacks something, or has it in another form ({error!r:.80}).") from None
    except ValueError:
        raise LoadError(f"{path}: its arrays are not those of an agent with these readings and actions.") from None
    return found


def load_team(path: str | Path, *, safety: Mapping[str, Any] | None = None) -> Team:
    """Return the team that ``drigm export`` wrote into the folder ``path``; see `load_agent`."""
    return Team({name: load_agent(file, name, safety=safety) for name, file in contracts(Path(path)).items()})


def contracts(folder: Path) -> dict[str, Path]:
    """Return the contracts in ``folder`` by the agents' names, in the team's order; `LoadError` if it has none."""
    files = sorted(folder.glob("*.json"))
    found = [(contract["index"], contract["agent"], file) for file in files for contract in [read_contract(file)]]
    if not found:
        raise LoadError(f"{folder}: holds no exported agents; drigm export writes them.")
    by_name = {name: file for _, name, file in sorted(found)}
    for _, name, file in found:
        if by_name[name] != file:  # whichever was taken, it might be the wrong one
            raise LoadError(f"{folder}: {file.name} and {by_name[name].name} are both of the agent {name!r}.")
    return by_name


def read_contract(file: Path) -> dict[str, Any]:
    """Return the contract in ``file``; `LoadError` if it is none, or not what was written."""
    try:
        with open(file, "rb") as opened:
            data = opened.read(MAX_CONTRACT + 1)
        contract = json.loads(data) if len(data) <= MAX_CONTRACT else None
    except OSError as error:
        raise LoadError(f"{file}: cannot be read ({error.strerror or error}).") from None
    except (ValueError, RecursionError):
        contract = None
    if not isinstance(contract, dict) or not str(contract.get("schema", "")).startswith("drigm-agent/"):
        raise LoadError(f"{file}: is no contract of an exported agent.")
    if contract["schema"] != SCHEMA:
        raise LoadError(f"{file}: has the schema {contract['schema']!r:.80}, but this version reads {SCHEMA}.")
    if contract.get("sha256") != digest({key: value for key, value in contract.items() if key != "sha256"}):
        raise LoadError(f"{file}: is damaged; its checksum is not that of its content.")
    if not isinstance(contract.get("agent"), str) or type(contract.get("index")) is not int:
        raise LoadError(f"{file}: its contract lacks the agent's name and index, or has them in another form.")
    return contract


def network_file(file: Path, contract: Mapping[str, Any]) -> Path:
    """Return the network's file beside the contract ``file``; `LoadError` if that would be one somewhere else."""
    name = contract["network"]["file"]
    if not isinstance(name, str) or name != Path(name).name or "\\" in name:
        raise LoadError(f"{file}: its network is {name!r:.80}, which is no file beside it.")
    return file.with_name(name)


def _check_form(contract: Mapping[str, Any], where: object) -> None:
    """Raise `LoadError`, or what `load_agent` makes one, where something would fail in the middle of an episode."""
    first, count, idle, values = (contract["actions"][name] for name in ("first", "count", "idle", "values"))
    if any(type(x) is not int for x in (first, count, idle)) or not first <= idle < first + count:
        raise LoadError(f"{where}: its idle action is {idle!r:.80}, which is none of its {count!r:.80} actions.")
    if values is not None and (len(values) != count or not np.isfinite(np.array(values, np.float64)).all()):
        raise LoadError(f"{where}: its actions have other levels than a finite number for each of them.")
    if type(contract["leaves"]) is not bool or type(contract["trained"]["seed"]) is not int:  # what a team asks for
        raise LoadError(f"{where}: its contract has no truth value for leaves, or no whole number for trained.seed.")


def with_safety(contract: Mapping[str, Any], changes: Mapping[str, Any], where: object) -> dict[str, Any]:
    """Return ``contract`` with ``changes`` of what to do on bad input; `LoadError` where they make no sense."""
    safety = {**contract["safety"], **changes}
    if wrong := check_safety(safety, contract):
        raise LoadError(f"{where}: {wrong}.")
    return {**contract, "safety": safety}


def read_network(file: Path, contract: Mapping[str, Any]) -> Network | OnnxNetwork:
    """Return the network beside the contract ``file``; `LoadError` if it is not that of the contract."""
    said = contract["network"]
    weights = network_file(file, contract)
    try:
        data = weights.read_bytes()
    except OSError as error:
        raise LoadError(f"{weights}: cannot be read ({error.strerror or error}).") from None
    if hashlib.sha256(data).hexdigest() != said["sha256"]:
        raise LoadError(f"{weights}: is damaged, or not the file that the contract was written for.")
    try:
        if said["format"] == "onnx":
            return OnnxNetwork(data)
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return unpacked(arrays)
    except ImportError:
        message = "needs ONNX Runtime, which is missing; pip install onnxruntime, or export with --format npz"
        raise LoadError(f"{weights}: {message}.") from None
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise LoadError(f"{weights}: cannot be read ({' '.join(str(error).split())[:200]}).") from None


def packed(network: Network) -> dict[str, np.ndarray]:
    """Return the arrays that stand for ``network`` in a file."""
    arrays = {name: np.asarray(x) for name, x in network._asdict().items() if name not in FLAGS and x is not None}
    kept = {} if network.kept is None else {"kept": np.array(network.kept, np.int64)}
    return arrays | kept | {"velocity": np.array(network.velocity)}


def unpacked(arrays: Mapping[str, Any]) -> Network:
    """Return the network that `packed` stands for."""
    found = {name: np.asarray(arrays[name]) if name in arrays else None for name in Network._fields}
    kept, velocity = found.pop("kept"), found.pop("velocity")
    return Network(**found, kept=None if kept is None else tuple(map(int, kept)), velocity=bool(velocity))  # type: ignore[arg-type]
