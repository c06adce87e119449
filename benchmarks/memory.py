"""Memory of a training, and what one more seed costs."""

from __future__ import annotations

import json
import math
import sys
import tempfile
from typing import Any

import jax

from benchmarks.drivers.peak import peak_bytes
from benchmarks.measure import CONFIG, Table, Training, own_process, say
from drigm.core.config import TrainConfig, from_dict
from drigm.runtime.devices import cache_compilations, use_cores

MANY = 10
TICKS = 20  # with an update
MB = 1e6


def measure(quick: bool, config: TrainConfig = CONFIG) -> dict[str, Any]:
    """Return bytes of processes that train 1 seed and `MANY`, each with and without compiling."""
    many = 2 if quick else MANY
    found = {}
    for seeds in (1, many):
        with tempfile.TemporaryDirectory() as folder:
            say(f"memory of {seeds} seeds: compiling, then from the cache")
            compiling, training = (_process(config.replace(seeds=seeds), folder) for _ in range(2))
        found[str(seeds)] = {**training, "peak_with_compiling": compiling["peak"]}
    one, more = found["1"], found[str(many)]
    per_seed = {name: (more[name] - one[name]) / (many - 1) for name in ("peak", "state", "temporary", "replay")}
    return {"processes": found, "per_seed": per_seed}


def tables(result: dict[str, Any]) -> list[Table]:
    names = {
        "peak": "process, peak",
        "peak_with_compiling": "the same where it compiles",
        "state": "state",
        "replay": "of it replay",
        "temporary": "program's temporaries",
        "code": "program's code",
    }
    columns = {**{f"{seeds} seeds": found for seeds, found in result["processes"].items()}}
    rows = [
        {"MB": heading}
        | {column: f"{found[name] / MB:.0f}" for column, found in columns.items()}
        | {"one seed more": f"{result['per_seed'][name] / MB:.1f}" if name in result["per_seed"] else None}
        for name, heading in names.items()
    ]
    return [Table("Memory, QMIX-TV", rows)]


def _process(config: TrainConfig, folder: str) -> dict[str, float]:
    variables = {"XDG_CACHE_HOME": folder, "JAX_COMPILATION_CACHE_DIR": "", "JAX_ENABLE_COMPILATION_CACHE": ""}
    return own_process("benchmarks.memory", config.to_json(), variables=variables)[0]


def train(config: TrainConfig) -> dict[str, float]:
    """Train some ticks of ``config`` and return bytes; what a process does on its own."""
    use_cores(config.shards)
    cache_compilations()
    training = Training(config)
    training(config.first_update + TICKS)
    program = training.chunk.memory_analysis()  # of one device
    return {
        "peak": peak_bytes(),
        "state": _bytes(training.state),
        "replay": _bytes(training.state.ring),
        "temporary": program.temp_size_in_bytes * len(training.state.robustness.rho.sharding.device_set),
        "code": program.generated_code_size_in_bytes,
    }


def _bytes(tree: Any) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


if __name__ == "__main__":
    print(json.dumps(train(from_dict(json.loads(sys.argv[1])))))
