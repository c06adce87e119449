"""The paper's main table in one go: every method as a program of five vmapped seeds, on whatever device JAX finds.

    make bench BENCH_ARGS="--parts gpu"                     # 60 runs; on a GPU with the extra gpu installed
    python -m benchmarks.gpu --scale 0.01 --methods vdn-tv  # a look, anywhere

Nothing of drigm changes on a GPU. There is one device, so one shard (see `shards_here`); the replay and every other
buffer of a run is donated from chunk to chunk and never leaves the device; JAX's matrix products of float32 are TF32
there unless JAX_DEFAULT_MATMUL_PRECISION=float32 asks for more, except in the simulator, which always asks for it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks.measure import Table, say
from drigm.config import TrainConfig
from drigm.devices import cache_compilations, use_cores
from drigm.reproduce.studies import SCALES, groups
from drigm.train import train_together

AIM_MINUTES = 10.0
QUICK_SCALE = 0.005
NOT_IN_TABLE = "short-horizon"  # ours, beside the paper's


def methods() -> dict[str, TrainConfig]:
    """Return the twelve methods of the paper's table under drigm's default settings and the paper's radii, by name."""
    found = groups(("table",), SCALES["paper"])
    return {group.name: group.configs[0] for group in found if not group.name.endswith(NOT_IN_TABLE)}


def shards_here(config: TrainConfig) -> int:
    """Return the shares that suit the default backend.

    Shares keep CPU cores busy. On one GPU they would be a `vmap` in which every share takes the same optimiser step.
    """
    return config.shards if jax.default_backend() == "cpu" else 1


def measure(quick: bool, *, scale: float | None = None, chosen: Sequence[str] = (), **settings: Any) -> dict[str, Any]:
    """Train every method of the table (or those ``chosen``), files and all, and return the seconds of each.

    Args:
        quick: train a small share of the steps of one method.
        scale: the share of the paper's 172,800 steps.
        chosen: names of `methods`.
        settings: of `TrainConfig`, instead of the table's.
    """
    configs = methods()
    use_cores(next(iter(configs.values())).shards)
    scale = scale or (QUICK_SCALE if quick else 1.0)
    chosen = chosen or (list(configs)[:1] if quick else list(configs))
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            config = configs[name].replace(shards=shards_here(configs[name]))
            config = config.replace(**{"steps": max(1, round(config.steps * scale)), **settings})
            say(f"{name}: {config.seeds} seeds of {config.steps:,} steps on {jax.devices()[0].device_kind}")
            began = time.perf_counter()
            train_together({Path(folder, name): config}, Path(folder), quiet=True)
            seconds[name] = time.perf_counter() - began
    return {
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
        "scale": scale,
        "runs": sum(settings.get("seeds", configs[name].seeds) for name in chosen),
        "seconds": seconds,
        "minutes": sum(seconds.values()) / 60,
    }


def tables(result: dict[str, Any]) -> list[Table]:
    rows = [{"program": name, "s": seconds} for name, seconds in result["seconds"].items()]
    note = (
        f"{result['runs']} runs at {100 * result['scale']:g} % of the paper's steps on {result['device']}: "
        f"{result['minutes']:.1f} minutes, compilation and files included"
    )
    aim = f" (aim: {AIM_MINUTES:g} minutes on one GPU)." if result["scale"] == 1.0 else "."
    return [Table("The paper's main table, seeds vmapped", rows, note + aim)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the paper's steps")
    parser.add_argument("--methods", nargs="*", default=(), choices=list(methods()), metavar="METHOD")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    cache_compilations()
    print(json.dumps(measure(False, scale=options.scale, chosen=options.methods, seeds=options.seeds), indent=2))


if __name__ == "__main__":
    main()
