"""Results in the JSON layout that marl-eval reads, so that its plots can be drawn from drigm's runs.

Source: Gorsane et al. 2022, "Towards a standardised performance evaluation protocol for cooperative MARL", and the
README of github.com/instadeepai/marl-eval.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from drigm.core.errors import check
from drigm.evaluation.statistics.arrays import as_array

# marl-eval takes these for something else than a metric, an environment.
_RESERVED_METRICS = ("step_count", "elapsed_time")
_RESERVED_ENVIRONMENT = "extra"


class SeedRecord(NamedTuple):
    """What one seed of one algorithm scored in one task: S evaluations of E episodes while training, one after."""

    environment: str
    task: str
    algorithm: str
    seed: int
    step_counts: Sequence[int]  # [S] environment steps taken before each evaluation, rising
    metrics: Mapping[str, ArrayLike]  # name -> [S, E], or [S] for one number an evaluation, such as a win rate
    absolute_metrics: Mapping[str, ArrayLike]  # name -> [E'], the best team found, by 10 E episodes in the protocol
    elapsed_times: Sequence[float] | None = None  # [S] seconds; not in the file if None


def marl_eval_json(results: Iterable[SeedRecord]) -> dict[str, Any]:
    """Return ``results`` as marl-eval reads them, ready for ``json.dump`` (without ``sort_keys``).

    ``{environment: {task: {algorithm: {"seed_k": {"step_i": {"step_count": int, "elapsed_time": s, metric: [...]},
    ..., "absolute_metrics": {metric: [...]}}}}}}``, where older versions need "absolute_metrics" to come last. With
    elapsed times marl-eval draws the same plots, but its `DiagnoseData` (0.0.4) takes them for a metric that
    "absolute_metrics" lacks and calls the file invalid.

    Raises:
        UserError: a record has an array of another shape, empty or not finite; a name that marl-eval cannot read (it
            lowers all names, so two may not differ in case alone); or, within an environment, the tasks, algorithms
            and seeds do not form a full grid of records with the same number of evaluations and the same metrics.
    """
    records = list(results)
    check(bool(records), "results", records, "give at least one record")
    _check_names(records)
    for environment in dict.fromkeys(r.environment for r in records):
        _check_grid(environment, [r for r in records if r.environment == environment])
    layout: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for r in records:
        tasks = layout.setdefault(r.environment, {})
        tasks.setdefault(r.task, {}).setdefault(r.algorithm, {})[f"seed_{r.seed}"] = _run(r)
    return layout


def _run(record: SeedRecord) -> dict[str, Any]:
    counts = as_array("step_counts", record.step_counts, "[S]")
    rising = bool((counts >= 0).all() and (counts % 1 == 0).all() and (np.diff(counts) > 0).all())
    check(rising, "step_counts", counts.tolist(), "give whole numbers, each above the one before")
    metrics = {name: _per_step(name, values, len(counts)) for name, values in record.metrics.items()}
    run: dict[str, Any] = {
        f"step_{i}": {"step_count": int(counts[i])} | {name: values[i].tolist() for name, values in metrics.items()}
        for i in range(len(counts))
    }
    if record.elapsed_times is not None:
        times = as_array("elapsed_times", record.elapsed_times, "[S]")
        check(
            len(times) == len(counts), "elapsed_times", times.shape, f"give one for each of {len(counts)} evaluations"
        )
        for i, seconds in enumerate(times.tolist()):
            run[f"step_{i}"]["elapsed_time"] = seconds
    absolute = record.absolute_metrics.items()
    run["absolute_metrics"] = {name: as_array(name, values, "[E episodes]").tolist() for name, values in absolute}
    return run


def _per_step(name: str, values: ArrayLike, steps: int) -> np.ndarray:
    array = as_array(name, values, "[S steps, E episodes]", "[S steps]")
    check(len(array) == steps, name, array.shape, f"give a row for each of {steps} evaluations")
    return array.reshape(steps, -1)


def _check_names(records: list[SeedRecord]) -> None:
    for r in records:
        for field in ("environment", "task", "algorithm"):
            check(bool(getattr(r, field)), field, getattr(r, field), "give it a name")
        check("," not in r.algorithm, "algorithm", r.algorithm, "marl-eval allows no comma in it")
        name = r.environment
        check(name.lower() != _RESERVED_ENVIRONMENT, "environment", name, "marl-eval keeps this name for itself")
        for name in (*r.metrics, *r.absolute_metrics):
            taken = any(word in name.lower() for word in _RESERVED_METRICS)
            check(not taken, "metrics", name, f"a name with {' or '.join(_RESERVED_METRICS)} in it is not a metric")
    for field in ("environment", "task", "algorithm"):
        _check_case(field, (getattr(r, field) for r in records))
    _check_case("metrics", (name for r in records for name in (*r.metrics, *r.absolute_metrics)))


def _check_case(field: str, names: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(name.lower(), name)
        check(first == name, field, name, f"it differs from {first!r} in case alone and marl-eval lowers all names")


def _check_grid(environment: str, records: list[SeedRecord]) -> None:
    """marl-eval stacks an environment's records into arrays: none may be missing, given twice or of another length."""
    cells = [(r.task, r.algorithm, r.seed) for r in records]
    given = Counter(cells)
    twice = next((cell for cell, times in given.items() if times > 1), None)
    check(twice is None, "results", twice, f"give each task, algorithm and seed of {environment!r} once")
    tasks, algorithms, seeds = (dict.fromkeys(values) for values in zip(*cells, strict=True))
    grid = ((task, algorithm, seed) for task in tasks for algorithm in algorithms for seed in seeds)
    missing = next((cell for cell in grid if cell not in given), None)
    check(missing is None, "results", missing, f"this task, algorithm and seed of {environment!r} is missing")
    steps = len(records[0].step_counts)
    names = sorted(records[0].metrics)
    check(bool(names), "metrics", names, "give at least one metric")
    for r, cell in zip(records, cells, strict=True):
        check(len(r.step_counts) == steps, "step_counts", cell, f"all of {environment!r} need {steps} evaluations")
        same = sorted(r.metrics) == names == sorted(r.absolute_metrics)
        check(same, "metrics", cell, f"all of {environment!r} need the metrics {', '.join(names)}, absolute ones too")
