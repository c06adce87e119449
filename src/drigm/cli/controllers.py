"""``drigm controllers`` and ``drigm tune-controller``."""

from __future__ import annotations

import argparse
from typing import Any

from drigm.cli.open_run import prepare
from drigm.core.errors import as_path


def add(commands: Any) -> None:
    """Add the commands to the subparsers ``commands``."""
    score = commands.add_parser("controllers", help="score PI and others that do not learn in an environment's worlds")
    score.add_argument("env", metavar="ENV", help="such as building:OfficeSmall/Tucson")
    score.add_argument("--shifts", help="suite of worlds (default: climate or demand, else noise), see drigm list")
    score.add_argument("--perturb", action="append", default=[], metavar="NAME=STRENGTH,...", help="as in evaluate")
    score.add_argument("--csv", metavar="FILE", help="write the scores there too, a row for each world")
    score.add_argument("--json", action="store_true", help="one object per controller: its score by world")
    score.set_defaults(run=_controllers)
    gains = commands.add_parser("tune-controller", help="gains of PI by the SIMC rule, from a step response")
    gains.add_argument("env", metavar="ENV", help="where teams are trained, such as building:OfficeSmall/Tucson")
    gains.add_argument("--json", action="store_true", help="one object per agent: fit and gains; times are steps")
    gains.set_defaults(run=_tune)


def _controllers(options: argparse.Namespace) -> int:
    prepare()
    from drigm.core.strengths import parse_grid
    from drigm.envs import make_env
    from drigm.evaluation.controllers import score_controllers, write_controllers
    from drigm.report.tables import format_table
    from drigm.storage.results import to_json

    out = None if options.csv is None else as_path("csv", options.csv)
    found = score_controllers(make_env(options.env), options.shifts, parse_grid(" ".join(options.perturb)))
    if out is not None:
        write_controllers(out, found)
    print(
        to_json(found) if options.json else format_table([{"controller": name, **row} for name, row in found.items()])
    )
    return 0


def _tune(options: argparse.Namespace) -> int:
    prepare()
    from drigm.envs import make_env
    from drigm.evaluation.tuning import tune
    from drigm.report.tables import format_table
    from drigm.storage.results import to_json

    rows = [one._asdict() for one in tune(make_env(options.env))]
    columns = {
        "agent": "agent",
        "gain": "gain k",
        "time_constant": "time constant (steps)",
        "delay": "delay (steps)",
        "fit": "R2 of the fit",
        "kp": "kp",
        "ki": "ki (per step)",
    }
    print(to_json(rows) if options.json else format_table(rows, columns))
    return 0
