"""Show where the time of one tick goes: kinds of work, and the slowest operations of the compiled program.

    python benchmarks/profile_tick.py --factorization qmix --uncertainty tv --rho 0.2 --seeds 5
    python benchmarks/profile_tick.py --set env=mpe:simple_spread_v3?local_ratio=0 window=25 burn_in=0 shards=1

Times are of one device. Each operation's is the lower quartile over the ticks traced, times how often it runs in a
tick: on a machine that others use as well, the mean would show where the process was interrupted. The processor's
time of a whole tick is over all devices; it too hardly depends on who else is running.
"""

from __future__ import annotations

import argparse
import glob
import gzip
import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from drigm.core.config import TrainConfig
from drigm.envs import make_env
from drigm.report.tables import format_table
from drigm.runtime.devices import use_cores
from drigm.training.loop import axes
from drigm.training.programs import make_train
from drigm.training.settings import settle

TICKS = 10
MIN_EVENTS = 1000  # of a thread that runs the program; others only wait for it
OPERATION = re.compile(r"\s*(?:ROOT )?%([\w.\-]+) = (\S+) [\w\-]+\(")
SOURCE = re.compile(r'op_name="([^"]*)"')


class Operation(NamedTuple):
    """One operation of the compiled program."""

    shape: str
    source: str  # where in the Python program it comes from


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--factorization", default="qmix")
    parser.add_argument("--uncertainty", default="tv")
    parser.add_argument("--rho", type=float, default=0.2)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--top", type=int, default=25, help="operations to list")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="other settings, as in window=25")
    options = vars(parser.parse_args())
    top, others = options.pop("top"), (word.partition("=") for word in options.pop("set"))
    profile(settle({**options, **{name: _value(text) for name, _, text in others}}), top)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def profile(config: TrainConfig, top: int) -> None:
    """Trace `TICKS` ticks of ``config`` that learn, and print where their time went."""
    use_cores(config.shards)
    programs = make_train(config, make_env(config.env))
    state = programs.place(programs.init(*axes([config])))
    warm = config.first_update + TICKS
    tick = jax.ShapeDtypeStruct((), jnp.int32)
    chunk = programs.chunk.lower(state, tick, tick).compile()
    state, sums = chunk(state, jnp.int32(0), jnp.int32(warm))
    jax.block_until_ready(sums)
    began = time.process_time()
    state, sums = chunk(state, jnp.int32(warm), jnp.int32(TICKS))
    jax.block_until_ready(sums)
    processor = (time.process_time() - began) / TICKS
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(chunk(state, jnp.int32(warm + TICKS), jnp.int32(TICKS)))
        (path,) = glob.glob(f"{folder}/**/*.trace.json.gz", recursive=True)
        with gzip.open(path) as file:
            events = json.load(file)["traceEvents"]
    name = f"{config.factorization} {config.uncertainty}, {config.seeds} seeds"
    print(f"{name}: {1e3 * processor:.1f} ms of processor time in a tick, all devices")
    show(own_times(events), operations(chunk.as_text()), config.shards, top)


def own_times(events: Iterable[dict[str, Any]]) -> dict[str, list[float]]:
    """Return the microseconds of every run of every operation, without those of the operations inside it."""
    threads: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event.get("ph") == "X":
            threads[event["pid"], event["tid"]].append(event)
    times: dict[str, list[float]] = defaultdict(list)
    for thread in threads.values():
        names = {e["name"] for e in thread}
        if len(thread) < MIN_EVENTS or not any("fusion" in name for name in names):
            continue
        open_events: list[tuple[dict[str, Any], float]] = []
        for event in sorted(thread, key=lambda e: (e["ts"], -e["dur"])):
            while open_events and open_events[-1][0]["ts"] + open_events[-1][0]["dur"] <= event["ts"]:
                done, own = open_events.pop()
                times[done["name"]].append(own)
            if open_events:
                outer, own = open_events.pop()
                open_events.append((outer, own - event["dur"]))
            open_events.append((event, event["dur"]))
    return times


def operations(program: str) -> dict[str, Operation]:
    """Return the operations of a compiled program's text by name."""
    found = {}
    for line in program.splitlines():
        match = OPERATION.match(line)
        if match:
            source = SOURCE.search(line)
            found.setdefault(match[1], Operation(match[2], source[1] if source else ""))
    return found


def show(times: dict[str, list[float]], known: dict[str, Operation], shards: int, top: int) -> None:
    """Print one table of kinds of work and one of operations."""
    rows, kinds = [], defaultdict(float)
    for name, each in times.items():
        count = len(each) / (TICKS * shards)
        spent = sorted(each)[len(each) // 4] * count
        operation = known.get(name, Operation("", ""))
        kinds[kind_of(name, operation.source)] += spent
        rows.append((spent, count, name, operation.shape, operation.source[-60:]))
    total = sum(kinds.values())
    kind_rows = [{"work": k, "us": f"{v:.0f}", "share": f"{100 * v / total:.0f} %"} for k, v in sorted_by_time(kinds)]
    print(format_table(kind_rows, title=f"one tick on one device: {total / 1e3:.1f} ms"))
    columns = ("us", "runs", "operation", "shape", "from")
    listed = [(f"{s:.0f}", f"{c:.1f}", *rest) for s, c, *rest in sorted(rows, reverse=True)[:top]]
    print(format_table([dict(zip(columns, row, strict=True)) for row in listed], title="slowest operations"))


def sorted_by_time(kinds: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(kinds.items(), key=lambda item: -item[1])


def kind_of(name: str, source: str) -> str:
    """Return which part of a tick an operation belongs to."""
    if any(word in source for word in ("threefry", "randint", "uniform", "random")):
        return "random numbers"
    work = "matmul" if name.startswith(("ynn_", "dot")) else "rest"
    if "transpose(jvp" in source:
        return f"update, backward, {work}"
    if "jvp(" in source:
        return f"update, online forward, {work}"
    if "branch_1_fun" in source:
        return f"update, target and optimiser, {work}"
    if "all-reduce" in name or "endezvous" in name:
        return "waiting for the other device"
    return "acting and simulator" if source else "copies and calls"


if __name__ == "__main__":
    main()
