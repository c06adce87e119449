"""``drigm train``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from drigm.cli import open_run
from drigm.core.config import FIELDS, GROUPS, RUNNING, TrainConfig
from drigm.core.errors import UserError, as_path, check, shown
from drigm.core.plugins import load_plugins
from drigm.core.presets import KIND_SETTINGS, kind_of, with_preset

USAGE = "drigm train [--env ENV] [--SETTING VALUE ...] [--out DIR], or drigm train --resume DIR"
DESCRIPTION = "Train a team. Defaults depend on --env and --preset: name them beside --help to see theirs."
DECISIVE = ("env", "preset", "factorization", "uncertainty")  # settings that the defaults of others depend on


def add(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    train = commands.add_parser("train", help="train a team", description=DESCRIPTION, add_help=False, usage=USAGE)
    _add_flags(train, {})
    train.set_defaults(run=_train)


def _add_flags(train: argparse.ArgumentParser, defaults: dict[str, Any]) -> None:
    """Add every flag, in groups; ``defaults`` are those that are not the usual ones."""
    run = train.add_argument_group("the run")
    run.add_argument("-h", "--help", action="store_true", help="show this, with the defaults of --env and --preset")
    run.add_argument("--out", metavar="DIR", help="run directory (default: a new one under runs/)")
    run.add_argument("--resume", metavar="DIR", help="continue the unfinished run in DIR")
    message = "check every setting and show them all, with an estimate of time and memory; train and write nothing"
    run.add_argument("--dry-run", action="store_true", help=message)
    run.add_argument("--quiet", action="store_true", help="show no progress")
    message = "loggers besides metrics/*.csv: tensorboard, wandb (default: none)"
    run.add_argument("--log", metavar="NAME,...", help=message, default="")
    open_run.add_flags(run, again=False)
    add_settings(train, defaults)


def add_settings(parser: argparse.ArgumentParser, defaults: dict[str, Any], known: Collection[str] = FIELDS) -> None:
    """Add a flag for each setting that is ``known``, in groups; ``defaults`` are those that are not the usual ones."""
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names:
            if name in known:
                _add_setting(group, name, defaults.get(name, FIELDS[name].default))


def _add_setting(group: Any, name: str, default: Any) -> None:
    """One flag for one field of `TrainConfig`; only flags that were given end up in the namespace."""
    field = FIELDS[name]
    flag, usual = "--" + name.replace("_", "-"), field.default
    message = "none" if default == "" else str(default).lower() if isinstance(default, bool) else str(default)
    message += "" if default == usual else f"; elsewhere {usual}"
    doc = f"{field.metadata['doc']} (default: {message})".replace("%", "%%")
    common: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": doc}
    if isinstance(usual, bool):
        group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
    else:
        # As in `drigm evaluate`, perturbations may be named one after the other.
        action = "append" if name == "perturb" else "store"
        group.add_argument(flag, metavar=name.upper(), action=action, **common)


def given_settings(options: argparse.Namespace, known: Collection[str] = FIELDS) -> dict[str, Any]:
    """Return the given settings with numbers as numbers; ranges are checked later, by `config.validate`."""
    given = {name: getattr(options, name) for name in known if hasattr(options, name)}
    given |= {"perturb": " ".join(given["perturb"])} if "perturb" in given else {}
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


def _help(settings: dict[str, Any]) -> int:
    """Print every flag with the defaults of the environment, the preset and the method that were named."""
    if kind_of(settings) not in KIND_SETTINGS:
        load_plugins()
    said = {name: settings[name] for name in DECISIVE if name in settings}
    named = " ".join(f"--{name} {value}" for name, value in said.items())
    message = f"Train a team. Defaults are those of {named}." if said else DESCRIPTION
    parser = argparse.ArgumentParser("drigm train", description=message, add_help=False, usage=USAGE)
    _add_flags(parser, {name: value for name, value in with_preset(said).items() if name not in said})
    parser.print_help()
    return 0


def _dry_run(config: TrainConfig, path: Path | None) -> int:
    """Print the settings of a run, what it would take, and what about it is odd."""
    from drigm.training.estimate import estimate, remarks
    from drigm.training.runs import checked_run

    config, env = checked_run(config, path)
    for title, names in GROUPS.items():
        print(f"# {title}")
        for name in names:
            print(f"{name} = {json.dumps(getattr(config, name))}")
    cost = estimate(config, env)
    seeds = f"{config.seeds} seed{'s' if config.seeds > 1 else ''}"
    print(f"# {seeds}, {cost.updates:,} updates of each; {cost}")
    for note in (*env.notes, *remarks(config, env)):
        print(f"# {note}")
    return 0


def _train(options: argparse.Namespace) -> int:
    settings = given_settings(options)
    if options.help:
        return _help(settings)
    open_run.prepare()
    from drigm.report.figures.learning_curve import draw_learning_curve
    from drigm.training.runs import resume_run, train_run
    from drigm.training.settings import settle

    if options.resume is not None:
        check(not options.dry_run, "resume", options.resume, "leave out --dry-run: its settings stand in config.json")
        others = [f"--{name.replace('_', '-')}" for name in settings if name not in ("env", *RUNNING)]
        others += ["--out"] if options.out is not None else []
        message = f"it continues with the run's own settings, so leave out {', '.join(others)}"
        check(not others, "resume", options.resume, message)
        named = open_run.named(options)
        running = {name: value for name, value in settings.items() if name in RUNNING and name != "env_python"}
        path = as_path("resume", options.resume)
        run = resume_run(path, quiet=options.quiet, log=options.log, named=named, running=running)
    else:
        path = None if options.out is None else as_path("out", options.out)
        if options.dry_run:
            return _dry_run(settle(settings), path)
        run = train_run(settle(settings), path, quiet=options.quiet, log=options.log)
    draw_learning_curve(run)
    print(run.path)
    return 0
