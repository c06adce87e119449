"""``drigm evaluate``."""

from __future__ import annotations

import argparse
from typing import Any

from drigm.cli import open_run
from drigm.core.defaults import TRIM
from drigm.core.errors import warn


def add(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    score = commands.add_parser("evaluate", help="score a trained team in shifted worlds")
    score.add_argument("directory", metavar="DIR", help="a finished run; drigm report takes several")
    score.add_argument("--shifts", help="suite of worlds (default: climate or demand, else noise), see drigm list")
    score.add_argument(
        "--perturb",
        action="append",
        default=[],
        metavar="NAME=STRENGTH,...",
        help="play each world under each strength, as in obs_noise=0,0.1,0.4; repeat it for combinations",
    )
    score.add_argument(
        "--worlds",
        default="",
        metavar="NAME=LOW:HIGH,...",
        help="32 persistent worlds from these ranges instead of a suite, as in capacity=0.7:2.5,gains=-0.3:0.3@3h",
    )
    score.add_argument(
        "--trim",
        type=float,
        nargs="?",
        const=TRIM,
        default=0.0,
        metavar="GAIN",
        help=f"add a slow integral of each agent's own error to its level (default gain: {TRIM}; see docs/building.md)",
    )
    score.add_argument("--no-controllers", action="store_true", help="leave out PI and the others that do not learn")
    message = "one object per shift: name, mean, se, per_seed, controllers"
    score.add_argument("--json", action="store_true", help=message)
    open_run.add_flags(score, env="play in this environment instead; or the run's own, named again where it lies")
    score.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    open_run.prepare()
    from drigm.core.strengths import parse_grid
    from drigm.evaluation.cache import store_evaluation
    from drigm.evaluation.evaluate import evaluate, trim_gain

    strengths = parse_grid(" ".join(options.perturb))
    run, env = open_run.elsewhere(options.directory, options)
    result = evaluate(
        run,
        options.shifts,
        strengths,
        env=env,
        trim=options.trim,
        worlds=options.worlds,
        controllers=not options.no_controllers,
    )
    if env is None and not options.worlds:
        store_evaluation(run, result, strengths, trim_gain(options.trim))
    for sentence in result.warnings():
        warn(sentence)
    print(result.to_json() if options.json else result)
    return 0
