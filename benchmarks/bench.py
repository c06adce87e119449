"""Measure how fast drigm trains, and how near that is to what the machine can do.

    make bench                              # a whole run of the default QMIX-TV; writes benchmarks/results.json
    make bench BENCH_ARGS=--quick           # a twentieth of the steps, the whole run's time projected; writes nothing

Floating-point operations are counted by formula, matrix products only (see `update_flops`): element-wise work, random
numbers, replay and the simulator are real work too, so 100 % of the peak is not to be had.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.config import TrainConfig
from drigm.devices import use_cores
from drigm.envs import make_env
from drigm.learner import make_learner
from drigm.loop import Train, make_train
from drigm.report.tables import format_table
from drigm.run_directory import system_facts
from drigm.types import EnvSpec
from drigm.uncertainty import SETS

RESULTS = Path(__file__).parent / "results.json"
CONFIG = TrainConfig(factorization="qmix", uncertainty="tv", rho=0.2)
CHUNKS = 100  # as `drigm train` cuts a run
NEVER = 10**9  # an `update_every` that no run reaches
PEAK_SIZES = (512, 1024, 2048)
PEAK_REPEATS = 8
QUICK_SHARE = 20


class Timing(NamedTuple):
    """Seconds of one run, compilation apart."""

    trace: float  # Python to HLO, both programs
    compile: float  # HLO to machine code, both programs, without any cache
    run: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"1/{QUICK_SHARE} of the steps; seconds are projected")
    parser.add_argument("--out", type=Path, help="JSON file (default: benchmarks/results.json; none with --quick)")
    parser.add_argument("--peak", type=int, metavar="CORES", help=argparse.SUPPRESS)  # what the child process does
    options = parser.parse_args()
    if options.peak:
        print(matmul_peak())
        return
    result = bench(CONFIG, quick=options.quick)
    print(table(result))
    out = options.out or (None if options.quick else RESULTS)
    if out:
        out.write_text(json.dumps(result, indent=2) + "\n")
        print(f"written to {out}")


def bench(config: TrainConfig, *, quick: bool) -> dict[str, Any]:
    """Measure everything and return it, ready for JSON."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    peak = {"one core": _peak_of(1), "all cores": _peak_of(cores)}
    use_cores(config.shards)
    jax.config.update("jax_enable_compilation_cache", False)
    probe = config.replace(steps=config.steps // QUICK_SHARE)
    measured = probe if quick else config
    learning, acting = time_run(measured), time_run(probe.replace(update_every=NEVER))
    per_tick = acting.run / probe.ticks
    nominal = time_run(probe.replace(uncertainty="nominal", rho=0.0))

    def per_update_of(timing: Timing, timed: TrainConfig) -> float:
        return (timing.run - per_tick * timed.ticks) / number_of_updates(timed)

    updates, per_update = number_of_updates(config), per_update_of(learning, measured)
    seconds = per_tick * config.ticks + per_update * updates if quick else learning.run
    spec = make_env(config.env).spec
    flops = {"update": update_flops(config, spec), "environment step": act_flops(config, spec)}
    total = flops["update"] * updates + flops["environment step"] * config.ticks * config.num_envs
    return {
        "quick": quick,
        "machine": _machine(cores),
        "config": json.loads(config.to_json()),
        "peak_gflops": peak,
        "compile_seconds": {"trace": learning.trace, "compile": learning.compile},
        "train_seconds": seconds,
        "measured_seconds": learning.run,  # equal to train_seconds unless quick
        "steps_per_s": config.steps / seconds,
        "updates": updates,
        "seconds_per_update": per_update,
        "seconds_per_tick_acting": per_tick,
        "acting_share": per_tick * config.ticks / seconds,
        "robust_over_nominal_update": per_update / per_update_of(nominal, probe),
        "flops": {**flops, "run": total},
        "gflops": total / seconds / 1e9,
        "share_of_peak": total / seconds / 1e9 / peak["all cores"],
        "update_share_of_peak": flops["update"] / per_update / 1e9 / peak["all cores"],
    }


def time_run(config: TrainConfig) -> Timing:
    """Compile and run one training of ``config``, without its host loop's files."""
    env = make_env(config.env)
    programs: Train = make_train(config, env)
    axes = jnp.zeros(1, jnp.int32), jnp.full(1, config.rho, jnp.float32)
    tick = jax.ShapeDtypeStruct((), jnp.int32)
    began = time.perf_counter()
    lowered = programs.init.lower(*axes)
    traced = time.perf_counter() - began
    began = time.perf_counter()
    init = lowered.compile()
    compiled = time.perf_counter() - began
    state = jax.block_until_ready(init(*axes))
    began = time.perf_counter()
    lowered = programs.chunk.lower(state, tick, tick)
    traced += time.perf_counter() - began
    began = time.perf_counter()
    chunk = lowered.compile()
    compiled += time.perf_counter() - began
    size = max(1, config.ticks // CHUNKS)
    began = time.perf_counter()
    for first in range(0, config.ticks, size):
        state, sums = chunk(state, jnp.int32(first), jnp.int32(min(size, config.ticks - first)))
        jax.block_until_ready(sums)
    return Timing(traced, compiled, time.perf_counter() - began)


def number_of_updates(config: TrainConfig) -> int:
    """Return the updates in a run, by the rule of `drigm.loop`."""
    starts = max(-(-config.learning_starts // config.num_envs), config.window + 1)
    return config.updates * sum(tick + 1 >= starts and tick % config.update_every == 0 for tick in range(config.ticks))


class Layers(NamedTuple):
    """Forward operations of the matrix products for one agent and one time-step; 2 per multiply-and-add."""

    encoder: int
    lstm_input: int
    lstm_hidden: int
    head: int

    @property
    def memory(self) -> int:
        return self.encoder + self.lstm_input + self.lstm_hidden


def layers(config: TrainConfig, spec: EnvSpec) -> Layers:
    ordered = make_learner(config, spec).method.ordered
    inputs = spec.obs_size + 2 * ordered + spec.num_agents * config.share_parameters
    outputs = 2 + 2 * config.bowls if ordered else spec.num_actions
    h = config.hidden
    return Layers(2 * inputs * h, 2 * h * 4 * h, 2 * h * 4 * h, 2 * (h + inputs) * outputs)


def act_flops(config: TrainConfig, spec: EnvSpec) -> int:
    """Return the operations behind one joint action: a forward step of every agent."""
    one = layers(config, spec)
    return spec.num_agents * (one.memory + one.head)


def update_flops(config: TrainConfig, spec: EnvSpec) -> int:
    """Return the operations of one update, all shards together.

    Per window and agent, with T transitions of which b are burn-in (so T + 1 time-steps)::

        target network    (T + 1) memory + (T - b) head
        online network    b memory, forward only
                          (T - b) (2 encoder + 3 lstm_input + 3 lstm_hidden + 3 head)

    A layer's backward pass costs its forward pass twice, once for its weights and once for its input; the encoder's
    input needs no gradient. Mixer and dual network, per window and transition, are counted alike; the mixer runs
    once under the target parameters and once with its gradient, the dual network once with its gradient per dual update
    and once to give eta.
    """
    one, steps = layers(config, spec), config.window - config.burn_in
    target = (config.window + 1) * one.memory + steps * one.head
    online = config.burn_in * one.memory
    online += steps * (2 * one.encoder + 3 * (one.lstm_input + one.lstm_hidden + one.head))
    double = target if config.double_q else 0
    agents = spec.num_agents * (target + online + double)
    return config.batch * (agents + steps * (_mixer_flops(config, spec) + _dual_flops(config, spec)))


def _mixer_flops(config: TrainConfig, spec: EnvSpec) -> int:
    """One transition under the target mixer, and one with its gradient."""
    if config.factorization != "qmix":
        return 0
    e, n = config.mixer_embed, spec.num_agents
    from_state = 2 * spec.state_size * (n * e + 3 * e)  # w1, b1, w2 and the hidden layer of v
    inner = 2 * n * e + 2 * e + 2 * e  # q w1, hidden w2, v
    return (from_state + inner) + (2 * from_state + 3 * inner)


def _dual_flops(config: TrainConfig, spec: EnvSpec) -> int:
    if not SETS[config.uncertainty].has_dual:
        return 0
    h = config.dual_hidden
    inputs = spec.state_size + (spec.num_agents if make_learner(config, spec).method.ordered else 0)
    first, rest = 2 * inputs * h, 2 * h * h + 2 * h
    return config.dual_updates * (2 * first + 3 * rest) + first + rest


def _peak_of(cores: int) -> float:
    """Run `matmul_peak` on ``cores`` cores, in a process of its own: thread pools are made once per process."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    environment |= {name: str(cores) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, __file__, "--peak", str(cores)]
    granted = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if granted:
        os.sched_setaffinity(0, sorted(granted)[:cores])
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    finally:
        if granted:
            os.sched_setaffinity(0, granted)
    return float(done.stdout.split()[-1])


def matmul_peak() -> float:
    """Return the best float32 rate, in GFLOP/s, of large square products in NumPy and in JAX."""
    rng = np.random.default_rng(0)
    product = jax.jit(jnp.matmul)
    best = 0.0
    for size in PEAK_SIZES:
        a, b = rng.standard_normal((2, size, size), dtype=np.float32)
        ja, jb = jnp.asarray(a), jnp.asarray(b)
        out = np.empty_like(a)
        for run in (
            lambda a=a, b=b, out=out: np.matmul(a, b, out=out),
            lambda a=ja, b=jb: product(a, b).block_until_ready(),
        ):
            run()  # compiles, starts threads
            for _ in range(PEAK_REPEATS):
                began = time.perf_counter()
                run()
                best = max(best, 2 * size**3 / (time.perf_counter() - began) / 1e9)
    return best


def table(result: dict[str, Any]) -> str:
    """Return what was measured as a table."""
    projected = f" (projected from 1/{QUICK_SHARE} of the steps)" if result["quick"] else ""
    peak, compiled, flops = result["peak_gflops"], result["compile_seconds"], result["flops"]
    rows = [
        ("float32 matmul peak, one core", f"{peak['one core']:.1f} GFLOP/s"),
        (f"float32 matmul peak, {result['machine']['cores']} cores", f"{peak['all cores']:.1f} GFLOP/s"),
        ("tracing", f"{compiled['trace']:.1f} s"),
        ("compiling, no cache", f"{compiled['compile']:.1f} s"),
        (f"training, {result['config']['steps']:,} steps", f"{result['train_seconds']:.1f} s{projected}"),
        ("environment steps per second", f"{result['steps_per_s']:,.0f}"),
        ("one update", f"{1e3 * result['seconds_per_update']:.2f} ms, {flops['update'] / 1e6:.1f} MFLOP in matmuls"),
        (
            f"acting in {result['config']['num_envs']} environments",
            f"{1e3 * result['seconds_per_tick_acting']:.2f} ms, {100 * result['acting_share']:.0f} % of the time",
        ),
        ("a robust update against a nominal one", f"{result['robust_over_nominal_update']:.2f} times the seconds"),
        ("matmul work of the run", f"{flops['run'] / 1e9:,.0f} GFLOP"),
        ("rate over the run", f"{result['gflops']:.1f} GFLOP/s, {100 * result['share_of_peak']:.0f} % of the peak"),
        ("rate within updates", f"{100 * result['update_share_of_peak']:.0f} % of the peak"),
    ]
    name = f"{result['config']['factorization']} {result['config']['uncertainty']} rho {result['config']['rho']:g}"
    return format_table([{"what": what, "measured": value} for what, value in rows], title=f"drigm bench: {name}")


def _machine(cores: int) -> dict[str, Any]:
    facts = system_facts()
    system = f"{platform.system()} {platform.machine()}"
    return {"cores": cores, "processor": _processor(), "system": system} | {
        name: facts[name] for name in ("python", "versions", "commit", "started")
    }


def _processor() -> str:
    """The processor's name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    main()
