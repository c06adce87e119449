"""``drigm check-env``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from drigm.core.errors import check


def add(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    inspect = commands.add_parser("check-env", help="explain what an environment does wrong, in sentences")
    message = "any environment's id, as in pettingzoo:FILE.py:FACTORY or python:FILE.py:ATTRIBUTE"
    inspect.add_argument("env", metavar="ENV", help=message)
    inspect.add_argument("--episodes", type=int, default=3, help="of random play (default: 3)")
    inspect.add_argument("--env-python", default="", help="interpreter that runs it, if not this one")
    inspect.add_argument("--env-timeout", type=float, default=600.0, help="seconds that a step may take (default: 600)")
    inspect.add_argument("--json", action="store_true", help="a list of findings: level (error, warning) and sentence")
    inspect.set_defaults(run=_check_env)


def _check_env(options: argparse.Namespace) -> int:
    """Exit code 1 where an error was found; what is only odd does not keep a team from training."""
    from drigm.envs.subprocess.check_env import check_env

    check(options.episodes >= 1, "episodes", options.episodes, "a whole number from 1")
    found = check_env(options.env, episodes=options.episodes, python=options.env_python, timeout=options.env_timeout)
    errors = sum(one.level == "error" for one in found)
    if options.json:
        print(json.dumps([{"level": one.level, "sentence": one} for one in found], indent=2))
        return 1 if errors else 0
    for one in found:
        print(f"{one.level}: {one}")
    if not errors:
        odd = {0: "", 1: ", 1 warning"}.get(len(found), f", {len(found)} warnings")
        print(f"{options.env}: {options.episodes} episodes of random play, nothing wrong{odd}")
    return 1 if errors else 0
