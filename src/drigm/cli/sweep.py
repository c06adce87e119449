"""``drigm sweep FILE``."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def add(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser("sweep", help="train and score every point of a grid over settings")
    parser.add_argument("file", metavar="FILE", help="a TOML file, see docs/sweeps.md")
    parser.add_argument("--out", metavar="DIR", help="folder of the sweep (default: runs/sweeps/NAME)")
    parser.add_argument("--engine", default="local", help="local or ray (default: local)")
    parser.add_argument("--address", default="", help="a Ray cluster that runs already, as in auto or HOST:6379")
    parser.add_argument("--workers", type=int, default=0, help="programs at a time (default: what fits)")
    parser.add_argument("--cores", type=int, default=0, help="CPU cores of each (default: their share; on a cluster 1)")
    parser.add_argument("--log", metavar="NAME,...", default="", help="loggers besides metrics/*.csv")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 2 where a point failed; the others are there all the same."""
    from drigm.experiments.sweep import sweep

    names = ("engine", "out", "workers", "cores", "address", "log", "quiet")
    swept = sweep(options.file, **{name: getattr(options, name) for name in names})
    print(f"{swept}\n\n{swept.path}")
    for point, error in swept.failures.items():
        print(f"drigm: {point}: {error}", file=sys.stderr)
    return 2 if swept.failures else 0
