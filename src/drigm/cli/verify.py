"""``drigm verify``."""

from __future__ import annotations

import argparse
from typing import Any

from drigm.cli import open_run


def add(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    proof = commands.add_parser(
        "verify", help="check the theory on this machine, or whether a run's greedy agents are its greedy team"
    )
    proof.add_argument("directory", metavar="RUN", nargs="?", help="a finished run (default: check the theory)")
    proof.add_argument("--json", action="store_true", help="as one JSON object")
    proof.add_argument("--quiet", action="store_true", help="show no progress")
    open_run.add_flags(proof)
    proof.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> int:
    """Exit code 1 where something does not hold that the theory promises; a run's alignment is only reported."""
    open_run.prepare()
    from drigm.storage.results import to_json
    from drigm.verification.greedy_alignment import verify_run
    from drigm.verification.verify import verify

    if options.directory is not None:
        alignment = verify_run(open_run.opened(options.directory, options))
        print(to_json(alignment._asdict()) if options.json else alignment)
        return 0
    result = verify(quiet=options.quiet)
    print(result.to_json() if options.json else result)
    return 0 if result.holds else 1
