"""The command line: drigm train, evaluate, controllers, export, inspect, deploy, report, verify, reproduce, ..."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import NoReturn

from drigm.core.errors import UserError, one_line
from drigm.runtime import interrupts

TOO_LARGE = "memory: there is not enough of it; give a smaller replay_size, num_envs, batch or seeds."
COMMANDS = (  # in the order of `drigm --help`; each has a module of its name in this folder
    "train",
    "evaluate",
    "controllers",
    "export",
    "inspect",
    "deploy",
    "verify",
    "reproduce",
    "report",
    "check-env",
    "sweep",
    "list",
)


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
    given = _with_values(sys.argv[1:] if arguments is None else arguments)
    options = _parser(given).parse_args(given)
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
        if not _of_memory(error):
            raise
        return _failed(TOO_LARGE)


def _of_memory(error: RuntimeError) -> bool:
    """Return whether JAX found no memory; `drigm inspect` and the like never import it."""
    jax = sys.modules.get("jax")
    if jax is None or not isinstance(error, jax.errors.JaxRuntimeError):
        return False
    return "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()


def _failed(sentence: str) -> int:
    """Say what is wrong; nothing else must fail then, not even where standard output is the full disk."""
    print(f"drigm: {sentence}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
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


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the command that is ``given``; of all commands where it is none, as in ``drigm --help``.

    Most commands import JAX, which takes seconds: one that does not need it does not wait for the others'.
    """
    parser = _Parser(
        prog="drigm", description="Train cooperating agents so that the team still works when the world differs."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    asked: Iterable[str] = given[:1] if given and given[0] in COMMANDS else COMMANDS
    for command in asked:
        import_module(f"drigm.cli.{command.replace('-', '_')}").add(commands)
    return parser
