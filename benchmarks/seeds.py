"""Several seeds in one program: spread over cores and in turn on each (as on CPUs), vmapped, and run after run."""

from __future__ import annotations

from typing import Any

from benchmarks.growth import growth
from benchmarks.measure import CONFIG, Table, Training, interleaved, say

SEEDS = (1, 2, 5, 10)


def measure(quick: bool) -> dict[str, Any]:
    """Time the ticks of several numbers of seeds, as they are trained and as one `vmap`, side by side."""
    config = CONFIG.replace(learning_starts=0)
    counts = SEEDS[:2] if quick else SEEDS
    points = {}
    for count in counts:
        say(f"compiling {count} seeds, in turn and vmapped")
        points[count, "trained"] = Training(config.replace(seeds=count)).warm()
        if count > 1:
            points[count, "vmapped"] = Training(config.replace(seeds=count), in_turn=False).warm()
    costs = {point: cost.best for point, cost in interleaved(points, quick=quick).items()}
    seconds = {count: costs[count, "trained"] for count in counts}
    vmapped = {count: costs.get((count, "vmapped"), seconds[count]) for count in counts}
    return {
        **growth(seconds),
        "vmapped_seconds": {str(count): cost for count, cost in vmapped.items()},
        "vmapped_over_together": {str(count): vmapped[count] / cost for count, cost in seconds.items()},
        # One run after the other is the program of one seed, as often.
        "alone_over_together": {str(count): count * seconds[1] / cost for count, cost in seconds.items()},
    }


def tables(result: dict[str, Any]) -> list[Table]:
    rows = [
        {
            "seeds": int(count),
            "ms": 1e3 * seconds,
            "ms per seed": 1e3 * seconds / int(count),
            "vmapped, ms per seed": 1e3 * result["vmapped_seconds"][count] / int(count),
            "vmapped / together": result["vmapped_over_together"][count],
            "one by one / together": result["alone_over_together"][count],
        }
        for count, seconds in result["seconds"].items()
    ]
    note = (
        f"Together: one program, seeds on cores of their own and in turn on each. Fitted exponent "
        f"{result['exponent']:.2f}; 1 is linear. Vmapped, a number that "
        "the cores do not divide is filled up."
    )
    return [Table("A tick against seeds (QMIX-TV)", rows, note)]
