"""``drigm report``."""

from __future__ import annotations

import argparse
from typing import Any

from drigm.cli import open_run
from drigm.core.errors import as_path
from drigm.runtime.devices import cache_compilations, use_cores


def add(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    page = commands.add_parser("report", help="one HTML page about trained teams, with everything in it")
    page.add_argument("directories", metavar="RUN", nargs="+", help="finished runs; equal settings are one method")
    page.add_argument("-o", "--out", default="report.html", metavar="FILE", help="the page (default: report.html)")
    page.add_argument("--shifts", help="suite of worlds (default: climate or demand, else noise), see drigm list")
    page.add_argument("--trim", action="store_true", help="each team once more with a slow integral of its own error")
    page.add_argument("--figures", metavar="DIR", help="write every figure there too, as SVG and PNG")
    open_run.add_flags(page)
    page.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    from drigm.report.report import write_report  # matplotlib: a second that other commands need not take

    use_cores()
    cache_compilations()
    out = as_path("out", options.out)
    figures = None if options.figures is None else as_path("figures", options.figures)
    runs = [open_run.opened(directory, options) for directory in options.directories]
    print(write_report(runs, out, options.shifts, figures, options.trim))
    return 0
