"""``drigm reproduce``: ``paper``, ``building-transfer``, ``pays``, ``tables`` and ``authors``."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from drigm.core.defaults import PARTS
from drigm.core.errors import UserError, as_path, shown


def add(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    reproduce = commands.add_parser("reproduce", help="the paper's tables and figures, or its authors' networks")
    what = reproduce.add_subparsers(dest="what", required=True, metavar="WHAT", parser_class=type(reproduce))
    paper = what.add_parser("paper", help="train and score everything the paper did, beside its numbers")
    paper.add_argument("--scale", default="paper", help="smoke or paper (default: paper)")
    paper.add_argument("--seeds", type=int, help="of every method (default: what the scale says)")
    paper.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)} (default: all)")
    paper.add_argument("--out", metavar="DIR", help="default: runs/reproduce-SCALE; call it again to go on there")
    paper.add_argument("--plan", action="store_true", help="only say what would be trained and how long it takes")
    paper.set_defaults(run=_paper)
    transfer = what.add_parser("building-transfer", help="teams of the simple model in EnergyPlus, beside PI")
    transfer.add_argument("--seeds", type=int, default=5, help="of every row (default: 5)")
    transfer.add_argument("--steps", type=int, default=172_800, help="of every seed (default: 172800)")
    transfer.add_argument("--factorizations", default="vdn,qmix", help="default: vdn,qmix")
    transfer.add_argument("--places", default="office,none", help="occupied or empty (default: office,none)")
    transfer.add_argument("--rows", help="some of the study's, separated by semicolons (default: all)")
    transfer.add_argument("--out", metavar="DIR", default="runs/transfer", help="call it again to go on there")
    transfer.set_defaults(run=_transfer)
    tables = what.add_parser("tables", help="a finished study's page, tables and figures anew, from its scores.csv")
    held = "holds scores.csv and timing.csv; page, table.md and figures are overwritten"
    tables.add_argument("directory", metavar="DIR", help=held)
    tables.add_argument("--scale", default="paper", help="of the study: smoke or paper (default: paper)")
    tables.set_defaults(run=_tables)
    pays = what.add_parser("pays", help="does robustness pay? every gain over its controls, from finished studies")
    pays.add_argument("file", metavar="FILE", help="a TOML file of domains, as results/pays/pays.toml")
    pays.add_argument("--out", metavar="DIR", help="of table.md and report.html (default: the file's folder)")
    pays.set_defaults(run=_pays)
    authors = what.add_parser("authors", help="convert and score the networks that the paper's authors released")
    authors.add_argument("directory", metavar="DIR", help="is searched for .npz, .pt, .pth and .th files")
    authors.add_argument("--out", metavar="DIR", help="keep the converted networks there, as .npz")
    authors.add_argument("--torch-python", default="", metavar="PYTHON", help="an interpreter that has PyTorch")
    authors.add_argument("--json", action="store_true", help="one object per team: name, scores")
    authors.set_defaults(run=_authors)


def _paper(options: argparse.Namespace) -> int:
    from drigm.experiments.reproduce import SCALES, plan, plan_text, reproduce_paper

    out = as_path("out", f"runs/reproduce-{options.scale}" if options.out is None else options.out)
    parts = [part.strip() for part in options.parts.split(",") if part.strip()]
    if not parts:
        raise UserError(f"parts: {shown(options.parts)} is not allowed; give some of {', '.join(PARTS)}.")
    if options.plan:
        todo = plan(options.scale, parts, options.seeds)
        print(plan_text(todo, out / "runs", SCALES[options.scale].verification if "counterexample" in parts else 0.0))
        return 0
    files = reproduce_paper(out, options.scale, parts, options.seeds, say=_say)
    print(files.table.read_text(encoding="utf-8"))
    for path in files:
        print(path)
    return 0


def _transfer(options: argparse.Namespace) -> int:
    from drigm.experiments.reproduce.transfer import ROWS, reproduce_transfer

    rows = tuple(ROWS) if options.rows is None else [row.strip() for row in options.rows.split(";")]
    names, places = ([part.strip() for part in text.split(",")] for text in (options.factorizations, options.places))
    out = as_path("out", options.out)
    given = {"seeds": options.seeds, "steps": options.steps, "factorizations": names, "places": places}
    for path in reproduce_transfer(out, **given, rows=rows, say=_say):
        print(path)
    return 0


def _tables(options: argparse.Namespace) -> int:
    from drigm.experiments.reproduce import reproduce_tables

    for path in reproduce_tables(as_path("directory", options.directory), options.scale):
        print(path)
    return 0


def _pays(options: argparse.Namespace) -> int:
    from drigm.experiments.reproduce.pays import reproduce_pays

    out = None if options.out is None else as_path("out", options.out)
    for path in reproduce_pays(as_path("file", options.file), out):
        print(path)
    return 0


def _authors(options: argparse.Namespace) -> int:
    import numpy as np

    from drigm.experiments.reproduce.authors import grouped, reproduce_authors
    from drigm.report.tables import Score, format_table

    out = None if options.out is None else as_path("out", options.out)
    found = reproduce_authors(as_path("directory", options.directory), out, torch_python=options.torch_python)
    if options.json:
        print(json.dumps([score._asdict() for score in found], indent=2))
        return 0
    rows = []
    for name, teams in grouped(found).items():
        cells = {city: np.array([team.scores[city] for team in teams]) for city in teams[0].scores}
        errors = {city: x.std() / np.sqrt(len(x)) if len(x) > 1 else np.nan for city, x in cells.items()}
        scores = {city: Score(float(x.mean()), float(errors[city])) for city, x in cells.items()}
        rows.append({"networks": name, "seeds": len(teams), **scores})
    print(format_table(rows))
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
