"""``drigm report``."""

from __future__ import annotations

import argparse
from typing import Any

from drigm.cli import open_run
from drigm.core.errors import as_path, check


def add(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    page = commands.add_parser("report", help="one HTML page about trained teams, with everything in it")
    message = "finished runs, equal settings are one method; or logs of drigm deploy"
    page.add_argument("directories", metavar="RUN_OR_LOG", nargs="+", help=message)
    page.add_argument("-o", "--out", default="report.html", metavar="FILE", help="the page (default: report.html)")
    page.add_argument("--shifts", help="suite of worlds (default: climate or demand, else noise), see drigm list")
    message = "play each world under each strength, as in leak=0,0.1,0.2: a curve over it; see drigm evaluate"
    page.add_argument("--perturb", action="append", default=[], metavar="NAME=STRENGTH,...", help=message)
    page.add_argument("--trim", action="store_true", help="each team once more with a slow integral of its own error")
    page.add_argument("--figures", metavar="DIR", help="write every figure there too, as SVG and PNG")
    open_run.add_flags(page)
    page.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    open_run.prepare()
    from drigm.deployment.log import is_log
    from drigm.report.report import write_log_report, write_report

    out = as_path("out", options.out)
    logs = [path for path in (as_path("run", one) for one in options.directories) if is_log(path)]
    if logs:
        mixed = next((one for one in options.directories if as_path("run", one) not in logs), "")
        check(not mixed, "run", mixed, "a page about logs has no runs; write two pages")
        check(options.figures is None, "figures", options.figures, "a page about logs has none; leave it out")
        print(write_log_report(logs, out))
        return 0
    figures = None if options.figures is None else as_path("figures", options.figures)
    runs = [open_run.opened(directory, options) for directory in options.directories]
    print(write_report(runs, out, options.shifts, figures, options.trim, " ".join(options.perturb)))
    return 0
