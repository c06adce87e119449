"""How long a run takes to start: tracing and compiling, cold and with the persistent cache.

Each start is a process of its own. The first finds an empty cache, the second what the first left there; both switch
the cache on as the command line does (`drigm.runtime.devices.cache_compilations`).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any

from benchmarks.measure import CONFIG, Table, Training, own_process, say
from drigm.core.config import TrainConfig, from_dict
from drigm.runtime.devices import cache_compilations, use_cores

ROUNDS = 2
TARGETS = {"cold": 12.0, "cached": 3.0}  # seconds of tracing and compiling


def measure(quick: bool, config: TrainConfig = CONFIG) -> dict[str, Any]:
    """Return the fastest of several starts of each kind; cold and cached ones take turns."""
    starts: dict[str, list[dict[str, float]]] = {"cold": [], "cached": []}
    for turn in range(1 if quick else ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            for kind, found in starts.items():
                say(f"{kind} start {turn + 1}")
                found.append(_start(config, folder))
    return {kind: min(found, key=lambda start: start["trace"] + start["compile"]) for kind, found in starts.items()}


def tables(result: dict[str, Any]) -> list[Table]:
    rows = [
        {
            "start": kind,
            "trace s": start["trace"],
            "compile s": start["compile"],
            "both": start["trace"] + start["compile"],
            "aim": f"< {TARGETS[kind]:g}",
            "processor s": start["processor"],
            "process, first tick included, s": start["process"],
        }
        for kind, start in result.items()
    ]
    return [Table("Until the first tick, QMIX-TV", rows, "Processor seconds are of tracing and compiling, all cores.")]


def _start(config: TrainConfig, folder: str) -> dict[str, float]:
    """Start a training in a process of its own, with its cache in ``folder``."""
    variables = {"XDG_CACHE_HOME": folder, "JAX_COMPILATION_CACHE_DIR": "", "JAX_ENABLE_COMPILATION_CACHE": ""}
    found, wall = own_process("benchmarks.compile_time", config.to_json(), variables=variables)
    return {**found, "process": wall}


def start(config: TrainConfig) -> dict[str, float]:
    """Compile the programs of ``config`` and run a tick; what a process does on its own."""
    use_cores(config.shards)
    cache_compilations()
    began = time.perf_counter()
    training = Training(config)
    ready = time.perf_counter() - began
    training(1)
    return {**training.seconds._asdict(), "ready": ready}


if __name__ == "__main__":
    print(json.dumps(start(from_dict(json.loads(sys.argv[1])))))
