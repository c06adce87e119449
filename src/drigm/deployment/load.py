"""Acting with a trained team in Python: from a run or from what ``drigm export`` wrote, without the trainer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from drigm.core.config import TrainConfig
from drigm.core.errors import UserError, as_path, check
from drigm.core.types import EnvSpec
from drigm.deployment import files
from drigm.deployment.agent import Agent, Team
from drigm.deployment.contract import make_contract
from drigm.deployment.networks import team_networks
from drigm.envs import SUBPROCESS_KINDS, make_env
from drigm.storage.checkpoint import load_arrays
from drigm.storage.run_directory import RunDirectory, seeds_of
from drigm.training.trust import Named, open_environment

if TYPE_CHECKING:  # it brings the trainer along, which acting does without
    from drigm.training.runs import Run

NOBODY = Named()


class Finished(NamedTuple):
    """A run as acting needs it."""

    directory: RunDirectory
    config: TrainConfig
    spec: EnvSpec


def load_team(
    run: str | Path | Run,
    seed: int | None = None,
    *,
    trust: bool = False,
    env: str = "",
    env_python: str = "",
    safety: Mapping[str, Any] | None = None,
) -> Team:
    """Return a trained team that acts: ``team.reset()``, then ``team.act({agent: observation})`` at every step.

    Each agent has its own memory, in NumPy; nothing is compiled and nothing passes between them.

    Args:
        run: a finished run, its path, or a folder that ``drigm export`` wrote.
        seed: of the run; by default its first.
        trust: whether what the run names may be imported and started, see `drigm.load_run`.
        env: the run's environment, named again, see `drigm.load_run`.
        env_python: its Python interpreter, likewise.
        safety: what to do on bad input, where that is not the default: ``hold_steps``, ``stale_steps``,
            ``late_seconds``, ``fallback`` (docs/deploying.md).

    Raises:
        UserError: there is no such run or seed, a file is damaged, or ``safety`` makes no sense.
    """
    if isinstance(run, str | Path) and not is_run(as_path("run", run)):
        return _exported(as_path("run", run), seed, safety)
    found = opened(run, Named(trust, env, env_python))
    networks = team_networks(seed_arrays(found, seed), found.spec, found.config)
    seed = found.config.first_seed if seed is None else seed
    agents = (
        Agent(network, make_contract(n, network, found.spec, found.config, seed, safety))
        for n, network in enumerate(networks)
    )
    return Team({agent.name: agent for agent in agents})


def load_agent(run: str | Path | Run, agent: str | None = None, seed: int | None = None, **options: Any) -> Agent:
    """Return one agent of a trained team; see `load_team` for ``run``, ``seed`` and the other options.

    Raises:
        UserError: as `load_team`; the team has no such agent, or several where none is named.
    """
    agents = load_team(run, seed, **options).agents
    if agent is None and len(agents) == 1:
        return next(iter(agents.values()))
    check(str(agent) in agents, "agent", agent, f"choose one of {', '.join(agents)}")
    return agents[str(agent)]


def opened(run: str | Path | Run, named: Named = NOBODY) -> Finished:
    """Return what acting needs of a run: it is opened as `drigm.load_run` opens it, without importing the trainer."""
    if not isinstance(run, str | Path):
        return Finished(run.directory, run.config, run.env.spec)
    directory = RunDirectory(as_path("run", run))
    config = directory.load_config()
    env_id = open_environment(directory.path, config, directory.load_system(), named)
    kind = config.env.partition(":")[0]
    options = {"python": config.env_python, "timeout": config.env_timeout} if kind in SUBPROCESS_KINDS else {}
    return Finished(directory, config, make_env(env_id, **options).spec)


def seed_arrays(found: Finished, seed: int | None) -> dict[str, Any]:
    """Return a seed's weights by name; `UserError` where the run has no such seed, or its weights are not good."""
    seeds = seeds_of(found.config)
    seed = seeds[0] if seed is None else seed
    check(seed in seeds, "seed", seed, f"the run has the seeds {seeds[0]} to {seeds[-1]}")
    found.directory.require_weights(seed)
    return load_arrays(found.directory.weights_file(seed))[0]


def is_run(path: Path) -> bool:
    """Return whether ``path`` is taken for a run: it has settings, or is not there, which `load_run` will say."""
    return (path / "config.json").exists() or not path.exists()


def _exported(path: Path, seed: int | None, safety: Mapping[str, Any] | None) -> Team:
    try:
        if not path.is_dir():
            agent = files.load_agent(path, safety=safety)
            team = Team({agent.name: agent})
        else:
            team = files.load_team(path, safety=safety)
    except files.LoadError as error:
        raise UserError(str(error)) from None
    for agent in team.agents.values():
        given = agent.contract["trained"]["seed"]
        check(seed in (None, given), "seed", seed, f"{path} holds seed {given}")
    return team
