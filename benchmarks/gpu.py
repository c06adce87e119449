"""The paper's main table and its battles in one go, runs vmapped, on whatever device JAX finds.

    make bench BENCH_ARGS="--parts gpu"                     # on a GPU with the extra gpu installed
    python -m benchmarks.gpu --scale 0.01 --only vdn-tv     # a look, anywhere

Nothing of drigm changes on a GPU. There is one device, so one shard (see `shards_here`), and the runs are a `vmap`, of
which ``--vmapped`` takes a look on a CPU; the replay and every other buffer of a run is donated from chunk to chunk and
never leaves the device; matrix products of float32 are TF32 there unless JAX_DEFAULT_MATMUL_PRECISION=float32 asks
for more, except in the simulator, which always asks for it.
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
from drigm import loop
from drigm.config import TrainConfig
from drigm.devices import cache_compilations, use_cores
from drigm.reproduce.studies import SCALES, groups
from drigm.train import train_together

AIM_MINUTES = 10.0  # of the table
QUICK_SCALE = 0.005
NOT_IN_TABLE = "short-horizon"  # ours, beside the paper's
STUDIES = {"table": "The paper's main table", "battles": "SMAX 3s_vs_5z, with and without robustness"}


def programs(study: str) -> dict[str, tuple[TrainConfig, ...]]:
    """Return what a study trains under drigm's default settings, by name; each is one program.

    The table: twelve methods at the paper's radii. Battles: every radius of a set together.
    """
    found = groups((study,), SCALES["paper"])
    return {group.name: group.configs for group in found if not group.name.endswith(NOT_IN_TABLE)}


def shards_here(config: TrainConfig) -> int:
    """Return the shares that suit the default backend.

    Shares keep CPU cores busy. Vmapped runs of several shares would have their replay transposed in every chunk.
    """
    return config.shards if loop.runs_in_turn() else 1


def measure(
    quick: bool,
    *,
    studies: Sequence[str] = tuple(STUDIES),
    scale: float | None = None,
    only: Sequence[str] = (),
    **settings: Any,
) -> dict[str, Any]:
    """Train every program of ``studies`` (or those in ``only``), files and all, and return the seconds of each.

    Args:
        quick: train a small share of the steps of one program of each study.
        studies: of `STUDIES`.
        scale: the share of the full number of steps.
        only: names of `programs`.
        settings: of `TrainConfig`, instead of the study's.
    """
    scale = scale or (QUICK_SCALE if quick else 1.0)
    plan = {study: {name: c for name, c in programs(study).items() if not only or name in only} for study in studies}
    if quick:
        plan = {study: dict(list(found.items())[:1]) for study, found in plan.items()}
    use_cores(max(config.shards for found in plan.values() for configs in found.values() for config in configs))
    return {
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
        "scale": scale,
        "studies": {study: _timed(found, scale, settings) for study, found in plan.items() if found},
    }


def _timed(plan: dict[str, tuple[TrainConfig, ...]], scale: float, settings: dict[str, Any]) -> dict[str, Any]:
    """Train every program of ``plan`` and return the number of runs and the seconds of each program."""
    seconds: dict[str, float] = {}
    runs = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, configs in plan.items():
            own = {"steps": max(1, round(configs[0].steps * scale)), "shards": shards_here(configs[0]), **settings}
            told = [c.replace(**own) for c in configs]
            count, steps = sum(config.seeds for config in told), told[0].steps
            say(f"{name}: {count} runs of {steps:,} steps on {jax.devices()[0].device_kind}")
            began = time.perf_counter()
            train_together({Path(folder, name, str(k)): c for k, c in enumerate(told)}, Path(folder), quiet=True)
            seconds[name] = time.perf_counter() - began
            runs += count
    return {"runs": runs, "seconds": seconds, "minutes": sum(seconds.values()) / 60}


def tables(result: dict[str, Any]) -> list[Table]:
    found = []
    for study, timed in result["studies"].items():
        note = (
            f"{timed['runs']} runs at {100 * result['scale']:g} % of their steps on {result['device']}: "
            f"{timed['minutes']:.1f} minutes, compilation and files included"
        )
        aim = f" (aim: {AIM_MINUTES:g} minutes on one GPU)." if study == "table" and result["scale"] == 1.0 else "."
        rows = [{"program": name, "s": seconds} for name, seconds in timed["seconds"].items()]
        found.append(Table(STUDIES[study], rows, note + aim))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--studies", nargs="+", default=list(STUDIES), choices=list(STUDIES))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of steps")
    known = [name for study in STUDIES for name in programs(study)]
    parser.add_argument("--only", nargs="*", default=(), choices=known, metavar="PROGRAM")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--vmapped", action="store_true", help="runs as a vmap on a CPU too, as on a GPU")
    options = parser.parse_args()
    if options.vmapped:
        loop.runs_in_turn = lambda: False
    cache_compilations()
    told = {"studies": options.studies, "scale": options.scale, "only": options.only, "seeds": options.seeds}
    print(json.dumps(measure(False, **told), indent=2))


if __name__ == "__main__":
    main()
