"""The paper's main table and its battles in one go, trained and scored, on whatever device JAX finds.

    make bench BENCH_ARGS="--parts gpu"                     # on a GPU with the extra gpu installed
    python -m benchmarks.gpu --scale 0.01 --only vdn-tv     # a look, anywhere

Nothing of drigm changes on a GPU. There is one device, so one shard (see `drigm.experiments.reproduce.runner.suited`),
and the runs of a program are a `vmap`, of which ``--vmapped`` takes a look on a CPU; programs are compiled in
parallel on the cores that are left (`drigm.training.precompile`); the replay and every other buffer of a run is donated
from chunk to chunk and stays on the device; matrix products of float32 are TF32 there unless
JAX_DEFAULT_MATMUL_PRECISION=float32 asks for more, except in the simulator, which always asks for it. Nothing comes
from a cache of earlier compilations.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from benchmarks.measure import CONFIG, Table, Training, interleaved, say
from drigm.core.config import TrainConfig
from drigm.experiments.reproduce.runner import folder_of, suited, train_groups
from drigm.experiments.reproduce.studies import SCALES, Group, groups
from drigm.runtime import devices
from drigm.storage.run_directory import RunDirectory

AIM_MINUTES = 10.0  # of the table
QUICK_SCALE = 0.005
NOT_IN_TABLE = "short-horizon"  # ours, beside the paper's
# What a float32 product may be rounded to on its way in, as JAX calls it; on an H100, "default" is TF32.
PRECISIONS = ("float32", "default", "bfloat16")
TOGETHER = (5, 60)  # runs of a program
STUDIES = {"table": "The paper's main table", "battles": "SMAX 3s_vs_5z, with and without robustness"}


def programs(study: str) -> dict[str, Group]:
    """Return what a study trains under drigm's default settings, by name; each is one program.

    The table: twelve methods at the paper's radii. Battles: every radius of a set together.
    """
    found = groups((study,), SCALES["paper"])
    return {group.name: group for group in found if not group.name.endswith(NOT_IN_TABLE)}


def measure(
    quick: bool,
    *,
    studies: Sequence[str] = tuple(STUDIES),
    scale: float | None = None,
    only: Sequence[str] = (),
    **settings: Any,
) -> dict[str, Any]:
    """Train and score every program of ``studies`` (or those in ``only``), files and all, and return what it took.

    Args:
        quick: train a small share of the steps of one program of each study.
        studies: of `STUDIES`.
        scale: the share of the full number of steps.
        only: names of `programs`.
        settings: of `TrainConfig`, instead of the study's.
    """
    scale = scale or (QUICK_SCALE if quick else 1.0)
    plan = {study: [g for name, g in programs(study).items() if not only or name in only] for study in studies}
    if quick:
        plan = {study: found[:1] for study, found in plan.items()}
    devices.use_cores(max(config.shards for found in plan.values() for group in found for config in group.configs))
    with _empty_cache():
        timed = {study: _timed(found, scale, settings) for study, found in plan.items() if found}
        whole = scale == 1.0 and not only and set(studies) == set(STUDIES)
        told = precisions(quick) if whole or quick else []  # a glance at studies is just that
    return {
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
        "scale": scale,
        "studies": timed,
        "precisions": told,
    }


def precisions(quick: bool, runs: Sequence[int] = TOGETHER, config: TrainConfig = CONFIG) -> list[dict[str, Any]]:
    """Time a tick of each number of ``runs`` in one program under each of `PRECISIONS`, side by side."""
    config = config.replace(shards=config.shards if devices.runs_in_turn() else 1, learning_starts=0)
    points = [(count, name) for count in (runs[:1] if quick else runs) for name in PRECISIONS]

    def compiled(point: tuple[int, str]) -> Training:
        with jax.default_matmul_precision(point[1]):  # of this thread
            return Training(config.replace(seeds=point[0]), in_turn=False)

    say(f"compiling {len(points)} programs")
    with ThreadPoolExecutor(devices.spare_cores() or 1) as pool:
        programs = dict(zip(points, pool.map(compiled, points), strict=True))
    costs = interleaved({point: program.warm() for point, program in programs.items()}, quick=quick)
    return [{"runs": count, "precision": name, "ms a tick": 1e3 * costs[count, name].best} for count, name in points]


@contextlib.contextmanager
def _empty_cache() -> Iterator[None]:
    """Keep compiled programs in a cache that is empty at first: it finds only what is compiled here."""
    before = {name: jax.config.values[name] for name in ("jax_compilation_cache_dir", "jax_enable_compilation_cache")}
    with tempfile.TemporaryDirectory() as folder:
        for name, value in zip(before, (folder, True), strict=True):
            jax.config.update(name, value)
        reset_cache()  # JAX chooses a cache once and keeps it
        try:
            yield
        finally:
            reset_cache()
            for name, value in before.items():
                jax.config.update(name, value)


def _timed(plan: Sequence[Group], scale: float, settings: dict[str, Any]) -> dict[str, Any]:
    """Train and score ``plan``; return how many runs it has, its minutes, and the facts of each program."""

    def scaled(config: TrainConfig) -> TrainConfig:
        return config.replace(**{"steps": max(1, round(config.steps * scale)), **settings})

    told = [suited(group._replace(configs=tuple(scaled(config) for config in group.configs))) for group in plan]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        outcome = train_groups(told, Path(folder), say)
        minutes = (time.perf_counter() - began) / 60
        facts = {
            timing.group: {
                "seconds": timing.seconds,
                "ms_per_tick": _ms_per_tick(next(group for group in told if group.name == timing.group), Path(folder)),
                "scores": {
                    f"{one.config.rho:g}": {world.name: world.mean for world in one.evaluation.scores}
                    for one in outcome.scored[timing.group]
                },
            }
            for timing in outcome.timings
        }
    return {"runs": sum(group.runs for group in told), "minutes": minutes, "programs": facts}


def _ms_per_tick(group: Group, folder: Path) -> float:
    """Return the middle of what a tick of all runs of a program took, as the log of its first has it."""
    first = group.configs[0]
    rates = [row["steps_per_s"] for row in RunDirectory(folder_of(folder, group, first)).read_metrics(first.first_seed)]
    return 1e3 * first.num_envs * group.runs / statistics.median(rates)


def tables(result: dict[str, Any]) -> list[Table]:
    found = []
    for study, timed in result["studies"].items():
        note = (
            f"{timed['runs']} runs at {100 * result['scale']:g} % of their steps on {result['device']}: "
            f"{timed['minutes']:.1f} minutes, compilation, files and scoring included"
        )
        aim = f" (aim: {AIM_MINUTES:g} minutes on one GPU)." if study == "table" and result["scale"] == 1.0 else "."
        waited = " s: with what it waited for its program; mean scores of its seeds in every world."
        rows = [
            {"program": name, "rho": rho, "s": facts["seconds"], "ms a tick": facts["ms_per_tick"], **scores}
            for name, facts in timed["programs"].items()
            for rho, scores in facts["scores"].items()
        ]
        found.append(Table(STUDIES[study], rows, note + aim + waited))
    if result["precisions"]:
        note = "QMIX-TV, all runs in one program, on " + result["device"] + "; default is TF32 on such a GPU."
        found.append(Table("A tick against the precision of matrix products", result["precisions"], note))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--studies", nargs="+", default=list(STUDIES), choices=list(STUDIES))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of steps")
    known = [name for study in STUDIES for name in programs(study)]
    parser.add_argument("--only", nargs="*", default=(), choices=known, metavar="PROGRAM")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--precisions", action="store_true", help="only time a tick under each precision of products")
    parser.add_argument("--vmapped", action="store_true", help="runs as a vmap on a CPU too, as on a GPU")
    options = parser.parse_args()
    if options.vmapped:
        devices.runs_in_turn = lambda: False
    if options.precisions:
        devices.use_cores()
        print(json.dumps(precisions(False), indent=2))
        return
    told = {"studies": options.studies, "scale": options.scale, "only": options.only, "seeds": options.seeds}
    print(json.dumps(measure(False, **told), indent=2))


if __name__ == "__main__":
    main()
