"""Seeds vmapped in one program against the same seeds one run after the other, and growth with their number."""

from __future__ import annotations

from typing import Any

from benchmarks.growth import growth
from benchmarks.measure import CONFIG, Table, Training, interleaved, say

SEEDS = (1, 2, 5, 10)


def measure(quick: bool) -> dict[str, Any]:
    """Time the ticks of several numbers of seeds, side by side."""
    config = CONFIG.replace(learning_starts=0)
    points = {}
    for count in SEEDS[:2] if quick else SEEDS:
        say(f"compiling {count} seeds")
        points[count] = Training(config.replace(seeds=count)).warm()
    seconds = {count: cost.best for count, cost in interleaved(points, quick=quick).items()}
    # One run after the other is the program of one seed, as often.
    return {
        **growth(seconds),
        "in_turn_over_vmapped": {str(count): count * seconds[1] / cost for count, cost in seconds.items()},
    }


def tables(result: dict[str, Any]) -> list[Table]:
    rows = [
        {
            "seeds": int(count),
            "ms": 1e3 * seconds,
            "ms per seed": 1e3 * seconds / int(count),
            "in turn / vmapped": result["in_turn_over_vmapped"][count],
        }
        for count, seconds in result["seconds"].items()
    ]
    return [Table("A tick against seeds (QMIX-TV)", rows, f"Fitted exponent {result['exponent']:.2f}; 1 is linear.")]
