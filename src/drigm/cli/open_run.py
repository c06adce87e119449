"""The flags of every command that opens a run: whose environment may be imported or started."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from drigm.core.errors import as_path
from drigm.training.runs import Run, load_run
from drigm.training.trust import Named


def add_flags(parser: Any, *, again: bool = True) -> None:
    """Add ``--trust`` and, with ``again``, the flags that name a run's environment again."""
    told = "import and start what the run names, though somebody else made it (SECURITY.md)"
    parser.add_argument("--trust", action="store_true", help=told)
    if again:
        parser.add_argument("--env", metavar="ENV", default="", help="the run's environment, named again where it lies")
        parser.add_argument("--env-python", metavar="PYTHON", default="", help="the run's interpreter, named again")


def named(options: argparse.Namespace) -> Named:
    """Return what the flags say."""
    return Named(options.trust, getattr(options, "env", ""), getattr(options, "env_python", ""))


def opened(directory: str | Path, options: argparse.Namespace) -> Run:
    """Return the run in ``directory``."""
    return load_run(as_path("run", directory), **named(options)._asdict())
