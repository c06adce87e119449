"""Fuzz drigm's input: python tools/fuzz.py [--inputs 100000] [--seconds 600]. It stops at the first input that bites.

Every input is taken, or refused in one sentence; a traceback, or more than five seconds, ends the tool with that input
made as small as can be. The counts come at the end.
"""

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from fuzzing_files import TARGETS

ROUND = 500  # inputs between looks at the clock
SHARES = {
    "config.json": 4,
    "command line": 2,
    "sweep TOML": 1,
    "names and values": 3,
    "safetensors": 2,
    "metrics": 1,
    "run directory": 2,
}  # as each is dear


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="of all kinds (default: 100,000)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop then (default: when all are done)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    began, tried, taken, slowest = time.monotonic(), Counter(), Counter(), {}
    draws = random.Random(options.seed)
    while tried.total() < options.inputs and time.monotonic() - began < options.seconds:
        name = min(TARGETS, key=lambda name: tried[name] / SHARES[name])
        _round(name, draws.randrange(2**32), tried, taken, slowest)
        if tried.total() % 10_000 < ROUND:
            print(f"{tried.total()} inputs, {time.monotonic() - began:.0f} s", flush=True)
    for name in TARGETS:
        print(f"{name:<18} {tried[name]:>7} inputs, {taken[name]:>6} taken, slowest {slowest.get(name, 0.0):.2f} s")
    print(f"{tried.total()} inputs in {time.monotonic() - began:.0f} s, no traceback and none above 5 s")
    return 0


def _round(name: str, start: int, tried: Counter, taken: Counter, slowest: dict[str, float]) -> None:
    strategy, attempt = TARGETS[name]

    @seed(start)
    @settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def check(value):
        before = time.process_time()
        taken[name] += attempt(value)
        tried[name] += 1
        slowest[name] = max(slowest.get(name, 0.0), time.process_time() - before)

    check()


if __name__ == "__main__":
    sys.exit(main())
