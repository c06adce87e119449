"""What a person at a terminal sees of a closed loop, 80 columns wide: who reads what, does what, and what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from drigm.deployment.loop import AgentStep, LoopStep
from drigm.deployment.words import short_action

ROWS = 16  # agents that are shown; the others are counted
REFRESH = 8  # a second


class View:
    """A live view on a terminal; nothing at all elsewhere, or with ``quiet``.

    Args:
        header: of the log (`drigm.deployment.log`).
        quiet: show nothing.
        stream: where to; standard output by default.
    """

    def __init__(self, header: Mapping[str, Any], *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.header, self.stream = header, sys.stdout if stream is None else stream
        self.total, self.live, self.last = 0.0, None, None
        if not quiet and _is_terminal(self.stream):
            console = Console(file=self.stream)
            self.live = Live(console=console, get_renderable=self.render, refresh_per_second=REFRESH)

    def __enter__(self) -> Self:
        if self.live is not None:
            self.live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def show(self, step: LoopStep) -> None:
        """Show a step."""
        self.total = step.reward + (self.total if step.step else 0.0)
        self.last = step

    def render(self) -> Group:
        """Return what is seen now."""
        if self.last is None:
            return Group(Text(f"{self.header['env']}: starting"))
        step, agents = self.last, self.header["agents"]
        head = f"episode {step.episode}  step {step.step}  reward {step.reward:.4g}  sum {self.total:.5g}"
        driver = self.header["controller"]
        lead = Text(head, style="bold", no_wrap=True, overflow="ellipsis")
        table = Table(box=None, pad_edge=False, padding=(0, 1), expand=True)
        table.add_column("agent", no_wrap=True, overflow="ellipsis", max_width=16)
        table.add_column("readings", no_wrap=True, overflow="ellipsis", ratio=3)
        table.add_column("action", no_wrap=True, overflow="ellipsis", max_width=12)
        if driver is not None:
            table.add_column("would", no_wrap=True, overflow="ellipsis", max_width=12)
        table.add_column("flags", no_wrap=True, overflow="ellipsis", ratio=2)
        for agent in agents[:ROWS]:
            table.add_row(*self._row(agent, step.agents.get(agent["name"])))
        parts: list[Any] = [Text(self._where(), style="dim", no_wrap=True, overflow="ellipsis"), lead, table]
        if len(agents) > ROWS:
            rest = [step.agents.get(agent["name"]) for agent in agents[ROWS:]]
            flagged = sum(bool(one and one.flags) for one in rest)
            parts.append(Text(f"and {len(rest)} more agents, {flagged} with flags", style="dim"))
        return Group(*parts)

    def _where(self) -> str:
        driver = self.header["controller"]
        return f"{self.header['env']}" + ("" if driver is None else f"  driven by {driver}, the team in its shadow")

    def _row(self, agent: Mapping[str, Any], one: AgentStep | None) -> list[Text]:
        shadow = self.header["controller"] is not None
        if one is None:
            return [Text(agent["name"]), Text("has left", style="dim"), *[Text("-")] * (2 + shadow)]
        names = [reading["name"] for reading in agent["readings"]]
        readings = "  ".join(_reading(name, x) for name, x in zip(names, one.readings, strict=True))
        flags = " ".join(dict.fromkeys(flag.kind for flag in one.flags))
        row = [Text(agent["name"]), Text(readings), Text(short_action(agent, one.action))]
        row += [Text(short_action(agent, one.action if one.would is None else one.would))] if shadow else []
        return [*row, Text(flags or "-", style="red" if flags else "dim")]


def _reading(name: str, x: float | None) -> str:
    """Return a reading in few characters: the initials of its name, or its number, and its value."""
    words = name.split() or ["?"]
    short = words[-1] if words[0] == "reading" else "".join(word[0] for word in words) if len(words) > 1 else name[:5]
    return f"{short} {'-' if x is None else f'{x:.4g}'}"


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, OSError, ValueError):
        return False
