"""``drigm tune``."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import Any

from drigm.cli import open_run
from drigm.cli.train import add_settings, given_settings
from drigm.core.config import FIELDS

USAGE = "drigm tune [RUN] --over rho=0,0.05,... --worlds WORLDS [--truth WORLDS] [--env ENV] [--SETTING VALUE ...]"
DESCRIPTION = "Choose a radius in source worlds, within a budget at home; --truth then plays worlds never looked at."
OWN = ("worlds", "world_count", "rho", "agent_rho")  # flags that say something else here, or nothing
SETTINGS = [name for name in FIELDS if name not in OWN]


def add(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "tune", help="choose a radius in worlds of your own", description=DESCRIPTION, usage=USAGE
    )
    parser.add_argument("directory", metavar="RUN", nargs="?", help="take the settings of this run")
    tuning = parser.add_argument_group("the tuning")
    message = "values, or a range as in rho=0:0.5, of a radius; repeat it for other settings"
    tuning.add_argument("--over", action="append", required=True, metavar="NAME=VALUE,...", help=message)
    message = "source worlds: ranges as in demand=0.8:1.2,lead_time=0:1, or a suite; several with ; between them"
    tuning.add_argument("--worlds", required=True, metavar="WORLDS", help=message)
    message = "worlds to play once the choice stands; ENV or 'ENV WORLDS' in another environment; may be repeated"
    tuning.add_argument("--truth", action="append", default=[], metavar="WORLDS", help=message)
    message = "share by which the choice may be worse at home (default: 0.05)"
    tuning.add_argument("--budget", type=float, default=0.05, help=message)
    tuning.add_argument("--trials", type=int, default=0, help="points to try (default: the whole grid, or 20)")
    message = "range, half or world (default: range, or half where there is one range)"
    tuning.add_argument("--hold-out", default="", help=message)
    tuning.add_argument("--world-count", type=int, default=8, help="worlds drawn for each group (default: 8)")
    tuning.add_argument("--out", metavar="DIR", help="folder of the tuning (default: runs/tune)")
    tuning.add_argument("--engine", default="local", help="local or ray (default: local)")
    tuning.add_argument("--address", default="", help="a Ray cluster that runs already, as in auto or HOST:6379")
    tuning.add_argument("--workers", type=int, default=0, help="trainings at a time (default: what fits)")
    tuning.add_argument("--cores", type=int, default=0, help="CPU cores of each (default: their share)")
    tuning.add_argument("--json", action="store_true", help="print what tune.json says")
    tuning.add_argument("--quiet", action="store_true", help="show no progress")
    open_run.add_flags(tuning, again=False)
    add_settings(parser, {}, SETTINGS)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 2 where a trial failed; the choice stands among the others all the same."""
    from drigm.experiments.tune import tune

    names = ("over", "worlds", "truth", "budget", "trials", "hold_out", "world_count", "engine", "out")
    names += ("workers", "cores", "address", "trust", "quiet")
    named = {name: getattr(options, name) for name in names}
    settings = given_settings(options, SETTINGS)
    words = [word for word in sys.argv[1:] if word not in ("--quiet", "--json")]
    command = shlex.join(["drigm", *words]) if words[:1] == ["tune"] else ""
    tuned = tune(options.directory, **named, command=command, **settings)
    print((tuned.path / "tune.json").read_text(encoding="utf-8") if options.json else f"{tuned}\n\n{tuned.path}")
    for point, error in tuned.swept.failures.items():
        print(f"drigm: {point}: {error}", file=sys.stderr)
    return 2 if tuned.swept.failures else 0
