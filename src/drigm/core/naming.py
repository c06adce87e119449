"""What people read: the names of methods and places, durations, and commands to paste."""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path

from drigm.core.config import TrainConfig

SETS = {"tv": "TV", "chi2": "χ²", "kl": "KL"}
BASELINES = {"groupdr": "GroupDR"}


def resume_command(path: Path) -> str:
    """Return the command that continues the run in ``path``, to be pasted into a shell."""
    return f"drigm train --resume {shlex.quote(str(path))}"


def method_name(config: TrainConfig) -> str:
    """Return what tables and displays call a method.

    ``QMIX-TV 0.2``, ``VDN, agent-wise 0.1 (idle)``, ``VDN, gamma (1 - 0.5)``, ``QTRAN, GroupDR``; ``VDN`` is the
    non-robust team, which a set of radius 0 is too: it holds the nominal model alone.
    """
    name = short(config.factorization).upper()
    if config.uncertainty != "nominal" and config.rho:
        name += f"-{SETS.get(config.uncertainty, short(config.uncertainty))} {config.rho:g}"
    if config.agent_rho:
        name += f", agent-wise {config.agent_rho:g} ({config.agent_fault})"
    if config.samples:
        name += f", {config.samples} samples"
    if config.baseline == "none":
        return name
    if config.baseline == "short_horizon":
        return f"{name}, gamma (1 - {config.rho:g})" if config.rho else name
    return f"{name}, {BASELINES.get(config.baseline, config.baseline.replace('_', ' '))}"


def short(name: str) -> str:
    """Return ``MySet`` for ``python:package.module:MySet?option=1``."""
    return name.partition("?")[0].rpartition(":")[2]


def duration(seconds: float) -> str:
    """Return ``1 min 52 s``, ``2 h 5 min`` or ``8 s``; ``-`` where it is not known."""
    if math.isnan(seconds):
        return "-"
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {s} s" if minutes else f"{s} s"


def spaced(city: str) -> str:
    """Return ``New York`` for ``NewYork``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", city)
