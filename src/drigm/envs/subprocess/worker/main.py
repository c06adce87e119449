"""A process that holds some environments and steps them on request.

Started by file name: ``python worker.py FD FD``, the file descriptors of its end of a pipe and of a file that says
which environment it is at. Requests and answers are bytes: a JSON line, then arrays.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":  # become part of this folder's package, wherever it lies, without importing drigm
    here = Path(__file__).parent
    sys.path[:] = [entry for entry in sys.path if entry not in ("", str(here))]  # `factory` adds what an id names
    found = importlib.util.spec_from_file_location(
        "drigm_host", here / "__init__.py", submodule_search_locations=[str(here)]
    )
    assert found is not None
    assert found.loader is not None
    sys.modules["drigm_host"] = importlib.util.module_from_spec(found)
    found.loader.exec_module(sys.modules["drigm_host"])
    __package__ = "drigm_host"

from .adapters import KINDS
from .check import findings
from .errors import EnvError, describe
from .random_state import Chance, delegate
from .steps import AT_WORK, SubprocessStep, checksums, pack, unpack
from .worlds import InWorlds


class Slot:
    """One environment: resets when its episode is over, on seeds of its own, and has the shared generators to itself.

    Those are seeded at each reset, so a seed and the actions after it make the episode.
    """

    def __init__(self, kind: str, name: str, seed: int, worlds: list[Any]) -> None:
        self.chance = Chance(seed)
        self.chance.use()
        adapt = KINDS[kind].adapt
        self.env = InWorlds(adapt, name, seed, worlds) if worlds else adapt(name, seed)
        self.seeds = np.random.default_rng(seed)
        self.over = True

    def tick(self, action: np.ndarray) -> SubprocessStep:
        """Take ``action`` [N], or reset if the episode is over."""
        if self.over:
            return self.reset()
        self.chance.use()
        return self._seen(self.env.step(action))

    def reset(self, seed: int | None = None) -> SubprocessStep:
        """Start an episode on ``seed``, or on the next of the slot's own."""
        seed = int(self.seeds.integers(2**31 - 1)) if seed is None else seed
        self.chance.seed(seed)
        return self._seen(self.env.reset(seed))

    def _seen(self, shown: SubprocessStep) -> SubprocessStep:
        self.over = shown.over
        return shown

    def replay(self, episode: int, orders: np.ndarray, mark: Callable[[], None]) -> SubprocessStep | None:
        """Go from the start to episode number ``episode``, and there take ``orders`` [steps, N]; None if it ends early.

        Only of a slot that has not been reset yet; ``mark`` is called before each step.
        """
        self.skip(episode - 1)
        shown = self.reset()
        for order in orders:
            if self.over:
                return None
            mark()
            shown = self.tick(order)
        return shown

    def skip(self, episodes: int) -> None:
        """Leave out the seeds of so many episodes."""
        for _ in range(episodes):
            self.seeds.integers(2**31 - 1)


class Worker:
    """The environments of one process; ``progress`` is the file that says which one it is at."""

    def __init__(self, progress: int) -> None:
        self.slots: list[Slot] = []
        self.progress, self.calls = progress, 0

    def mark(self, slot: int = 0, *, patient: bool = False) -> None:
        """Say that a call of the environment in ``slot`` begins."""
        self.calls += 1
        os.pwrite(self.progress, AT_WORK.pack(self.calls, slot, patient), 0)

    def open(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        del data
        kind, name, worlds = request["kind"], request["name"], request.get("worlds", [])
        Chance(0).use()  # what a module draws when it is imported is the same in every process
        KINDS[kind].load(name)
        self.close()
        self.slots = []
        for i, seed in enumerate(request["seeds"]):
            self.slots.append(self._on(i, lambda seed: Slot(kind, name, seed, worlds), seed, patient=True))
        return {"facts": self.slots[0].env.facts._asdict()}, b""

    def check(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Play at random and say what goes wrong."""
        del data
        found = findings(
            lambda: KINDS[request["kind"]].adapt(request["name"], 0),
            episodes=request["episodes"],
            limit=request["limit"],
            mark=self.mark,
        )
        return {"findings": [[one.level, one] for one in found]}, b""

    def reset(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Start new episodes, on the given seeds where there are any."""
        del data
        seeds = request["seeds"] or [None] * len(self.slots)
        shown = [
            self._on(i, slot.reset, seed, patient=True)
            for i, (slot, seed) in enumerate(zip(self.slots, seeds, strict=True))
        ]
        return {}, pack(self.slots[0].env.facts, shown)

    def tick(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        del request
        actions = np.frombuffer(data, np.int32).reshape(len(self.slots), -1)
        shown = [
            self._on(i, slot.tick, action, patient=slot.over)
            for i, (slot, action) in enumerate(zip(self.slots, actions, strict=True))
        ]
        return {}, pack(self.slots[0].env.facts, shown)

    def replay(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Lead every new environment to where it was before its last orders; answers which did not come there."""
        shape = len(self.slots), request["length"], len(self.slots[0].env.facts.agents)
        orders = np.frombuffer(data, np.int32).reshape(shape)
        columns = request["episodes"], request["steps"], orders, request["checksums"]
        lost = []
        for i, (slot, episode, steps, mine, checksum) in enumerate(zip(self.slots, *columns, strict=True)):
            if steps == 0:  # the episode is about to begin
                slot.skip(episode - 1)
                continue
            with contextlib.suppress(EnvError):
                self.mark(i, patient=True)
                shown = slot.replay(episode, mine[: steps - 1], lambda: self.mark(i))  # noqa: B023 (called at once)
                if shown is not None and _checksum(slot, shown) == checksum:
                    continue
            slot.over = True
            lost.append(i)
        return {"lost": lost}, b""

    def close(self) -> None:
        """Close every environment; one that fails to does not keep the others open."""
        for slot in self.slots:
            with contextlib.suppress(Exception):
                slot.env.close()

    def _on(self, slot: int, call: Any, argument: Any, *, patient: bool) -> Any:
        self.mark(slot, patient=patient)
        try:
            return call(argument)
        except EnvError as fault:
            fault.args = (slot,)
            raise


def _checksum(slot: Slot, shown: SubprocessStep) -> int:
    """The checksum of a time-step as it comes out of the pipe."""
    return checksums(unpack(slot.env.facts, 1, pack(slot.env.facts, [shown])))[0]


def serve(connection: Connection, progress: int) -> None:
    """Answer requests until the other side hangs up."""
    worker = Worker(progress)
    while True:
        try:
            message = connection.recv_bytes()
        except (EOFError, OSError):
            worker.close()
            return
        head, _, data = message.partition(b"\n")
        request = json.loads(head)
        try:
            answer, payload = getattr(worker, request["do"])(request, data)
        except EnvError as fault:
            slot = fault.args[0] if fault.args and isinstance(fault.args[0], int) else None
            answer, payload = {"fault": str(fault), "slot": slot}, b""
        except Exception as error:
            traceback.print_exc()
            answer, payload = {"fault": describe(error), "slot": None}, b""
        with contextlib.suppress(OSError):  # hung up meanwhile: the next request says so
            connection.send_bytes(json.dumps(answer).encode() + b"\n" + payload)


if __name__ == "__main__":
    delegate()
    with Connection(int(sys.argv[1])) as connection:
        serve(connection, int(sys.argv[2]))
