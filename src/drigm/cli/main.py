"""The command line: drigm train, evaluate, report, verify, reproduce, sweep, check-env, list."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import jax

from drigm.algorithms.baselines import BASELINES
from drigm.algorithms.factorizations import FACTORIZATIONS
from drigm.algorithms.uncertainty import SETS
from drigm.cli import opening, report, reproduce, sweep
from drigm.core.config import FIELDS
from drigm.core.errors import UserError, as_path, check, one_line, shown
from drigm.core.presets import PRESETS
from drigm.envs import KINDS, Kind, make_env
from drigm.envs.jaxmarl import smax
from drigm.envs.perturbations import PERTURBATIONS, parse_grid
from drigm.envs.shifts import suite_names
from drigm.envs.subprocess.check_env import check_env
from drigm.evaluation.evaluate import evaluate
from drigm.runtime import interrupts
from drigm.runtime.devices import cache_compilations, use_cores
from drigm.storage.loggers import LOGGERS
from drigm.storage.results import to_json
from drigm.training.runs import resume_run, train_run
from drigm.training.settings import settle
from drigm.verification.greedy_alignment import verify_run
from drigm.verification.verify import verify

TOO_LARGE = "memory: there is not enough of it; give a smaller replay_size, num_envs, batch or seeds."
DEFAULT_ENV = "building:OfficeSmall/Tucson"


class _Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one sentence and exits with 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {one_line(message)}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0; 1 if a verification fails; 2 for bad input, or where the system refuses a file or memory; 128 and the signal's
    number when interrupted. Without ``arguments`` it is the process's own command, and no signal waits long.
    """
    for stream in (sys.stdout, sys.stderr):  # a path may hold what the terminal's encoding does not
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    options = _parser().parse_args(_with_values(sys.argv[1:] if arguments is None else arguments))
    if arguments is None:
        interrupts.leave_in_time()
    try:
        with interrupts.as_interrupts():
            code = options.run(options)
            sys.stdout.flush()  # here a full disk is one sentence
            return code
    except UserError as error:
        return _failed(str(error))
    except KeyboardInterrupt as stop:
        print(f"drigm: {interrupts.message(stop)}", file=sys.stderr)
        return interrupts.exit_code()
    except BrokenPipeError:  # the reader of our output has gone, as in `drigm list | head`
        sys.stderr.close()
        return 0
    except OSError as error:
        what = f"{error.filename}: " if error.filename else "system: "
        return _failed(f"{what}{error.strerror or error}.")
    except MemoryError:
        return _failed(TOO_LARGE)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and "out of memory" not in str(error).lower():
            raise
        return _failed(TOO_LARGE)


def _failed(sentence: str) -> int:
    """Say what is wrong; nothing else must fail then, not even where standard output is the full disk."""
    print(f"drigm: {sentence}", file=sys.stderr)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        return 2
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush at the end
    return 2


def _with_values(arguments: Sequence[str]) -> list[str]:
    """Join a flag and the negative number after it, as in ``--fail-value -1e3``: argparse takes that for a flag."""
    joined: list[str] = []
    for argument in arguments:
        if joined and re.fullmatch(r"--[a-z-]+", joined[-1]) and re.match(r"-(\d|\.\d|inf|nan)", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="drigm", description="Train cooperating agents so that the team still works when the world differs."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
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
    opening.add_flags(train, again=False)
    train.set_defaults(run=_train)

    score = commands.add_parser("evaluate", help="score a trained team in shifted worlds")
    score.add_argument("directory", metavar="DIR", help="a finished run")
    score.add_argument("--shifts", help="suite of worlds (default: climate, else noise), see drigm list")
    score.add_argument(
        "--perturb",
        action="append",
        default=[],
        metavar="NAME=STRENGTH,...",
        help="play each world under each strength, as in obs_noise=0,0.1,0.4; repeat it for combinations",
    )
    score.add_argument("--json", action="store_true", help="one object per shift: name, mean, se, per_seed")
    opening.add_flags(score)
    score.set_defaults(run=_evaluate)

    proof = commands.add_parser(
        "verify", help="check the theory on this machine, or whether a run's greedy agents are its greedy team"
    )
    proof.add_argument("directory", metavar="RUN", nargs="?", help="a finished run (default: check the theory)")
    proof.add_argument("--json", action="store_true", help="as one JSON object")
    proof.add_argument("--quiet", action="store_true", help="show no progress")
    opening.add_flags(proof)
    proof.set_defaults(run=_verify)

    reproduce.add(commands)
    report.add(commands)
    inspect = commands.add_parser("check-env", help="explain what an environment does wrong, in sentences")
    inspect.add_argument("env", metavar="ENV", help="pettingzoo:package.module:factory, or smac:MAP")
    inspect.add_argument("--episodes", type=int, default=3, help="of random play (default: 3)")
    inspect.add_argument("--env-python", default="", help="interpreter that runs it, if not this one")
    inspect.add_argument("--env-timeout", type=float, default=600.0, help="seconds that a step may take (default: 600)")
    inspect.add_argument("--json", action="store_true", help="a list of findings: level (error, warning) and sentence")
    inspect.set_defaults(run=_check_env)

    sweep.add(commands)

    listing = commands.add_parser(
        "list", help="environments, factorizations, uncertainty sets, baselines, presets, shifts"
    )
    listing.add_argument("--json", action="store_true", help="as one JSON object")
    listing.set_defaults(run=_list)
    return parser


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
        others = [f"--{name.replace('_', '-')}" for name in settings if name not in ("env", "env_python")]
        others += ["--out"] if hasattr(options, "out") else []
        check(
            not others,
            "resume",
            options.resume,
            f"it continues with the run's own settings, so leave out {', '.join(others)}",
        )
        named = opening.named(options)
        run = resume_run(as_path("resume", options.resume), quiet=options.quiet, log=options.log, named=named)
    else:
        path = as_path("out", options.out) if hasattr(options, "out") else None
        run = train_run(settle(settings), path, quiet=options.quiet, log=options.log)
    draw_learning_curve(run)
    print(run.path)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    use_cores()
    cache_compilations()
    result = evaluate(opening.opened(options.directory, options), options.shifts, parse_grid(" ".join(options.perturb)))
    print(result.to_json() if options.json else result)
    return 0


def _verify(options: argparse.Namespace) -> int:
    """Exit code 1 where something does not hold that the theory promises; a run's alignment is only reported."""
    use_cores()
    cache_compilations()
    if options.directory is not None:
        alignment = verify_run(opening.opened(options.directory, options))
        print(to_json(alignment._asdict()) if options.json else alignment)
        return 0
    result = verify(quiet=options.quiet)
    print(result.to_json() if options.json else result)
    return 0 if result.holds else 1


def _check_env(options: argparse.Namespace) -> int:
    """Exit code 1 where an error was found; what is only odd does not keep a team from training."""
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


def _list(options: argparse.Namespace) -> int:
    """Everything that can be named. Environments whose package is missing say how to install it."""
    kinds = {name: {"pattern": kind.pattern, "parts": _parts(kind)} for name, kind in KINDS.items()}
    building = make_env(DEFAULT_ENV)
    perturbations = {name: kind.about for name, kind in PERTURBATIONS.items()}
    physical = {**building.parameters, **smax.PARAMETERS}
    everything = {
        "environments": kinds,
        "factorizations": list(FACTORIZATIONS),
        "uncertainty_sets": list(SETS),
        "baselines": {name: baseline.about for name, baseline in BASELINES.items()},
        "perturbations": perturbations | {name: parameter.about for name, parameter in physical.items()},
        "loggers": {name: logger.about for name, logger in LOGGERS.items()},
        "presets": list(PRESETS),
        "shifts": suite_names(building),
    }
    if options.json:
        print(json.dumps(everything, indent=2))
        return 0
    for kind in kinds.values():
        print(f"environments      {kind['pattern']}")
        for part, names in kind["parts"].items():
            print(f"  {part:<15} {' '.join(names)}")
    for title in ("baselines", "perturbations", "loggers"):
        for name, about in everything[title].items():
            print(f"{title[:-1]:<17} {name:<21} {about}")
    for title in ("factorizations", "uncertainty_sets", "presets", "shifts"):
        print(f"{title.replace('_', ' '):<17} {' '.join(everything[title])}")
    return 0


def _parts(kind: Kind) -> dict[str, list[str]]:
    try:
        return kind.parts()
    except UserError as missing:
        return {"(not installed)": [str(missing)]}


if __name__ == "__main__":
    sys.exit(main())
