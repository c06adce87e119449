"""``drigm train``."""

from __future__ import annotations

import argparse
from typing import Any

from drigm.cli import open_run
from drigm.core.config import FIELDS, RUNNING
from drigm.core.errors import UserError, as_path, check, shown
from drigm.runtime.devices import cache_compilations, use_cores
from drigm.training.runs import resume_run, train_run
from drigm.training.settings import settle


def add(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    train = commands.add_parser("train", help="train a team", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    train.add_argument(
        "--out", metavar="DIR", help="run directory (default: a new one under runs/)", default=argparse.SUPPRESS
    )
    train.add_argument("--resume", metavar="DIR", help="continue the unfinished run in DIR", default=argparse.SUPPRESS)
    train.add_argument("--quiet", action="store_true", help="show no progress")
    train.add_argument(
        "--log",
        metavar="NAME,...",
        help="loggers besides metrics/*.csv: tensorboard, wandb",
        default="",
    )
    for name, field in FIELDS.items():
        _add_setting(train, name, field.default, field.metadata["doc"])
    open_run.add_flags(train, again=False)
    train.set_defaults(run=_train)


def _add_setting(parser: argparse.ArgumentParser, name: str, default: Any, doc: str) -> None:
    """One flag for one field of `TrainConfig`; only flags that were given end up in the namespace."""
    flag = "--" + name.replace("_", "-")
    common: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": f"{doc} [{default}]"}
    if isinstance(default, bool):
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
    else:
        parser.add_argument(flag, metavar=name.upper(), **common)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """The given settings with numbers as numbers; ranges are checked later, by `config.validate`."""
    given = {name: getattr(options, name) for name in FIELDS if hasattr(options, name)}
    return {name: _number(name, value) for name, value in given.items()}


def _number(name: str, value: Any) -> Any:
    default = FIELDS[name].default
    if isinstance(default, (bool, str)):
        return value
    try:
        return int(value.replace("_", "")) if isinstance(default, int) else float(value)
    except ValueError:
        try:
            return float(value)  # a range check will say what is wrong with 2.5 seeds
        except ValueError:
            raise UserError(f"{name}: {shown(value)} is not allowed; give a number.") from None


def _train(options: argparse.Namespace) -> int:
    from drigm.report.figures.learning_curve import (
        draw_learning_curve,  # matplotlib: a second that other commands need not take
    )

    settings = _settings(options)
    use_cores()
    cache_compilations()
    if hasattr(options, "resume"):
        others = [f"--{name.replace('_', '-')}" for name in settings if name not in ("env", *RUNNING)]
        others += ["--out"] if hasattr(options, "out") else []
        check(
            not others,
            "resume",
            options.resume,
            f"it continues with the run's own settings, so leave out {', '.join(others)}",
        )
        named = open_run.named(options)
        running = {name: value for name, value in settings.items() if name in RUNNING and name != "env_python"}
        path = as_path("resume", options.resume)
        run = resume_run(path, quiet=options.quiet, log=options.log, named=named, running=running)
    else:
        path = as_path("out", options.out) if hasattr(options, "out") else None
        run = train_run(settle(settings), path, quiet=options.quiet, log=options.log)
    draw_learning_curve(run)
    print(run.path)
    return 0
