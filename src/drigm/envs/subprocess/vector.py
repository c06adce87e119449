"""Environments in worker processes, stepped together: this process keeps computing while they step."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drigm.core.errors import UserError
from drigm.envs.subprocess.worker.errors import shorten
from drigm.envs.subprocess.worker.steps import AT_WORK, Facts, unpack
from drigm.runtime.devices import usable_cores

try:
    import fcntl
except ImportError:  # not a POSIX system: no workers
    fcntl = None

WORKER = Path(__file__).parent / "worker" / "main.py"
STEP_SECONDS = 600.0  # until a step counts as hanging, where nothing else is asked for
START_SECONDS = 300.0  # the same for making an environment and for a reset: StarCraft takes a minute to start
POLL_SECONDS = 1.0
CLOSE_SECONDS = 1.5  # for environments to close what they opened, such as a game, all workers at once
END_SECONDS = 10.0  # until processes that were killed have gone; it takes milliseconds
WORDS = 4096  # bytes of a worker's last words that are read
TALK = 1 << 20  # bytes of a worker's words that are kept
INSIDE = "DRIGM_WORKER"  # set in workers and whatever they start, each worker with a value of its own
# Waits until its input ends, be it that a worker is closed or that drigm was killed. Then it ends the worker's process
# group, and what has left the group but still carries the worker's mark (grep -z is GNU's; elsewhere nothing is found).
GUARD = r"""
read -r group
read -r never
kill -s KILL -- "-$group"
for again in 1 2; do
  for file in $(grep -lsz -- "^$1\$" /proc/[0-9]*/environ); do
    process=${file#/proc/}
    kill -s KILL "${process%/environ}"
  done
done
"""


class SubprocessSource(NamedTuple):
    """How to make an environment in another process.

    ``kind`` is one of `drigm.envs.subprocess.worker.adapters.KINDS`, ``python`` the interpreter that runs it,
    ``workers`` how many processes share the environments (0: one for each usable core), ``most`` how many an
    evaluation may hold at once, ``timeout`` how many seconds a step may take. ``worlds``: episodes are in one of these,
    each with options of its own and its place in the ranges that it was drawn from (see `drigm.envs.persistent`).
    """

    kind: str
    name: str
    python: str = ""
    workers: int = 0
    most: int = 64
    timeout: float = STEP_SECONDS
    worlds: tuple[tuple[tuple[tuple[str, float], ...], tuple[float, ...]], ...] = ()

    @property
    def seeded(self) -> bool:
        """Whether an episode follows from the seed of its reset; StarCraft takes a seed when it is made."""
        return self.kind != "smac"

    def open(self, seeds: list[int]) -> SubprocessVector:
        """Start ``len(seeds)`` environments, each with its own seed."""
        return SubprocessVector(self, seeds)


class SubprocessWorld(NamedTuple):
    """The params of a world that is another environment of the same kind: what it is called."""

    name: str


class SubprocessSteps(NamedTuple):
    """Stacked time-steps [B, ...], the fields of `drigm.envs.subprocess.worker.steps.SubprocessStep`."""

    obs: np.ndarray
    state: np.ndarray
    avail_actions: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    alive: np.ndarray
    won: np.ndarray


def refuse_inside() -> None:
    """Raise `UserError` in a worker: it has imported a script that does its work when it is imported."""
    if INSIDE in os.environ:
        raise UserError(
            "env: a worker process was asked to start workers; put the script's own work under "
            "if __name__ == '__main__'."
        )


class _Process:
    """One worker: its process, its connection, and the slots it holds.

    It leads a process group of its own, which a guard ends with it.
    """

    def __init__(self, number: int, source: SubprocessSource, seeds: list[int], first: int) -> None:
        refuse_inside()
        self.number, self.source, self.seeds, self.first = number, source, seeds, first
        with contextlib.ExitStack() as opened:
            try:
                self._start(opened)
            except OSError as error:
                if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError) and source.python:
                    raise UserError(
                        f"env_python: {source.python!r} is not allowed; it cannot be run ({error.strerror})."
                    ) from None
                raise UserError(
                    f"env {source.kind}:{source.name}: worker {number} cannot be started ({error.strerror}); "
                    "env_workers says how many there are."
                ) from None
            self.opened = opened.pop_all()

    def _start(self, opened: contextlib.ExitStack) -> None:
        python, mark = self.source.python or sys.executable, f"{INSIDE}={uuid.uuid4().hex}"
        self.errors = opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        if fcntl is not None:
            fcntl.fcntl(self.errors, fcntl.F_SETFL, os.O_APPEND)  # goes on at the start once it was cut
        self.progress = opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        # Connected before the process starts: its death is an end of file.
        self.connection, theirs = (opened.enter_context(end) for end in Pipe())
        # In a session of its own: what ends drigm by its group leaves the guard to end the rest.
        command = ["/bin/sh", "-c", GUARD, "drigm-guard", mark]
        null = subprocess.DEVNULL
        self.guard = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=null, stderr=null, start_new_session=True)
        opened.callback(self._end_guard)
        self.process = subprocess.Popen(
            [python, str(WORKER), str(theirs.fileno()), str(self.progress.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # environments print
            stderr=self.errors,
            pass_fds=[theirs.fileno(), self.progress.fileno()],
            start_new_session=True,
            # Sets of texts have the same order in every worker.
            env={"PYTHONHASHSEED": "0", **os.environ, "OMP_NUM_THREADS": "1", INSIDE: mark.partition("=")[2]},
        )
        theirs.close()
        self._tell_guard(f"{self.process.pid}\n".encode())

    def _tell_guard(self, text: bytes) -> None:
        assert self.guard.stdin is not None
        with contextlib.suppress(OSError):  # somebody ended it
            self.guard.stdin.write(text)
            self.guard.stdin.flush()

    def _end_guard(self) -> None:
        assert self.guard.stdin is not None
        with contextlib.suppress(OSError):
            self.guard.stdin.close()
        self.guard.wait(END_SECONDS)

    def send(self, request: dict[str, Any], payload: bytes = b"") -> None:
        try:
            if os.fstat(self.errors.fileno()).st_size > TALK:
                self.errors.truncate(0)
            self.connection.send_bytes(json.dumps(request).encode() + b"\n" + payload)
        except OSError:
            self._expect_life("when it was called", dead=True)

    def receive(self, what: str) -> tuple[dict[str, Any], bytes]:
        """Return the worker's answer; `UserError` if it reports a fault, dies, or is at one call for too long."""
        at, since, timeout = (-1, 0, True), time.monotonic(), self.source.timeout
        while True:
            try:
                if self.connection.poll(min(POLL_SECONDS, timeout / 4.0)):
                    head, _, payload = self.connection.recv_bytes().partition(b"\n")
                    break
            except (EOFError, OSError):
                self._expect_life(what, dead=True)
            self._expect_life(what)
            now = self._at()
            if now != at:
                at, since = now, time.monotonic()
            limit = max(START_SECONDS, timeout) if at[2] else timeout
            if time.monotonic() - since > limit:
                call = "to be made or reset" if at[2] else "for a step"
                raise UserError(
                    f"{self._called(at[1])}: it takes more than {limit:g} s {call} {what}; env_timeout says how long a "
                    "step may take."
                )
        answer = json.loads(head)
        if "fault" in answer:
            raise UserError(f"{self._called(answer.get('slot'))}: {answer['fault']}.")
        return answer, payload

    def _at(self) -> tuple[int, int, bool]:
        """Return what the worker is at, see `AT_WORK`."""
        written = os.pread(self.progress.fileno(), AT_WORK.size, 0)
        return AT_WORK.unpack(written) if len(written) == AT_WORK.size else (0, 0, True)

    def _called(self, slot: int | None) -> str:
        which = "" if slot is None else f" (environment {self.first + slot})"
        return f"env {self.source.kind}:{self.source.name}{which}"

    def _expect_life(self, what: str, *, dead: bool = False) -> None:
        """Raise `UserError` if the process has ended; ``dead``: it has hung up, so it ends now."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(CLOSE_SECONDS if dead else 0.0)
        code = self.process.poll()
        if code is None and not dead:
            return
        how = "has hung up" if code is None else f"died with exit code {code}"
        last = self.first + len(self.seeds) - 1
        size = os.fstat(self.errors.fileno()).st_size
        written = os.pread(self.errors.fileno(), WORDS, max(0, size - WORDS)).decode(errors="replace")
        lines = written.strip().splitlines()
        message = f"; its last words: {shorten(lines[-1])}" if lines else ""
        raise UserError(
            f"{self._called(None)}: worker {self.number} (environments {self.first} to {last}) {how} {what}{message}."
        )


def _close(workers: list[_Process]) -> None:
    """Hang up on all ``workers``, leave them a moment to close their environments, and end what is left of them."""
    for worker in workers:
        worker.connection.close()
    deadline = time.monotonic() + CLOSE_SECONDS
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(max(0.0, deadline - time.monotonic()))
    for worker in workers:
        assert worker.guard.stdin is not None
        with contextlib.suppress(OSError):
            worker.guard.stdin.close()
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.guard.wait(END_SECONDS)
        if worker.process.poll() is None:  # the guard was ended by somebody
            os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.wait(END_SECONDS)
        worker.opened.close()


class SubprocessVector:
    """B environments in worker processes; slots keep their order.

    A slot whose episode is over resets at the next tick instead of stepping, so the last observation is seen too.

    Raises:
        UserError: the environment cannot be made, breaks its contract, raises, or its process dies or hangs. Every
            worker is stopped then.
    """

    def __init__(self, source: SubprocessSource, seeds: list[int]) -> None:
        count = min(source.workers or usable_cores(), len(seeds))
        bounds = np.linspace(0, len(seeds), count + 1).astype(int)
        self.source, self.size, self.ticks, self.workers = source, len(seeds), 0, []
        try:
            for number, (low, high) in enumerate(itertools.pairwise(bounds.tolist())):
                self.workers.append(_Process(number, source, seeds[low:high], low))
        except BaseException:
            self.close()
            raise
        self.turn_to(source)

    def turn_to(self, source: SubprocessSource) -> None:
        """Make the environments of ``source`` in the place of those that are there, by the same processes.

        Only kind, name and worlds may be other than they were.
        """
        self.source = source
        try:
            for worker in self.workers:
                worker.source = source
                asked = {"kind": source.kind, "name": source.name, "worlds": source.worlds}
                worker.send({"do": "open", **asked, "seeds": worker.seeds})
            answers = [worker.receive("while it made its environments")[0] for worker in self.workers]
        except BaseException:
            self.close()
            raise
        self.facts = Facts(**answers[0]["facts"])

    def reset(self, seeds: list[int] | None = None) -> SubprocessSteps:
        """Start new episodes everywhere, on ``seeds`` or on the slots' own."""
        for worker in self.workers:
            own = None if seeds is None else seeds[worker.first : worker.first + len(worker.seeds)]
            self._send(worker, {"do": "reset", "seeds": own})
        return self._gather("at reset")

    def replay(self, episodes: np.ndarray, steps: np.ndarray, orders: np.ndarray, checksums: np.ndarray) -> np.ndarray:
        """Lead environments that have not been reset to where others were before they took their last orders.

        Args:
            episodes: [B], how many those had begun.
            steps: [B], how many orders they were given in the last one, 0 where the next tick begins it.
            orders: [B, L, N], these.
            checksums: [B], of their time-steps before the last orders.

        Returns:
            Where these could not be reached [B]; the next tick begins another episode there.
        """
        length, lost = max(0, int(steps.max()) - 1), np.zeros(self.size, bool)
        for worker in self.workers:
            mine = slice(worker.first, worker.first + len(worker.seeds))
            columns = {"episodes": episodes[mine].tolist(), "steps": steps[mine].tolist()}
            request = {"do": "replay", "length": length, **columns, "checksums": checksums[mine].tolist()}
            self._send(worker, request, np.ascontiguousarray(orders[mine, :length], np.int32).tobytes())
        try:
            for worker in self.workers:
                answer, _ = worker.receive("while it repeated the episodes that a checkpoint broke off")
                lost[[worker.first + i for i in answer["lost"]]] = True
        except BaseException:
            self.close()
            raise
        return lost

    def send(self, actions: np.ndarray) -> None:
        """Begin a tick with the joint actions [B, N] int32; `receive` ends it."""
        self.ticks += 1
        for worker in self.workers:
            mine = actions[worker.first : worker.first + len(worker.seeds)]
            self._send(worker, {"do": "tick"}, np.ascontiguousarray(mine, np.int32).tobytes())

    def _send(self, worker: _Process, request: dict[str, Any], payload: bytes = b"") -> None:
        try:
            worker.send(request, payload)
        except BaseException:
            self.close()
            raise

    def receive(self) -> SubprocessSteps:
        """Return the time-steps that the last `send` led to."""
        return self._gather(f"at tick {self.ticks}")

    def _gather(self, what: str) -> SubprocessSteps:
        try:
            parts = [unpack(self.facts, len(w.seeds), w.receive(what)[1]) for w in self.workers]
        except BaseException:
            self.close()
            raise
        return SubprocessSteps(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def close(self) -> None:
        """Stop the workers and whatever they have started; takes two seconds at most, however many there are."""
        workers, self.workers = self.workers, []
        _close(workers)


def ask(source: SubprocessSource, request: dict[str, Any], what: str) -> dict[str, Any]:
    """Return the answer of a worker that lives for one request; raises `UserError` as `SubprocessVector` does."""
    worker = _Process(0, source, [0], 0)
    try:
        worker.send({**request, "kind": source.kind, "name": source.name})
        return worker.receive(what)[0]
    finally:
        _close([worker])
