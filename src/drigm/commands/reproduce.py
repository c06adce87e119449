"""``drigm reproduce paper`` and ``drigm reproduce authors``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from drigm.errors import UserError
from drigm.reproduce import PARTS, SCALES, reproduce_paper


def add(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    reproduce = commands.add_parser("reproduce", help="the paper's tables and figures, or its authors' networks")
    what = reproduce.add_subparsers(dest="what", required=True, metavar="WHAT", parser_class=type(reproduce))
    paper = what.add_parser("paper", help="train and score everything the paper did, beside its numbers")
    paper.add_argument("--scale", default="paper", help=f"{' or '.join(SCALES)} (default: paper)")
    paper.add_argument("--seeds", type=int, help="of every method (default: what the scale says)")
    paper.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)} (default: all)")
    paper.add_argument("--out", metavar="DIR", help="default: runs/reproduce-SCALE; call it again to go on there")
    paper.add_argument("--plan", action="store_true", help="only say what would be trained and how long it takes")
    paper.set_defaults(run=_paper)


def _paper(options: argparse.Namespace) -> int:
    out = Path(options.out or f"runs/reproduce-{options.scale}")
    parts = [part.strip() for part in options.parts.split(",") if part.strip()]
    if not parts:
        raise UserError(f"parts: {options.parts!r} is not allowed; give some of {', '.join(PARTS)}.")
    files = reproduce_paper(out, options.scale, parts, options.seeds, plan_only=options.plan)
    if files is not None:
        print(files.table.read_text(encoding="utf-8"))
        for path in files:
            print(path)
    return 0
