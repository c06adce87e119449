"""Reference pages that are made from the program itself, so that they cannot go stale."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Mapping
from typing import Any
from unittest import mock

import drigm
from drigm.cli.main import main as command_line
from drigm.core.config import FIELDS
from drigm.core.presets import KIND_SETTINGS, PRESETS

COLUMNS = "78"
# The public names of drigm in an order to read; one that is not here goes to the end.
GROUPS = {
    "Train": ("train", "resume", "train_together", "StopTraining", "load_run", "Run", "sweep", "tune"),
    "Factorizations": ("VDN", "QMIX", "QTRAN"),
    "Uncertainty sets": ("Nominal", "Contamination", "TotalVariation", "ChiSquare", "KullbackLeibler"),
    "Evaluate and verify": (
        "evaluate",
        "Evaluation",
        "evaluate_controller",
        "write_report",
        "verify",
        "verify_run",
    ),
    "Act": ("load_team", "load_agent", "deploy"),
    "Environments": ("make_env", "check_env"),
    "Plug-ins": ("register_env", "register_factorization", "register_perturbation", "register_uncertainty"),
    "Errors": ("UserError",),
    "Modules": ("statistics", "exact"),
}


def python_page() -> str:
    """Return the page of drigm's public names, for mkdocstrings to fill."""
    grouped = {name for names in GROUPS.values() for name in names}
    rest = tuple(name for name in drigm.__all__ if name not in grouped)
    groups = {**GROUPS, **({"More": rest} if rest else {})}
    lines = ["# Python API", "", "Everything here is `drigm.NAME`; names are imported when they are first asked for."]
    for title, names in groups.items():
        lines += ["", f"## {title}", ""]
        lines += [f"::: drigm.{name}\n" for name in names if name in drigm.__all__]
    return "\n".join(lines) + "\n"


def command_line_page() -> str:
    """Return the page of all commands, each as its ``--help`` says it."""
    overview = help_of()
    commands = re.findall(r"^ {2,6}([a-z][a-z-]+)(?= {2,}\S|$)", overview.partition("\n\n")[2], re.MULTILINE)
    lines = ["# Command line", "", "As `drigm COMMAND --help` says it.", "", "```text", overview, "```"]
    for command in dict.fromkeys(commands):
        lines += ["", f"## drigm {command}", "", "```text", help_of(command), "```"]
    return "\n".join(lines) + "\n"


def help_of(*command: str) -> str:
    """Return what ``drigm COMMAND --help`` prints."""
    said = io.StringIO()
    with (
        mock.patch.dict(os.environ, {"COLUMNS": COLUMNS, "NO_COLOR": "1"}),
        contextlib.redirect_stdout(said),
        contextlib.suppress(SystemExit),
    ):
        command_line([*command, "--help"])
    assert said.getvalue().strip(), f"drigm {' '.join(command)} --help says nothing"
    return said.getvalue().rstrip()


def settings_page() -> str:
    """Return the page of all settings of a training, with their defaults by the kind of environment."""
    lines = [
        "# Settings",
        "",
        "Every setting of `drigm train`, as a flag (`--learning-rate`), as an argument of `drigm.train`",
        "(`learning_rate=`), and as a key of a sweep file. The default is that of buildings; the column *elsewhere*",
        "has those of other kinds of environment. What is given counts before a preset, a preset before these.",
        "",
        "| setting | what it is | default | elsewhere | allowed |",
        "|---|---|---|---|---|",
    ]
    for name, field in FIELDS.items():
        cells = (f"`{name}`", text(field.metadata["doc"]), shown(field.default), elsewhere(name), allowed(field))
        lines.append(f"| {' | '.join(cells)} |")
    for preset, changes in PRESETS.items():
        if changes:
            lines += ["", f"## The preset {preset}", "", "| setting | value |", "|---|---|"]
            lines += [f"| `{name}` | {shown(value)} |" for name, value in changes.items()]
    return "\n".join(lines) + "\n"


def elsewhere(name: str) -> str:
    """Return the defaults of setting ``name`` in kinds of environment that have their own, like kinds together."""
    kinds: dict[str, list[str]] = {}
    for kind, settings in KIND_SETTINGS.items():
        if name in settings and settings[name] != FIELDS[name].default:
            kinds.setdefault(shown(settings[name]), []).append(f"`{kind}`")
    return "<br>".join(f"{value}: {', '.join(names)}" for value, names in kinds.items())


def allowed(field: Any) -> str:
    """Return what values a field of `TrainConfig` takes."""
    facts: Mapping[str, Any] = field.metadata
    if "choices" in facts:
        return ", ".join(f"`{choice}`" for choice in facts["choices"])
    if isinstance(field.default, bool):
        return "yes or no"
    low, high = facts["low"], facts["high"]
    if low is None and high is None:
        return "a text" if isinstance(field.default, str) and field.name != "fail_value" else "a number, or `auto`"
    bounds = f"from {low:,}" if high is None else f"{low:,} to {high:,}"
    return f"{bounds}, whole" if isinstance(field.default, int) else bounds


def shown(value: Any) -> str:
    """Return a setting's value as code; an empty text in words."""
    if value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"`{value:,}`" if isinstance(value, int) else f"`{value}`"


def text(sentence: str) -> str:
    """Return ``sentence`` for a cell of a table."""
    return sentence.replace("|", "\\|").replace("<", "&lt;")
