"""How fast drigm trains and acts, and how near that is to the machine's measured peak of matrix products."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.flops import act_flops, counted_update_flops
from benchmarks.measure import (
    CONFIG,
    NEVER,
    Table,
    Training,
    cores,
    interleaved,
    number_of_updates,
    own_process,
    say,
)
from drigm.core.config import TrainConfig
from drigm.envs import make_env

QUICK_SHARE = 20
PEAK_SIZES = (512, 1024, 2048)
PEAK_REPEATS = 8
SMALL_SECONDS = 0.3
SHAPES = "updates' shapes, one core"


def measure(quick: bool, config: TrainConfig = CONFIG) -> dict[str, Any]:
    """Train a whole run (a twentieth of one, if ``quick``) with the peak measured before and after it."""
    say("peak of matrix products")
    before = _peaks(config)
    say("compiling robust, nominal and acting programs")
    env = make_env(config.env)
    robust = Training(config, env)
    nominal = Training(config.replace(uncertainty="nominal", rho=0.0), env).warm()
    acting = Training(config.replace(update_every=NEVER), env)
    say(f"training {config.steps // (QUICK_SHARE if quick else 1):,} steps")
    measured = config.replace(steps=config.steps // QUICK_SHARE) if quick else config
    robust.config = measured
    run = robust.whole_run()
    say("ticks side by side")
    costs = interleaved({"robust": robust, "nominal": nominal, "acting": acting}, quick=quick)
    peaks = [max(pair) for pair in zip(before, _peaks(config), strict=True)]
    counted = counted_update_flops(config, env)
    act = act_flops(config, env.spec) * config.num_envs
    tick = {name: cost._asdict() for name, cost in costs.items()}
    per_update = costs["robust"].best - costs["acting"].best
    updates = number_of_updates(measured)
    seconds = run.best if not quick else costs["robust"].best * config.ticks
    total = counted * number_of_updates(config) + act * config.ticks
    return {
        "config": json.loads(config.to_json()),
        "peak_gflops": dict(zip(("one core", "all cores", SHAPES), peaks, strict=True)),
        "cores": cores(),
        "projected": quick,
        "train_seconds": seconds,
        "train_processor_seconds": run.processor,
        "measured_steps": measured.steps,
        "measured_updates": updates,
        "steps_per_s": config.steps / seconds,
        "tick": tick,
        "seconds_per_update": per_update,
        "robust_over_nominal_update": per_update / (costs["nominal"].best - costs["acting"].best),
        "flops": {"update": counted, "acting, one tick": act, "run": total},
        "gflops": total / seconds / 1e9,
        "share_of_peak": {
            "run": total / seconds / 1e9 / peaks[1],
            "update": counted / per_update / 1e9 / peaks[1],
            "acting": act / costs["acting"].best / 1e9 / peaks[1],
        },
    }


def tables(result: dict[str, Any]) -> list[Table]:
    config, peak, share, flops = (result[name] for name in ("config", "peak_gflops", "share_of_peak", "flops"))
    projected = f" (projected from {result['measured_steps']:,} steps)" if result["projected"] else ""
    acting, update = result["tick"]["acting"]["best"], result["seconds_per_update"]
    rows = [
        ("float32 matmul peak, one core", f"{peak['one core']:.1f} GFLOP/s"),
        (f"float32 matmul peak, {result['cores']} cores", f"{peak['all cores']:.1f} GFLOP/s"),
        ("products of the updates' shapes, one core", f"{peak[SHAPES]:.1f} GFLOP/s"),
        (f"training, {config['steps']:,} steps", f"{result['train_seconds']:.1f} s{projected}"),
        ("environment steps per second", f"{result['steps_per_s']:,.0f}"),
        ("one update", f"{1e3 * update:.2f} ms, {flops['update'] / 1e6:.1f} MFLOP in matmuls"),
        (f"acting in {config['num_envs']} environments", f"{1e3 * acting:.2f} ms"),
        ("a robust update against a nominal one", f"{result['robust_over_nominal_update']:.2f} times the seconds"),
        ("rate over the run", f"{result['gflops']:.1f} GFLOP/s, {100 * share['run']:.0f} % of the peak"),
        ("rate within updates", f"{100 * share['update']:.0f} % of the peak"),
        ("rate within acting", f"{100 * share['acting']:.0f} % of the peak"),
    ]
    name = f"{config['factorization']} {config['uncertainty']} rho {config['rho']:g}"
    noise = result["tick"]["robust"]["median"] / result["tick"]["robust"]["best"]
    note = f"A tick's middle turn took {noise:.2f} times its best one: near 1 on a quiet machine."
    return [Table(f"Throughput: {name}", [{"what": what, "measured": value} for what, value in rows], note)]


def _peaks(config: TrainConfig) -> tuple[float, float, float]:
    """The peak on one core and on all, and the rate of the updates' own products on one core, in GFLOP/s."""

    def peak(count: int, *arguments: object) -> float:
        threads = {f"{name}_NUM_THREADS": str(count) for name in ("OPENBLAS", "OMP", "MKL")}
        variables = {**threads, "JAX_PLATFORMS": "cpu"}
        return own_process("benchmarks.throughput", *arguments, cores=count, variables=variables)[0]

    agents, rows = make_env(config.env).spec.num_agents, config.batch // config.shards
    return peak(1), peak(cores()), peak(1, agents, rows, config.window - config.burn_in, config.hidden)


def matmul_peak() -> float:
    """Return the best float32 rate, in GFLOP/s, of large square products in NumPy and in JAX."""
    rng = np.random.default_rng(0)
    product = jax.jit(jnp.matmul)
    best = 0.0
    for size in PEAK_SIZES:
        a, b = rng.standard_normal((2, size, size), dtype=np.float32)
        out, ja, jb = np.empty_like(a), jnp.asarray(a), jnp.asarray(b)
        best = max(best, _rate(lambda a=a, b=b, out=out: np.matmul(a, b, out=out), 2 * size**3, PEAK_REPEATS))
        best = max(best, _rate(lambda a=ja, b=jb: product(a, b).block_until_ready(), 2 * size**3, PEAK_REPEATS))
    return best


def shapes_rate(agents: int, rows: int, steps: int, hidden: int) -> float:
    """Return the rate, in GFLOP/s, of an update's largest products: a step's recurrent one and a window's input one.

    What bounds the update from above: products this narrow do not reach the peak of large square ones. Both are as
    often in an update, so the rate of the pair is their operations over their seconds together.
    """
    repeats = 50  # products in one call, so that calling costs nothing

    def seconds(rows: int) -> float:
        keys = jax.random.split(jax.random.key(0))
        x = jax.random.normal(keys[0], (agents, rows, hidden))
        weight = jax.random.normal(keys[1], (agents, hidden, 4 * hidden)) / hidden

        @jax.jit
        def many(x: jax.Array) -> jax.Array:
            return jax.lax.fori_loop(0, repeats, lambda _, x: jnp.einsum("gbh,ghk->gbk", x, weight)[..., :hidden], x)

        operations = repeats * 2 * agents * rows * hidden * 4 * hidden
        calls = max(3, int(SMALL_SECONDS * 20e9 / operations))
        return operations / _rate(lambda: many(x).block_until_ready(), operations, calls) / 1e9

    operations = 2 * agents * rows * hidden * 4 * hidden * repeats
    return 2 * steps * operations / (steps * seconds(rows) + seconds(rows * steps)) / 1e9


def _rate(work: Callable[[], object], operations: int, repeats: int) -> float:
    """The best GFLOP/s of ``work``, whose first run compiles and starts threads."""
    work()
    best = 0.0
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        best = max(best, operations / (time.perf_counter() - began) / 1e9)
    return best


if __name__ == "__main__":
    print(json.dumps(shapes_rate(*map(int, sys.argv[1:])) if sys.argv[1:] else matmul_peak()))
