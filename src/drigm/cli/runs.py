"""``drigm runs``."""

from __future__ import annotations

import argparse
from typing import Any

from drigm.core.errors import as_path


def add(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser("runs", help="run directories: method, how far they are, scores that they have stored")
    parser.add_argument("directory", metavar="DIR", nargs="?", default="runs", help="look below it (default: runs)")
    parser.add_argument("--json", action="store_true", help="one object per run, with every stored suite")
    parser.set_defaults(run=_runs)


def _runs(options: argparse.Namespace) -> int:
    from drigm.evaluation.listing import found_below, shown_row
    from drigm.report.tables import format_table
    from drigm.storage.results import to_json

    found = found_below(as_path("directory", options.directory))
    if options.json:
        print(to_json([one._asdict() for one in found]))
    else:
        print(format_table([shown_row(one) for one in found]))
    return 0
