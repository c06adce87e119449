"""Ctrl-C, SIGTERM and SIGHUP: training finishes the piece under way, saves and leaves, within seconds.

A signal that comes again after half a second leaves at once. One that is ignored, as under ``nohup``, stays ignored.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
LEAVE_SECONDS = 4.0  # until a process that has been asked to end does so, whatever it waits for
AGAIN_SECONDS = 0.5  # a signal that comes sooner is the same one, sent to the whole group and passed on by a parent
SAME_COMMAND = "the same command starts again what has not finished"


class Request:
    """Whether this process has been asked to end: ``signum`` is the signal, None before."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._at = 0.0

    def note(self, signum: int, frame: Any = None) -> bool:
        """Note a signal; returns whether it is to be obeyed at once because there was one before."""
        if self.signum is None:
            self.signum, self._at = signum, time.monotonic()
            return False
        return time.monotonic() - self._at > AGAIN_SECONDS


class _Process:
    """What the watching thread knows of the process: how a user goes on, and what must not be cut short."""

    advice = SAME_COMMAND
    busy = 0
    said = False
    signum = int(signal.SIGINT)


@contextlib.contextmanager
def deferred() -> Iterator[Request]:
    """Note a signal instead of raising `KeyboardInterrupt`, for a loop that looks at the `Request` it is given.

    In threads other than the main one signals never arrive, and nothing is done.
    """
    request = Request()

    def handle(signum: int, frame: Any) -> None:
        _Process.signum = signum
        if request.note(signum):
            raise KeyboardInterrupt

    with _handled(handle):
        yield request


@contextlib.contextmanager
def as_interrupts() -> Iterator[None]:
    """Raise `KeyboardInterrupt` for every one of `SIGNALS` in the block."""
    request = Request()

    def handle(signum: int, frame: Any) -> None:
        _Process.signum = signum
        first = request.signum is None
        at_once = request.note(signum)
        if first or at_once:  # else it is the first one, passed on by a parent
            raise KeyboardInterrupt

    with _handled(handle):
        yield


@contextlib.contextmanager
def _handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for signum in SIGNALS:
            if signal.getsignal(signum) not in (signal.SIG_IGN, None):
                before[signum] = signal.signal(signum, handler)
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)


@contextlib.contextmanager
def advice(text: str) -> Iterator[None]:
    """Say ``text`` to whoever ends the process in the block."""
    before, _Process.advice = _Process.advice, text
    try:
        yield
    finally:
        _Process.advice = before


@contextlib.contextmanager
def finishing() -> Iterator[None]:
    """Let nothing but a second signal cut the block short, such as writing a checkpoint."""
    _Process.busy += 1
    try:
        yield
    finally:
        _Process.busy -= 1


def message(stop: KeyboardInterrupt) -> str:
    """Return what to print of an interruption, never nothing; from then on nobody else prints it."""
    _Process.said = True
    return str(stop) or f"stopped; {_Process.advice}"


def exit_code() -> int:
    """Return the exit code of an interrupted command: 128 and the signal's number."""
    return 128 + _Process.signum


def leave_in_time() -> None:
    """Make this process, which must be a command of its own, end within `LEAVE_SECONDS` of a signal.

    Python's handlers wait for calls into compiled code; a compiler takes half a minute, and has nothing to lose.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read,), name="signals", daemon=True).start()


def _watch(read: int) -> None:
    request, deadline = Request(), 0.0
    while request.signum is None or _Process.busy or time.monotonic() < deadline:
        ready, _, _ = select.select([read], [], [], None if request.signum is None else 0.1)
        signum = os.read(read, 1)[0] if ready else 0
        if signum not in SIGNALS:
            continue
        if request.note(signum):
            break
        deadline = deadline or time.monotonic() + LEAVE_SECONDS
    with contextlib.suppress(OSError, ValueError):
        if not _Process.said:
            sys.stderr.write(f"drigm: stopped; {_Process.advice}\n")
            sys.stderr.flush()
    os._exit(128 + (request.signum or signal.SIGINT))
