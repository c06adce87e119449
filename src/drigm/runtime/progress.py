"""Progress of a long run: a live bar on a terminal, parseable lines everywhere else."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from drigm.core.naming import duration

RATE_WINDOW_S = 30.0  # the rate is that of the last half minute


class Progress:
    """Show how far a run is, how fast it goes and how its metrics stand.

    On a terminal: a bar with the metrics below it. Elsewhere, at most every ``interval`` seconds, a line like::

        step=51200/172800 return=-812.3 loss=0.0123 epsilon=0.05 steps_per_s=4321 eta_s=28

    with a rate from the second update on: before the first, programs are compiled, which says nothing about the rest.
    There is a last line with ``elapsed_s`` when the block is left, by its end or an exception. Trouble with the stream
    (closed, full, unable to encode) never reaches the caller: a display is not worth a training run.

    Args:
        label: what is running, in a few words.
        total: the number of steps at which the run is complete.
        quiet: show nothing at all.
        stream: where to write; standard error by default.
        unit: what is counted, in the plural.
        start: the steps that were done before this process, for a resumed run; rates leave them out.
        interval: seconds between plain lines.
        clock: seconds from any origin; an argument so that a test needs no waiting.
    """

    def __init__(
        self,
        label: str,
        total: int,
        quiet: bool = False,
        stream: TextIO | None = None,
        *,
        unit: str = "steps",
        start: int = 0,
        interval: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label, self._total, self._quiet, self._unit = label, total, quiet, unit
        self._stream = _Unfailing(sys.stderr if stream is None else stream)
        self._interval, self._clock = interval, clock
        self._start = self._done = start
        self._began = self._last_line = clock()
        self._recent = deque[tuple[float, int]]()
        self._metrics: dict[str, float] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if not self._quiet:
            self._live = _start_live(self._stream, self._render)
            if self._live is None:
                resumed = f", from step {self._start}" if self._start else ""
                unit = self._unit.removesuffix("s") if self._total == 1 else self._unit
                self._write(f"# {self._label}: {self._total} {unit}{resumed}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()  # leaves the bar as it stood last
        elif not self._quiet:
            self._write(self._line(f"elapsed_s={self._clock() - self._began:.1f}"))

    def update(self, done: int, **metrics: float) -> None:
        """Note that ``done`` steps of the total are complete; metrics not given keep their last value."""
        now = self._clock()
        self._done = int(done)
        self._metrics |= {name: float(value) for name, value in metrics.items()}
        self._recent.append((now, self._done))
        while len(self._recent) > 2 and self._recent[1][0] <= now - RATE_WINDOW_S:
            self._recent.popleft()
        if not self._quiet and self._live is None and now - self._last_line >= self._interval:
            self._last_line = now
            self._write(self._line("" if math.isnan(self.eta_s) else f"eta_s={self.eta_s:.0f}"))

    def note(self, text: str) -> None:
        """Print one line of ``text`` without disturbing the bar."""
        if self._live is not None:
            self._live.console.print(Text(text), soft_wrap=True)
        elif not self._quiet:
            self._write(f"# {text}")

    @property
    def steps_per_s(self) -> float:
        """Steps per second over the last half minute, of this process only; ``nan`` before the second update."""
        if not self._recent:
            return math.nan
        (t0, done0), (t1, done1) = self._recent[0], self._recent[-1]
        return (done1 - done0) / (t1 - t0) if t1 > t0 else math.nan

    @property
    def eta_s(self) -> float:
        """Seconds left at the present rate; ``nan`` while that is unknown."""
        rate = self.steps_per_s
        return max(0, self._total - self._done) / rate if rate > 0 else math.nan

    def _line(self, last: str) -> str:
        rate = {} if math.isnan(self.steps_per_s) else {f"{self._unit}_per_s": self.steps_per_s}
        shown = [f"{name}={_short(x)}" for name, x in (self._metrics | rate).items()]
        return " ".join([f"{self._unit.removesuffix('s')}={self._done}/{self._total}", *shown, *filter(None, [last])])

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    def _render(self) -> Group:
        """Return the bar line and the metrics line; rich calls this at every refresh, so the clock goes on."""
        complete = self._done >= self._total
        elapsed = self._clock() - self._began
        left = f"{duration(elapsed)} in all" if complete else f"{duration(self.eta_s)} left"
        left = f"{duration(elapsed)}, starting" if math.isnan(self.eta_s) and not complete else left
        bar = Table.grid(padding=(0, 1), expand=False)
        bar.add_row(
            Text(self._label, style="bold", no_wrap=True, overflow="ellipsis"),
            ProgressBar(
                total=max(1, self._total),
                completed=self._done if self._total else 1,
                width=28,
                complete_style="cyan",
                finished_style="green",
            ),
            Text(f"{self._done / max(1, self._total):4.0%}"),
            Text(left, style="dim"),
        )
        shown = (f"{name} {_short(value)}" for name, value in self._metrics.items())
        fields = [f"{self._done}/{self._total}", *shown]
        if not math.isnan(self.steps_per_s):
            fields.append(f"{_short(self.steps_per_s)} {self._unit}/s")
        return Group(bar, Text("  " + "  ".join(fields), style="dim", no_wrap=True, overflow="ellipsis"))


class _Unfailing:
    """A text stream whose ``write`` and ``flush`` never raise; everything else is the stream's own.

    It stands here, and not in a ``try`` around each call, because rich also writes from its refresh thread.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:
            return self.write(text.encode("ascii", errors="replace").decode("ascii"))
        except (OSError, ValueError, AttributeError):  # a broken pipe, a full disk, a closed file, no stream at all
            return 0

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError, AttributeError):
            return

    def isatty(self) -> bool:
        try:
            return self._stream.isatty()
        except (AttributeError, OSError, ValueError):
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _start_live(stream: _Unfailing, render: Callable[[], Group]) -> Live | None:
    """Return a running live display, or None where the stream is no terminal that can redraw a line."""
    # Asked of the stream and not of rich, which takes a log file for a terminal where FORCE_COLOR is set.
    if not stream.isatty():
        return None
    try:
        console = Console(file=stream)  # pyright: ignore[reportArgumentType]
        if not console.is_terminal or console.is_dumb_terminal:
            return None
        # Standard output joins the display only if it is a terminal too; redirected, it belongs to the user.
        live = Live(
            console=console,
            get_renderable=render,
            refresh_per_second=4,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )
        live.start(refresh=True)
    except Exception:
        return None
    return live


def _short(x: float) -> str:
    """Return ``x`` in four digits, without an exponent while it is large: 0.01234, -812.3, 172800."""
    return f"{x:.0f}" if 1000 <= abs(x) < 1e15 else f"{x:.4g}"
