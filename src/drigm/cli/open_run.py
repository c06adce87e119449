"""What commands that open a run share: their flags (whose environment may be imported or started), and the run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drigm.core.errors import as_path

if TYPE_CHECKING:
    from drigm.envs.api import Environment
    from drigm.training.runs import Run
    from drigm.training.trust import Named

AGAIN = "the run's environment, named again where it lies"


def prepare() -> None:
    """Import JAX with this machine's cores and the cache of compiled programs."""
    from drigm.runtime.devices import cache_compilations, use_cores

    use_cores()
    cache_compilations()


def add_flags(parser: Any, *, again: bool = True, env: str = AGAIN) -> None:
    """Add ``--trust`` and, with ``again``, flags that name a run's environment again; ``env``: what ``--env`` does."""
    message = "import and start what the run names, though somebody else made it (SECURITY.md)"
    parser.add_argument("--trust", action="store_true", help=message)
    if again:
        parser.add_argument("--env", metavar="ENV", default="", help=env)
        parser.add_argument("--env-python", metavar="PYTHON", default="", help="the run's interpreter, named again")


def named(options: argparse.Namespace) -> Named:
    """Return what the flags say."""
    from drigm.training.trust import Named

    return Named(options.trust, getattr(options, "env", ""), getattr(options, "env_python", ""))


def elsewhere(directory: str | Path, options: argparse.Namespace) -> tuple[Run, Environment | None]:
    """Return the run in ``directory``, and the environment of ``--env`` where that is not the run's own.

    The run's own is named again by its id, or by the same module and factory in another folder.
    """
    from drigm.envs import make_env
    from drigm.envs.subprocess.source import located, origin
    from drigm.storage.run_directory import RunDirectory
    from drigm.training.runs import load_run

    config = RunDirectory(as_path("run", directory)).load_config()
    ours, theirs = (origin(located(env, config.env_python)) for env in (options.env, config.env))
    if options.env in ("", config.env) or (ours and theirs and ours[1:] == theirs[1:]):
        return opened(directory, options), None
    run = load_run(as_path("run", directory), **named(options)._replace(env="")._asdict())
    return run, make_env(located(options.env))


def opened(directory: str | Path, options: argparse.Namespace) -> Run:
    """Return the run in ``directory``."""
    from drigm.training.runs import load_run

    return load_run(as_path("run", directory), **named(options)._asdict())
