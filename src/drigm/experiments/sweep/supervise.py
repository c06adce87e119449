"""The loop of a sweep: start programs, wait, run again what was killed, show how far everything is."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from drigm.core.errors import UserError
from drigm.core.naming import duration
from drigm.experiments.sweep.engines import Engine
from drigm.experiments.sweep.plan import Plan
from drigm.storage.run_directory import seeds_of

ATTEMPTS = 4  # of a program whose process is killed each time
POLL_S = 1.0
LINES_S = 10.0  # between lines where there is no terminal
ROWS = 24  # of the live table


class Status(NamedTuple):
    """How far a program is: waiting, running, done or failed; ``step`` and ``score`` are those of its first point."""

    state: str
    step: int = 0
    score: float = math.nan


def drive(plan: Plan, engine: Engine, *, quiet: bool = False, stream: TextIO | None = None) -> dict[str, str]:
    """Bring every point of ``plan`` that is not finished to its end; returns a sentence for each that failed."""
    left = [i for i, names in enumerate(plan.programs) if not all(map(plan.is_finished, names))]
    states = {i: "waiting" if i in left else "done" for i in range(len(plan.programs))}
    first = plan.reference()  # nobody else begins before it has ended
    waiting, tries, failed = deque(sorted(left, key=lambda i: i != first)), Counter[int](), {}
    with Display(plan, states, quiet=quiet, stream=stream) as display:
        while "waiting" in states.values() or "running" in states.values():
            while waiting and list(states.values()).count("running") < engine.slots:
                if waiting[0] != first and first is not None and states[first] in ("waiting", "running"):
                    break
                program = waiting.popleft()
                tries[program] += 1
                engine.start(program)
                display.change(program, "running")
            for program, error, died in engine.ended(POLL_S):
                missing = [name for name in plan.programs[program] if not plan.is_finished(name)]
                if not missing:  # the run directories decide
                    display.change(program, "done")
                elif died and tries[program] < ATTEMPTS:
                    (waiting.appendleft if program == first else waiting.append)(program)
                    display.change(program, "waiting", error)
                else:
                    failed |= dict.fromkeys(missing, error or "its process ended before its time")
                    display.change(program, "failed", error)
            display.refresh()
    return failed


class Display:
    """A live table on a terminal; elsewhere a line per change of state, and one for all every few seconds."""

    def __init__(self, plan: Plan, states: dict[int, str], *, quiet: bool, stream: TextIO | None) -> None:
        self._plan, self._states, self._quiet = plan, states, quiet
        self._stream: TextIO = sys.stderr if stream is None else stream
        self._began, self._last_line = time.monotonic(), -math.inf
        self._seen: dict[int, Status] = {}
        self._live: Live | None = None

    def __enter__(self) -> Display:
        self._read()
        if not self._quiet:
            self._live = live_display(self._stream, self._render)
            if self._live is not None:
                self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._read()
        if self._live is not None:
            self._live.stop()
        else:
            self._line(f"{self._summary()} elapsed_s={time.monotonic() - self._began:.1f}")

    def change(self, program: int, state: str, why: str = "") -> None:
        """Note a program's new state."""
        self._states[program] = state
        names = ",".join(self._plan.programs[program])
        self._line(f"program={program} state={state} points={names}" + (f" # {why}" if why else ""))

    def refresh(self) -> None:
        """Read how far the running programs are, and say so where it is time to."""
        self._read()
        if time.monotonic() - self._last_line >= LINES_S:
            self._last_line = time.monotonic()
            for i, status in self._seen.items():
                if status.state == "running":
                    total = self._config(i).steps
                    self._line(f"program={i} state=running step={status.step}/{total} score={status.score:.4g}")
            self._line(self._summary())

    def _summary(self) -> str:
        states = Counter(self._states.values())
        done = sum(len(self._plan.programs[i]) for i, state in self._states.items() if state == "done")
        counts = " ".join(f"{state}={states[state]}" for state in ("done", "running", "waiting", "failed"))
        return f"points={done}/{len(self._plan.points)} programs={len(self._states)} {counts}"

    def _line(self, text: str) -> None:
        if self._quiet or self._live is not None:
            return
        try:
            print(text, file=self._stream, flush=True)
        except (OSError, ValueError):  # a display is not worth a sweep
            self._quiet = True

    def _config(self, program: int):
        return self._plan.points[self._plan.programs[program][0]]

    def _read(self) -> None:
        for i, state in self._states.items():
            before = self._seen.get(i, Status(state))
            if state != "running" and i in self._seen:
                self._seen[i] = before._replace(state=state)
                continue
            try:
                rows = self._plan.directory(self._plan.programs[i][0]).read_metrics(seeds_of(self._config(i))[0])
            except UserError:  # damaged: whoever needs the numbers will say so
                rows = []
            scores = [row["score"] for row in rows if math.isfinite(row["score"])]
            self._seen[i] = Status(state, int(rows[-1]["step"]) if rows else 0, scores[-1] if scores else math.nan)

    def _render(self) -> Group:
        table = Table.grid(padding=(0, 1), expand=False)
        order = sorted(self._seen, key=lambda i: ("running", "failed", "waiting", "done").index(self._seen[i].state))
        for i in sorted(order[:ROWS]):
            status, steps, names = self._seen[i], self._config(i).steps, self._plan.programs[i]
            done = steps if status.state == "done" else min(status.step, steps)
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            table.add_row(
                Text(f"{names[0]}{more}", style="bold", no_wrap=True, overflow="ellipsis"),
                ProgressBar(total=steps, completed=done, width=20, complete_style="cyan", finished_style="green"),
                Text(f"{done / steps:4.0%}"),
                Text(status.state if status.step or status.state != "running" else "starting", style="dim"),
                Text("" if math.isnan(status.score) else f"score {status.score:.4g}", style="dim"),
            )
        counts = self._summary().replace("=", " ")
        return Group(table, Text(f"{counts}  {duration(time.monotonic() - self._began)}", style="dim"))


def live_display(stream: TextIO, render: Callable[[], Group]) -> Live | None:
    """Return a display that redraws itself, or None where the stream is no terminal that can."""
    if not stream.isatty():
        return None
    console = Console(file=stream)
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    return Live(console=console, get_renderable=render, refresh_per_second=4)
