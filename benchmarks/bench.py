"""Measure training against the machine: seconds for the paper's budget, and the share of the matmul peak.

    make bench                       # about 4 minutes on 2 cores
    make bench BENCH_ARGS="--quick"  # a tenth of the steps

Everything is measured in one run on one machine, because times are only worth comparing side by side.
Writes benchmarks/results.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.config import TrainConfig
from drigm.devices import usable_cores, use_cores
from drigm.envs.api import Environment
from drigm.learner import make_learner
from drigm.loop import make_train
from drigm.report.tables import format_table
from drigm.run_directory import system_facts, write_text
from drigm.train import resolve
from drigm.types import EnvSpec

OUT = Path(__file__).with_name("results.json")
PAPER_BUDGET = 172_800


class Measured(NamedTuple):
    """One configuration, timed."""

    compile_s: float
    train_s: float
    steps: int
    updates: int


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps")
    quick = parser.parse_args().quick
    config = TrainConfig(factorization="qmix", uncertainty="tv", rho=0.2, steps=PAPER_BUDGET // (10 if quick else 1))
    use_cores(config.shards)
    config, env = resolve(config)
    peak_one, peak_all = matmul_peak()
    whole = measure(config, env)
    # The same acting, replay and environment, but no updates after the first: what is left is their share.
    idle = measure(config.replace(update_every=config.ticks, steps=min(config.steps, PAPER_BUDGET // 10)), env)
    nominal = measure(config.replace(uncertainty="nominal", rho=0.0, steps=min(config.steps, PAPER_BUDGET // 10)), env)
    row = report(config, env.spec, whole, idle, nominal, peak_one, peak_all)
    print(format_table([{"what": name, "measured": value} for name, value in row.items()]))
    write_text(OUT, json.dumps({"quick": quick, "system": system_facts(), "cores": usable_cores(), **row}, indent=2))
    print(f"written to {OUT}")
    return 0


def report(
    config: TrainConfig, spec: EnvSpec, whole: Measured, idle: Measured, nominal: Measured, one: float, every: float
) -> dict[str, Any]:
    """Return the figures by name."""
    flops = update_flops(config, spec)
    acting_s = idle.train_s / idle.steps * whole.steps
    update_s = whole.train_s - acting_s
    rate = flops * whole.updates / update_s / 1e9
    budget_s = whole.train_s / whole.steps * PAPER_BUDGET
    label = "QMIX-TV, 172,800 steps: seconds after compilation" + (
        "" if whole.steps >= PAPER_BUDGET else " (scaled up)"
    )
    return {
        label: round(budget_s, 1),
        "compilation, cold, seconds": round(whole.compile_s, 1),
        "environment steps per second": round(whole.steps / whole.train_s),
        "updates per second": round(whole.updates / whole.train_s, 1),
        "share of time in updates": round(update_s / whole.train_s, 3),
        "share of time in acting, replay, environment": round(acting_s / whole.train_s, 3),
        "TV against nominal, time per step": round(whole.train_s / whole.steps * nominal.steps / nominal.train_s, 3),
        "GFLOP per update (matmuls)": round(flops / 1e9, 4),
        "GFLOP/s in updates": round(rate, 1),
        "matmul peak, one core, GFLOP/s": round(one, 1),
        "matmul peak, all cores, GFLOP/s": round(every, 1),
        "updates' share of the peak of all cores": round(rate / every, 3),
    }


def measure(config: TrainConfig, env: Environment) -> Measured:
    """Compile and run ``config``; the first chunk, which fills the replay, is timed like the rest."""
    programs = make_train(config, env)
    began = time.perf_counter()
    state = programs.init(jnp.zeros(1, jnp.int32), jnp.full(1, config.rho, jnp.float32))
    tick, ticks = jnp.int32(0), jnp.int32(config.ticks)
    chunk: Any = programs.chunk
    compiled = chunk.lower(state, tick, ticks).compile()
    jax.block_until_ready(state)
    compile_s = time.perf_counter() - began
    began = time.perf_counter()
    _, sums = jax.block_until_ready(compiled(state, tick, ticks))
    train_s = time.perf_counter() - began
    updates = int(np.asarray(sums.updates)[0, 0])
    return Measured(compile_s, train_s, config.ticks * config.num_envs, updates)


def update_flops(config: TrainConfig, spec: EnvSpec) -> float:
    """Return the floating-point operations of the matmuls of one update; element-wise work is not counted.

    A multiplication and an addition count as 2. Per agent and time-step the forward pass costs
    2 (I H + 4 H H + 4 H H + F O) for encoder, input projection, recurrence and head; the backward pass of a
    trained step costs twice its forward pass.
    """
    learner = make_learner(config, spec)
    agents = jax.eval_shape(learner.init, jax.random.key(0)).params.agents
    groups, width, hidden = agents.encoder.shape
    del groups
    outputs, features = agents.head.bias.shape[-1], width + hidden
    recurrent = width * hidden + 8 * hidden * hidden
    head = features * outputs
    rows = config.batch * spec.num_agents
    trained = config.window - config.burn_in
    forward = 2.0 * rows * (recurrent * (config.window + 1) + head * trained)
    backward = 2.0 * (2.0 * rows * (recurrent + head) * trained)
    return 2.0 * forward + backward  # the target network's forward pass, the online network's, and its backward pass


def matmul_peak(size: int = 1536, repeats: int = 6) -> tuple[float, float]:
    """Return the best GFLOP/s of a float32 matmul on one device and on all devices at once.

    NumPy's BLAS and XLA differ by machine, so the peak is the better of the two.
    """
    devices = jax.local_devices()[: usable_cores()]
    a = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    on = [jax.device_put(a, device) for device in devices]
    multiply = jax.jit(lambda x: x @ x)
    flop = 2.0 * size**3

    def best(run: Any, count: int) -> float:
        run()
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - began)
        return count * flop / min(seconds) / 1e9

    with ThreadPoolExecutor(len(devices)) as pool:
        every = best(lambda: list(pool.map(lambda x: multiply(x).block_until_ready(), on)), len(devices))
    one = best(lambda: multiply(on[0]).block_until_ready(), 1)
    blas = best(lambda: a @ a, 1)  # BLAS uses all cores by itself
    return one, max(every, blas)


if __name__ == "__main__":
    sys.exit(main())
