"""``drigm export``: every agent of a run as a file and a contract, written only if it acts as the trainer's does."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents.numpy_network import Network
from drigm.core.defaults import FORMATS, PARITY_STEPS
from drigm.core.errors import UserError, check, choose, warn
from drigm.deployment.agent import Agent
from drigm.deployment.contract import lost_bounds, make_contract, sealed, with_play
from drigm.deployment.files import packed, unpacked
from drigm.deployment.load import opened, seed_arrays
from drigm.deployment.networks import own_actions, own_readings, team_networks
from drigm.deployment.onnx_graph import IR, OPSET, load_onnx, make_model
from drigm.deployment.parity import TIE, Compared, Slice, compared, slice_of, step_of
from drigm.deployment.recording import recorded
from drigm.deployment.runtime_file import NAME as RUNTIME_NAME
from drigm.deployment.runtime_file import runtime_source
from drigm.deployment.step import OnnxNetwork
from drigm.deployment.stored_scores import stored_scores
from drigm.runtime.devices import use_cores
from drigm.runtime.files import file_errors, make_folder, write_text
from drigm.runtime.progress import Progress
from drigm.training.runs import Run

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Exported(NamedTuple):
    """An agent on its way into files."""

    network: Network
    contract: dict[str, Any]
    data: bytes  # of the network's file


def export(
    run: Run,
    seed: int | None = None,
    format: str = "npz",
    out: str | Path | None = None,
    *,
    with_runtime: bool = False,
    steps: int = PARITY_STEPS,
    safety: Mapping[str, Any] = NOTHING,
    quiet: bool = False,
) -> Path:
    """Write every agent of ``run`` as a network and a contract, and return the folder.

    Before anything stands there, the trainer's own networks play whole episodes, and the files' agents decide beside
    them on the same observations.

    Args:
        run: a finished run.
        seed: of the run; by default its first.
        format: ``npz``, for NumPy, or ``onnx``, for ONNX Runtime.
        out: a folder that is empty or not there; by default ``export/seed_K-FORMAT`` in the run's.
        with_runtime: copy the runtime beside them, one file that needs NumPy alone (or ONNX Runtime too).
        steps: environment steps to compare, at least.
        safety: what the agents do on bad input, see `drigm.deployment.contract.make_contract`.
        quiet: show no progress.

    Raises:
        UserError: the run has no such seed, the folder is taken, onnx is missing, or an exported agent decides
            otherwise than the trainer's; nothing is left of the export then.
    """
    choose("format", format, FORMATS)
    check(steps > 0, "steps", steps, "give a number above 0")
    if format == "onnx":
        load_onnx()
        _require_onnxruntime()
    use_cores()
    found = opened(run)
    networks = team_networks(seed_arrays(found, seed), found.spec, found.config)
    seed = run.seeds[0] if seed is None else seed
    folder = run.path / "export" / f"seed_{seed}-{format}" if out is None else Path(out)
    taken = folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))
    check(folder.name not in ("", ".."), "out", str(folder), "name a folder that is not there yet")
    check(not taken, "out", str(folder), "it is not empty; give another folder, or remove it")
    contracts = [
        make_contract(n, network, found.spec, found.config, seed, safety) for n, network in enumerate(networks)
    ]
    seen = _play(run, seed, networks, steps, quiet)
    if run.env.subprocess is not None:  # whose limit is only a hint
        longest = max(int(part.there.sum(axis=0).max()) for slices in seen for part in slices)
        contracts = [{**one, "step": {**one["step"], "episode_steps": longest}} for one in contracts]
    scores = stored_scores(run, seed)
    agents = [
        _compared(network, {**contract, "evaluated": scores}, slices, format)
        for network, contract, slices in zip(networks, contracts, seen, strict=True)
    ]
    _write(folder, agents, with_runtime)
    return folder


def _play(run: Run, seed: int, networks: list[Network], steps: int, quiet: bool) -> list[list[Slice]]:
    """Return what each agent saw and did in rounds of whole episodes."""
    spec = run.env.spec
    place = run.seeds.index(seed)
    trained = jax.tree.map(lambda x: jnp.asarray(x)[place], run.weights().agents)
    rounds, done = [], 0
    with Progress(f"{steps:,} steps of the trainer's agents", steps, quiet=quiet) as progress:
        for found in recorded(run.env, trained, steps):
            rounds.append(found)
            done += found.steps
            progress.update(min(done, steps))
    return [
        [slice_of(found, n, own_readings(spec, n), own_actions(spec, n)) for found in rounds]
        for n in range(len(networks))
    ]


def _compared(network: Network, contract: dict[str, Any], seen: list[Slice], format: str) -> Exported:
    """Return the agent as a file's bytes, with the comparison in its contract; `UserError` where it differs."""
    name = contract["agent"]
    declared = contract["readings"]
    contract = with_play(contract, [(part.obs, part.there) for part in seen])
    if lost := lost_bounds(declared, contract["readings"]):
        warn(f"{name}: the environment itself leaves the bounds of {', '.join(lost[:4])}; there they are not checked.")
    data, about = _onnx(network, contract) if format == "onnx" else (_npz(network), {})
    parity: dict[str, Any] = {"tie": TIE}
    acting: dict[str, Network | OnnxNetwork]
    if format == "onnx":
        acting = {"numpy": network, "onnx": OnnxNetwork(data)}
    else:
        acting = {"numpy": unpacked(np.load(io.BytesIO(data), allow_pickle=False))}
    for runtime, stored in acting.items():
        total = Compared()
        for part in seen:
            total = total.plus(compared(part, step_of(_quiet_agent(stored, contract), part.obs.shape[1])))
        _refuse(name, runtime, total)
        parity[runtime] = {key: value for key, value in total._asdict().items() if key != "flagged"}
    file = {"file": "", "format": format, "sha256": hashlib.sha256(data).hexdigest(), **about}
    return Exported(network, {**contract, "network": file, "parity": parity}, data)


def _refuse(name: str, runtime: str, total: Compared) -> None:
    """Raise `UserError` unless an agent passes."""
    message = (
        f"at {total.flagged} of {total.steps} steps it finds fault with the simulator's readings, or its own values"
    )
    check(total.flagged == 0, "export", name, message)
    message = f"{total.differing} of its {total.steps} decisions in {runtime} are not those of the trainer's agent"
    check(total.differing == 0, "export", name, message)
    message = (
        f"its values in {runtime} are not finite, or differ from the trainer's by {total.largest_q_difference:.3g}"
    )
    check(np.isfinite(total.largest_q_difference), "export", name, message)


def _quiet_agent(network: Network | OnnxNetwork, contract: dict[str, Any]) -> Agent:
    """Return an agent whose watchdog sleeps: the comparison is no control loop."""
    return Agent(network, {**contract, "safety": {**contract["safety"], "late_seconds": None}})


def _npz(network: Network) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **packed(network))
    return buffer.getvalue()


def _onnx(network: Network, contract: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    model = make_model(network, contract["agent"])
    inputs, outputs = ([one.name for one in side] for side in (model.graph.input, model.graph.output))
    return model.SerializeToString(), {"opset": OPSET, "ir": IR, "inputs": inputs, "outputs": outputs}


def _require_onnxruntime() -> None:
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        raise UserError('onnxruntime: the package is missing; pip install "drigm[onnx]".') from None


def _write(folder: Path, agents: list[Exported], with_runtime: bool) -> None:
    """Write all files; ``folder`` is there with all of them, or as it was."""
    stems = file_names([agent.contract["agent"] for agent in agents])
    with _replacing(folder) as temporary:
        for stem, agent in zip(stems, agents, strict=True):
            network = agent.contract["network"]
            network["file"] = f"{stem}.{network['format']}"
            with file_errors(temporary / network["file"]):
                (temporary / network["file"]).write_bytes(agent.data)
            write_text(temporary / f"{stem}.json", json.dumps(sealed(agent.contract), indent=1, allow_nan=False))
        if with_runtime:
            write_text(temporary / RUNTIME_NAME, runtime_source().removesuffix("\n"))


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Yield a folder beside ``folder`` that takes its place at the end, or is removed if the block fails."""
    temporary = folder.with_name(folder.name + ".part")
    make_folder(folder.parent)
    shutil.rmtree(temporary, ignore_errors=True)
    make_folder(temporary)
    try:
        yield temporary
        with file_errors(folder):
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def file_names(agents: list[str]) -> list[str]:
    """Return a name for the files of each agent, which any file system takes, each another."""
    names = list[str]()
    for agent in agents:
        plain = re.sub(r"[^\w.=-]+", "-", agent, flags=re.ASCII).strip("-.")[:80] or "agent"
        name, number = plain, 2
        while name.lower() in ("config", *(taken.lower() for taken in names)):  # config.json is what a run has
            name, number = f"{plain}-{number}", number + 1
        names.append(name)
    return names
