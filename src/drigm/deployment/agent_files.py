"""The agents of a run, or of an export, as files that each agent's own process loads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from drigm.core.errors import UserError
from drigm.deployment.agent import Team
from drigm.deployment.contract import sealed
from drigm.deployment.files import LoadError, contracts, packed, read_contract
from drigm.deployment.load import load_team
from drigm.deployment.step import NumpyNetwork
from drigm.runtime.files import make_folder, write_text
from drigm.training.runs import Run


class Files(NamedTuple):
    """Agents by name, in the team's order: where each one's contract lies, and what stands in it."""

    paths: dict[str, Path]
    contracts: dict[str, dict[str, Any]]

    def only(self, names: list[str]) -> Files:
        """Return those of ``names``."""
        return Files({name: self.paths[name] for name in names}, {name: self.contracts[name] for name in names})


@contextmanager
def agent_files(source: Run | Path, seed: int | None = None) -> Iterator[Files]:
    """Yield the files of every agent of ``source``; those of a run are gone at the end of the block.

    Each agent of a run has a folder of its own, so that its process is told of no other.

    Args:
        source: a finished run, or the folder that ``drigm export`` wrote.
        seed: of the run; of an export the one that it has.

    Raises:
        UserError: there is no such seed, or a file is damaged.
    """
    team = load_team(source, seed)  # whatever is wrong with them is said here, in one sentence
    if isinstance(source, Path):
        try:
            paths = contracts(source) if source.is_dir() else {next(iter(team.agents)): source.with_suffix(".json")}
            yield Files(paths, {name: read_contract(path) for name, path in paths.items()})
        except LoadError as error:
            raise UserError(str(error)) from None
        return
    with TemporaryDirectory(prefix="drigm-agents-") as folder:
        yield write_agents(team, Path(folder))


def write_agents(team: Team, folder: Path) -> Files:
    """Write the agents of ``team`` below ``folder``, each into a folder of its own, without comparing anything."""
    paths, found = dict[str, Path](), dict[str, dict[str, Any]]()
    for number, (name, agent) in enumerate(team.agents.items()):
        own = folder / str(number)
        make_folder(own)
        assert isinstance(agent.network, NumpyNetwork)  # runs have weights, and no graph
        np.savez(own / "agent.npz", allow_pickle=False, **packed(agent.network.arrays))
        digest = hashlib.sha256((own / "agent.npz").read_bytes()).hexdigest()
        network = {"file": "agent.npz", "format": "npz", "sha256": digest}
        found[name] = sealed({**agent.contract, "network": network, "evaluated": [], "parity": {}})
        paths[name] = own / "agent.json"
        write_text(paths[name], json.dumps(found[name], allow_nan=False))
    return Files(paths, found)
