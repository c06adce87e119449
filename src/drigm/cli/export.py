"""``drigm export``."""

from __future__ import annotations

import argparse
from typing import Any

from drigm.cli import open_run
from drigm.core.defaults import FORMATS, HOLD_STEPS, PARITY_STEPS, STALE_STEPS
from drigm.core.errors import as_path


def add(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser("export", help="write a trained team as files that act without the trainer")
    parser.add_argument("directory", metavar="RUN", help="a finished run")
    parser.add_argument("--seed", type=int, metavar="K", help="which of its seeds (default: the first)")
    parser.add_argument("--format", choices=FORMATS, default="npz", help="for NumPy, or for ONNX Runtime (extra onnx)")
    parser.add_argument("-o", "--out", metavar="DIR", help="a new folder (default: RUN/export/seed_K-FORMAT)")
    message = "copy drigm_runtime.py beside the agents, which acts with them in Python with NumPy alone"
    parser.add_argument("--with-runtime", action="store_true", help=message)
    message = "suite whose scores the contract shows too; scores that the run has stored are in it anyway"
    parser.add_argument("--shifts", metavar="SUITE", help=message)
    message = f"environment steps to compare with the trainer's agents, at least (default: {PARITY_STEPS:,})"
    parser.add_argument("--steps", type=int, default=PARITY_STEPS, help=message)
    message = f"on bad input: how long a reading's last good value stands in for it (default: {HOLD_STEPS})"
    parser.add_argument("--hold", type=int, default=HOLD_STEPS, metavar="STEPS", help=message)
    message = f"a reading without a new value for so many steps is bad (default: {STALE_STEPS}; 0: never)"
    parser.add_argument("--stale", type=int, default=STALE_STEPS, metavar="STEPS", help=message)
    message = "an agent that was not stepped for so long is late (default: two steps, where their length is known)"
    parser.add_argument("--late", type=float, metavar="SECONDS", help=message)
    message = "what decides when readings stay bad: idle (the default), constant:ACTION, or pi"
    parser.add_argument("--fallback", default="idle", metavar="KIND", help=message)
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    open_run.add_flags(parser)
    parser.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    open_run.prepare()
    from drigm.deployment.contract import parse_fallback
    from drigm.deployment.export import export
    from drigm.evaluation.cache import cached_evaluation

    out = None if options.out is None else as_path("out", options.out)
    safety = {"hold_steps": options.hold, "stale_steps": options.stale, "fallback": parse_fallback(options.fallback)}
    safety |= {} if options.late is None else {"late_seconds": options.late}
    run = open_run.opened(options.directory, options)
    if options.shifts is not None:
        cached_evaluation(run, options.shifts, quiet=options.quiet)
    found = export(
        run,
        options.seed,
        options.format,
        out,
        with_runtime=options.with_runtime,
        steps=options.steps,
        safety=safety,
        quiet=options.quiet,
    )
    print(found)
    return 0
