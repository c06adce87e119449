"""Environments in worker processes, stepped together: this process keeps computing while they step."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drigm.devices import usable_cores
from drigm.envs.host.steps import Facts, unpack
from drigm.errors import UserError

WORKER = Path(__file__).parent / "host" / "worker.py"
START_SECONDS = 300.0  # until a worker has imported what it needs and made its environments
ANSWER_SECONDS = 600.0  # until a step counts as hanging; StarCraft takes a minute to start
POLL_SECONDS = 1.0
CLOSE_SECONDS = 15.0  # for environments to close what they opened, such as a game
INSIDE = "DRIGM_WORKER"  # set in workers


class HostSource(NamedTuple):
    """How to make an environment in another process.

    ``kind`` is one of `drigm.envs.host.adapters.KINDS`, ``python`` the interpreter that runs it, ``workers`` how many
    processes share the environments (0: one for each usable core), ``most`` how many an evaluation may hold at once.
    """

    kind: str
    name: str
    python: str = ""
    workers: int = 0
    most: int = 64

    @property
    def seeded(self) -> bool:
        """Whether an episode follows from the seed of its reset; StarCraft takes a seed when it is made."""
        return self.kind != "smac"

    def open(self, seeds: list[int]) -> HostVector:
        """Start ``len(seeds)`` environments, each with its own seed."""
        return HostVector(self, seeds)


class HostSteps(NamedTuple):
    """Stacked time-steps [B, ...], the fields of `drigm.envs.host.steps.HostStep`."""

    obs: np.ndarray
    state: np.ndarray
    avail_actions: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    alive: np.ndarray
    won: np.ndarray


class _Process:
    """One worker: its process, its connection, and the slots it holds."""

    def __init__(self, number: int, source: HostSource, seeds: list[int], first: int) -> None:
        if INSIDE in os.environ:
            raise UserError(
                "env: a worker process was asked to start workers; put the script's own work under "
                "if __name__ == '__main__'."
            )
        self.number, self.source, self.seeds, self.first = number, source, seeds, first
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        self.connection, theirs = Pipe()  # connected before the process starts: its death is an end of file
        try:
            self.process = subprocess.Popen(
                [source.python or sys.executable, str(WORKER), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # environments print
                stderr=self.errors,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "OMP_NUM_THREADS": "1", INSIDE: "1"},
            )
        except OSError as error:
            self.errors.close()
            self.connection.close()
            raise UserError(
                f"env_python: {source.python!r} is not allowed; it cannot be run ({error.strerror})."
            ) from None
        finally:
            theirs.close()

    def send(self, request: dict[str, Any], payload: bytes = b"") -> None:
        try:
            self.connection.send_bytes(json.dumps(request).encode() + b"\n" + payload)
        except OSError:
            self._expect_life("when it was called", 0.0)

    def receive(self, what: str, seconds: float = ANSWER_SECONDS) -> tuple[dict[str, Any], bytes]:
        """Return the worker's answer; `UserError` if it reports a fault, dies, or stays silent."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self.connection.poll(POLL_SECONDS):
                    head, _, payload = self.connection.recv_bytes().partition(b"\n")
                    break
            except (EOFError, OSError):
                deadline = 0.0
            self._expect_life(what, deadline)
        answer = json.loads(head)
        if "fault" in answer:
            slot = answer.get("slot")
            which = "" if slot is None else f" (environment {self.first + slot})"
            raise UserError(f"env {self.source.kind}:{self.source.name}{which}: {answer['fault']}.")
        return answer, payload

    def _expect_life(self, what: str, deadline: float) -> None:
        """Raise `UserError` if the process has ended, or if its time is up."""
        late = time.monotonic() > deadline
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2.0 if late else 0.0)
        code = self.process.poll()
        if code is None and not late:
            return
        last = self.first + len(self.seeds) - 1
        how = f"died with exit code {code}" if code is not None else "does not answer"
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        told = f"; its last words: {lines[-1].strip()}" if lines else ""
        raise UserError(
            f"env {self.source.kind}:{self.source.name}: worker {self.number} (environments {self.first} to {last}) "
            f"{how} {what}{told}."
        )

    def close(self) -> None:
        self.connection.close()
        try:
            self.process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()


class HostVector:
    """B environments in worker processes; slots keep their order.

    A slot whose episode is over resets at the next tick instead of stepping, so the last observation is seen too.

    Raises:
        UserError: the environment cannot be made, breaks its contract, raises, or its process dies or hangs. Every
            worker is stopped then.
    """

    def __init__(self, source: HostSource, seeds: list[int]) -> None:
        count = min(source.workers or usable_cores(), len(seeds))
        bounds = np.linspace(0, len(seeds), count + 1).astype(int)
        self.source, self.size, self.ticks, self.workers = source, len(seeds), 0, []
        try:
            for number, (low, high) in enumerate(itertools.pairwise(bounds.tolist())):
                self.workers.append(_Process(number, source, seeds[low:high], low))
            for worker in self.workers:
                worker.send({"do": "open", "kind": source.kind, "name": source.name, "seeds": worker.seeds})
            answers = [worker.receive("while it made its environments", START_SECONDS)[0] for worker in self.workers]
        except BaseException:
            self.close()
            raise
        self.facts = Facts(**answers[0]["facts"])

    def reset(self, seeds: list[int] | None = None) -> HostSteps:
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
                limit = ANSWER_SECONDS * (1 + length * len(worker.seeds))  # that of so many steps
                answer, _ = worker.receive("while it repeated the episodes that a checkpoint broke off", limit)
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

    def receive(self) -> HostSteps:
        """Return the time-steps that the last `send` led to."""
        return self._gather(f"at tick {self.ticks}")

    def _gather(self, what: str) -> HostSteps:
        try:
            parts = [unpack(self.facts, len(w.seeds), w.receive(what)[1]) for w in self.workers]
        except BaseException:
            self.close()
            raise
        return HostSteps(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def close(self) -> None:
        """Stop the workers."""
        for worker in self.workers:
            worker.close()
        self.workers = []


def ask(source: HostSource, request: dict[str, Any], what: str, seconds: float = START_SECONDS) -> dict[str, Any]:
    """Return the answer of a worker that lives for one request; raises `UserError` as `HostVector` does."""
    worker = _Process(0, source, [0], 0)
    try:
        worker.send({**request, "kind": source.kind, "name": source.name})
        return worker.receive(what, seconds)[0]
    finally:
        worker.close()
