"""``drigm inspect``."""

from __future__ import annotations

import argparse
from typing import Any

from drigm.core.errors import as_path


def add(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser("inspect", help="what an exported agent reads and does, and how good it is")
    parser.add_argument("path", metavar="FILE", help="a file of an agent, or the folder that drigm export wrote")
    parser.add_argument("--json", action="store_true", help="the contracts, as one list")
    parser.set_defaults(run=_inspect)


def _inspect(options: argparse.Namespace) -> int:
    from drigm.deployment.inspect import contracts_in, described
    from drigm.storage.results import to_json

    found = contracts_in(as_path("path", options.path))
    print(to_json(found) if options.json else "\n\n\n".join(described(contract) for contract in found))
    return 0
