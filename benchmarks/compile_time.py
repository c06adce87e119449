"""How long a run takes to start: tracing and compiling, cold and with the persistent cache.

Each start is a process of its own. The first finds an empty cache, the second what the first left there; both switch
the cache on as the command line does (`drigm.devices.cache_compilations`) and compile as where a program cannot be kept
(`drigm.kept`). The third finds the programs of a training like it, and traces nothing.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measure import CONFIG, Table, Training, own_process, say
from drigm.config import TrainConfig, from_dict
from drigm.devices import cache_compilations, use_cores
from drigm.envs import make_env
from drigm.kept import SWITCH
from drigm.train import programs_of
from drigm.training import axes

ROUNDS = 2
TARGETS = {"cold": 12.0, "cached": 3.0, "kept": 3.0}  # seconds of tracing and compiling


def measure(quick: bool, config: TrainConfig = CONFIG) -> dict[str, Any]:
    """Return the fastest of several starts of each kind, in turns."""
    starts: dict[str, list[dict[str, float]]] = {"cold": [], "cached": [], "kept": []}
    for turn in range(1 if quick else ROUNDS):
        with tempfile.TemporaryDirectory() as traced, tempfile.TemporaryDirectory() as kept:
            say(f"a start whose programs are kept, {turn + 1}")
            _start(config, kept, "kept")
            for kind, found in starts.items():
                say(f"{kind} start {turn + 1}")
                found.append(_start(config, kept if kind == "kept" else traced, kind))
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
    note = "Processor seconds are of tracing and compiling, all cores; loading what is kept counts as compiling."
    return [Table("Until the first tick, QMIX-TV", rows, note)]


def _start(config: TrainConfig, folder: str, kind: str) -> dict[str, float]:
    """Start a training in a process of its own, with its cache in ``folder``."""
    switches = "JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE", SWITCH
    variables = {"XDG_CACHE_HOME": folder, **dict.fromkeys(switches, "")}
    found, wall = own_process("benchmarks.compile_time", config.to_json(), kind, variables=variables)
    return {**found, "process": wall}


def start(config: TrainConfig, kind: str) -> dict[str, float]:
    """Get the programs of ``config`` and run a tick; what a process does on its own."""
    use_cores(config.shards)
    cache_compilations()
    began, used = time.perf_counter(), time.process_time()
    if kind != "kept":
        training = Training(config)
        ready = time.perf_counter() - began
        training(1)
        return {**training.seconds._asdict(), "ready": ready}
    programs = programs_of(config, make_env(config.env))
    state = programs.place(programs.init(*axes([config])))
    jax.block_until_ready(programs.chunk(state, jnp.int32(0), jnp.int32(1)))
    ready = time.perf_counter() - began
    return {"trace": 0.0, "compile": ready, "processor": time.process_time() - used, "ready": ready}


if __name__ == "__main__":
    print(json.dumps(start(from_dict(json.loads(sys.argv[1])), sys.argv[2])))
