"""argparse, as drigm uses it: what is wrong is one sentence with the nearest name, and every default is shown alike.

Nothing here, and nothing that a command's ``add`` needs, imports JAX: help comes at once.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from drigm.core.errors import nearest, one_line, shown

MISSING = "the following arguments are required: "


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one sentence, under the name of its own command, and exits with 2.

    Flags are written out: `--seed` would otherwise mean `--seeds` in one command and a flag of its own in the next.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        """Print ``message``, of argparse or of ours, as one line."""
        self.exit(2, f"{self.prog}: {one_line(self._plain(message)).rstrip('.')}.\n")

    def _plain(self, message: str) -> str:
        """Return what argparse says in the words of drigm's own errors."""
        if message.startswith(MISSING):
            return f"{message.removeprefix(MISSING)}: is missing; see {self.prog} --help"
        found = re.fullmatch(r"argument (\S+?)(?:/\S+)?: (.*)", message, flags=re.DOTALL)
        if found is None:
            return message
        name, what = found.groups()
        if what.startswith("expected"):
            return f"{name}: {what.replace('expected one argument', 'give a value')}"
        if number := re.fullmatch(r"invalid (int|float) value: (.*)", what):
            kind = "a whole number" if number[1] == "int" else "a number"
            return f"{name}: {number[2]} is not allowed; give {kind}"
        return f"{name}: {what}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse what is not among an action's choices, with the nearest of them."""
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            name = action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest)
            sentence = f"choose one of {', '.join(known)}{nearest(str(value), known)}"
            self.error(f"{name}: {shown(value)} is not allowed; {sentence}")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Parse, and refuse here what nobody knows: argparse itself would leave it to the parser of all commands."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flag = unknown[0].partition("=")[0]
            near = nearest(flag, self._option_string_actions) if flag.startswith("-") else ""
            self.error(f"{shown(flag)}: is no {'flag' if flag.startswith('-') else 'argument'} of it{near}")
        return options, unknown


def with_values(arguments: Sequence[str]) -> list[str]:
    """Join a flag and the negative number after it, as in ``--fail-value -1e3``: argparse takes that for a flag."""
    joined: list[str] = []
    for argument in arguments:
        if joined and re.fullmatch(r"--[a-z-]+", joined[-1]) and re.match(r"-(\d|\.\d|inf|nan)", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined
