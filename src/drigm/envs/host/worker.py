"""A process that holds some environments and steps them on request.

Started by file name: ``python worker.py FD``, the file descriptor of its end of a pipe. Requests and answers are bytes:
a JSON line, then arrays.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
import traceback
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

from .adapters import adapt
from .conformance import violations
from .faults import EnvError, describe
from .steps import HostStep, pack


class Slot:
    """One environment: resets when its episode is over, on seeds of its own."""

    def __init__(self, kind: str, name: str, seed: int) -> None:
        self.env = adapt(kind, name, seed)
        self.seeds = np.random.default_rng(seed)
        self.over = True

    def tick(self, action: np.ndarray) -> HostStep:
        """Take ``action`` [N], or reset if the episode is over."""
        shown = self.env.step(action) if not self.over else self.reset()
        self.over = shown.over
        return shown

    def reset(self, seed: int | None = None) -> HostStep:
        shown = self.env.reset(int(self.seeds.integers(2**31 - 1)) if seed is None else seed)
        self.over = shown.over
        return shown


class Worker:
    """The environments of one process."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []

    def open(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        del data
        self.slots = [Slot(request["kind"], request["name"], seed) for seed in request["seeds"]]
        return {"facts": self.slots[0].env.facts._asdict()}, b""

    def check(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Play at random and say what goes wrong."""
        del data
        found = violations(
            lambda: adapt(request["kind"], request["name"]), episodes=request["episodes"], limit=request["limit"]
        )
        return {"violations": list(dict.fromkeys(found))}, b""

    def reset(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """Start new episodes, on the given seeds where there are any."""
        del data
        seeds = request["seeds"] or [None] * len(self.slots)
        shown = [self._on(i, slot.reset, seed) for i, (slot, seed) in enumerate(zip(self.slots, seeds, strict=True))]
        return {}, pack(self.slots[0].env.facts, shown)

    def tick(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        del request
        actions = np.frombuffer(data, np.int32).reshape(len(self.slots), -1)
        shown = [
            self._on(i, slot.tick, action) for i, (slot, action) in enumerate(zip(self.slots, actions, strict=True))
        ]
        return {}, pack(self.slots[0].env.facts, shown)

    def close(self) -> None:
        """Close every environment; one that fails to does not keep the others open."""
        for slot in self.slots:
            with contextlib.suppress(Exception):
                slot.env.close()

    def _on(self, slot: int, call: Any, argument: Any) -> HostStep:
        try:
            return call(argument)
        except EnvError as fault:
            fault.args = (slot,)
            raise


def serve(connection: Connection) -> None:
    """Answer requests until the other side hangs up."""
    worker = Worker()
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
        connection.send_bytes(json.dumps(answer).encode() + b"\n" + payload)


if __name__ == "__main__":
    with Connection(int(sys.argv[1])) as connection:
        serve(connection)
