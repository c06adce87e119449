"""Agents in processes of their own, with no channel between them; one that dies or hangs is replaced, and that is said.

A step of an agent that does not answer is its stand-in's (`drigm.deployment.stand_in`), with the flag ``process``. Then
a new process takes its place, at most `RESTARTS` times; it begins with cleared memory, as at the start of an episode.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from drigm.core.errors import UserError, one_line, warn
from drigm.deployment.guard import Decision, Flag
from drigm.deployment.stand_in import StandIn
from drigm.deployment.words import flags_of

START_SECONDS = 30.0  # until a process that says nothing counts as one that cannot be started
ANSWER_SECONDS = 5.0  # the same for a step, which takes a tenth of a millisecond
END_SECONDS = 1.0  # for processes to end by themselves when their input does
RESTARTS = 3  # of one agent
WORDS = 4096  # bytes of a process's last words that are read


class Asked(NamedTuple):
    """What one agent is shown at a step: its readings, what it can do, and what was really done before."""

    readings: list[float]
    available: list[bool] | None = None
    previous: int | None = None  # None: what it chose itself


class AgentProcess:
    """One process with one agent; see `drigm.deployment.device` for what is said.

    Args:
        file: the agent's contract, with its network beside it.
        extra: more arguments of the process, as in ``("--serve", "127.0.0.1", "8421")``; what such a process says on
            standard error is for whoever started it.

    Attributes:
        ready: what it said when it was ready.

    Raises:
        UserError: it cannot be started, or cannot load the agent.
    """

    def __init__(self, file: Path, extra: tuple[str, ...] = ()) -> None:
        self.file, self.buffer = file, b""
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        command = [sys.executable, "-P", "-m", "drigm.deployment.device", str(file), *extra]
        threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # of a step of microseconds
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if extra else self.errors,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for whoever started it
                env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        except OSError as error:
            self.errors.close()
            raise UserError(f"agent {file.stem}: its process cannot be started ({error.strerror}).") from None
        assert self.process.stdin is not None
        os.set_blocking(self.process.stdin.fileno(), False)  # for `send`
        try:
            self.ready = self.receive(START_SECONDS) or {}
            if "ready" not in self.ready:
                message = self.ready.get("fault") or f"its process does not start{self._last_words()}."
                raise UserError(f"agent {file.stem}: {message}")
        except BaseException:
            close_all([self])
            raise

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def send(self, request: Mapping[str, Any], seconds: float = ANSWER_SECONDS) -> bool:
        """Send a request; returns whether that could be done: one that hangs does not read a long one to its end."""
        assert self.process.stdin is not None
        until, pipe = time.monotonic() + seconds, self.process.stdin.fileno()
        left = memoryview(json.dumps(request).encode() + b"\n")
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_WRITE)
            while left:
                if not selector.select(max(0.0, until - time.monotonic())):
                    return False
                try:
                    left = left[os.write(pipe, left) :]
                except BlockingIOError:
                    continue
                except OSError:
                    return False
        return True

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """Return the next answer; None if the process dies before it, or says nothing for so long."""
        assert self.process.stdout is not None
        until, pipe = time.monotonic() + seconds, self.process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while b"\n" not in self.buffer:
                if not selector.select(max(0.0, until - time.monotonic())):
                    return None
                part = os.read(pipe, 1 << 16)
                if not part:
                    return None
                self.buffer += part
        line, _, self.buffer = self.buffer.partition(b"\n")
        try:
            return json.loads(line)
        except ValueError:
            return None

    def _last_words(self) -> str:
        size = os.fstat(self.errors.fileno()).st_size
        lines = os.pread(self.errors.fileno(), WORDS, max(0, size - WORDS)).decode(errors="replace").split("\n")
        found = [line for line in lines if line.strip()]
        return f" ({one_line(found[-1])})" if found else ""


def close_all(processes: list[AgentProcess]) -> None:
    """End ``processes``: their input ends, and what is still there after a moment is killed."""
    for one in processes:
        assert one.process.stdin is not None
        with contextlib.suppress(OSError):
            one.process.stdin.close()
    until = time.monotonic() + END_SECONDS
    for one in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            one.process.wait(max(0.0, until - time.monotonic()))
        if one.alive:
            with contextlib.suppress(OSError):
                os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait()
        assert one.process.stdout is not None
        one.process.stdout.close()
        one.errors.close()


class ProcessTeam:
    """Agents that each run in a process of their own.

    Args:
        files: of each agent, by name, its contract with its network beside it.
        contracts: the same, read.
        answer_seconds: how long an agent may take to answer.

    Attributes:
        processes: by name; None where an agent's is gone for good.
        restarts: how often each was started again.

    Raises:
        UserError: one cannot be started; none is left then.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        contracts: Mapping[str, Mapping[str, Any]],
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.files, self.contracts, self.answer_seconds = dict(files), contracts, answer_seconds
        self.processes = dict[str, AgentProcess | None]()
        self.restarts = dict.fromkeys(files, 0)
        self.missed = dict.fromkeys(files, 0)  # steps in a row without an answer
        self.stand_ins = {name: StandIn(contracts[name]) for name in files}
        try:
            for name, file in files.items():
                self.processes[name] = AgentProcess(file)
        except BaseException:
            self.close()
            raise

    def reset(self) -> None:
        """Begin a new episode of all agents."""
        for name, one in self.processes.items():
            self.stand_ins[name].reset()
            if one is not None:
                one.send({"do": "reset"})

    def step(self, asked: Mapping[str, Asked]) -> dict[str, Decision]:
        """Return what each agent that is asked decides; they think at the same time."""
        sent = {name: self._send(name, request) for name, request in asked.items()}
        found = {}
        for name, request in asked.items():
            one = self.processes[name]
            reply = one.receive(self.answer_seconds) if one is not None and sent[name] else None
            found[name] = self._decided(name, request, reply)
        return found

    def close(self) -> None:
        """End all processes."""
        there = [one for one in self.processes.values() if one is not None]
        self.processes = dict.fromkeys(self.processes)
        close_all(there)

    def _send(self, name: str, request: Asked) -> bool:
        one = self.processes[name]
        return one is not None and one.send({"do": "step", **request._asdict()}, self.answer_seconds)

    def _decided(self, name: str, request: Asked, reply: dict[str, Any] | None) -> Decision:
        acted = self.stand_ins[name].act(request.readings, request.available, decides=reply is None)
        if reply is not None:
            self.missed[name] = 0
            return Decision(int(reply["action"]), flags_of(reply["flags"]), bool(reply["fallback"]))
        self.missed[name] += 1
        self._restart(name)
        steps = self.missed[name]
        return Decision(acted, (Flag("process", None, steps), Flag("fallback", None, steps)), True)

    def _restart(self, name: str) -> None:
        """Put a new process in the place of one that does not answer, while it may be done."""
        one = self.processes[name]
        if one is None:
            return
        close_all([one])
        self.processes[name] = None
        if self.restarts[name] == RESTARTS:
            warn(f"agent {name}: its process has gone for the {RESTARTS + 1}th time; its fallback acts from now on.")
            return
        self.restarts[name] += 1
        try:
            self.processes[name] = AgentProcess(self.files[name])
            warn(f"agent {name}: its process did not answer; its fallback acted, and a new process has begun.")
        except UserError as error:
            warn(f"{error} Its fallback acts from now on.")
