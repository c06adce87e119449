"""The command line: drigm train, evaluate, controllers, export, inspect, deploy, report, verify, reproduce, ..."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from drigm.cli import (
    check_env,
    controllers,
    deploy,
    evaluate,
    export,
    inspect,
    report,
    reproduce,
    runs,
    sweep,
    train,
    tune,
    verify,
)
from drigm.cli import list as listing
from drigm.cli.parser import Parser, with_values
from drigm.core.errors import UserError
from drigm.runtime import interrupts

TOO_LARGE = "memory: there is not enough of it; give a smaller replay_size, num_envs, batch or seeds."
COMMANDS = (  # in the order of `drigm --help`
    train,
    evaluate,
    runs,
    controllers,
    export,
    inspect,
    deploy,
    verify,
    reproduce,
    report,
    check_env,
    sweep,
    tune,
    listing,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0; 1 if a verification fails; 2 for bad input, or where the system refuses a file or memory; 128 and the signal's
    number when interrupted. Without ``arguments`` it is the process's own command, and no signal waits long.
    """
    for stream in (sys.stdout, sys.stderr):  # a path may hold what the terminal's encoding does not
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    options = parser().parse_args(with_values(sys.argv[1:] if arguments is None else arguments))
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
    except RuntimeError as error:
        full = "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()
        if type(error).__name__ != "JaxRuntimeError" or not full:  # by its name: help must not wait for JAX
            raise
        return _failed(TOO_LARGE)


def _failed(sentence: str) -> int:
    """Say what is wrong; nothing else must fail then, not even where standard output is the full disk."""
    print(f"drigm: {sentence}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush at the end
    return 2


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; nothing that it imports loads JAX or NumPy."""
    whole = Parser(
        prog="drigm", description="Train cooperating agents so that the team still works when the world differs."
    )
    whole.add_argument("--version", action="version", version=f"drigm {version('drigm')}")
    whole.set_defaults(run=lambda options: whole.print_help() or 0)  # without a command
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for command in COMMANDS:
        command.add(commands)
    return whole
