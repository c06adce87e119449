"""Samples against the dual network on problems that are solved exactly, and what each costs.

    python benchmarks/samples.py bias      # the fixed point of the sampled operator, by K: no network, no learning
    python benchmarks/samples.py learned   # teams trained for the same processor time (minutes)
    python benchmarks/samples.py cost      # processor time of a tick of training, by K

Each prints a table in Markdown. Errors are the largest of a state's value, as shares of the spread of the exact ones.
"""

from __future__ import annotations

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from drigm.algorithms.samples import worst_of
from drigm.algorithms.uncertainty import SETS
from drigm.training.programs import make_train
from drigm.training.settings import resolve, settle
from drigm.verification.exact import TabularProblem, random_problem, robust_values
from drigm.verification.learned_vs_exact import LEARN, learned_agreement

PROBLEM = random_problem(np.random.default_rng(1), states=8, actions=(3,), fail_value=-10.0)
RADII = {"tv": 0.3, "kl": 0.3, "chi2": 0.3}
COUNTS = (1, 2, 4, 8, 16, 32)
DRAWS, SWEEPS = 500, 50
RATIO = {8: 2.26, 16: 3.39}  # processor time of a tick as a multiple of the dual network's, by `cost`


def sampled_fixed_point(problem: TabularProblem, uncertainty: str, rho: float, count: int) -> np.ndarray:
    """Return the fixed point [S] of the expected sampled operator, over `DRAWS` draws of ``count`` next states."""
    states, joint = problem.rewards.shape
    uniform = np.random.default_rng(0).random((states, joint, DRAWS, count))
    drawn = jnp.asarray((uniform[..., None] > problem.transitions.cumsum(-1)[:, :, None, None, :-1]).sum(-1))
    reward, gamma = jnp.asarray(problem.rewards, jnp.float32), jnp.float32(problem.gamma)
    failed = reward + gamma * jnp.float32(problem.fail_value or 0.0)

    @jax.jit
    def sweep(values: jax.Array) -> jax.Array:
        y = reward[..., None, None] + gamma * values[drawn]
        shape = (states, joint, DRAWS)
        worst = worst_of(SETS[uncertainty], y, jnp.float32(rho), jnp.broadcast_to(failed[..., None], shape))
        return jnp.max(jnp.mean(worst, axis=-1), axis=-1)

    values = jnp.zeros(states, jnp.float32)
    for _ in range(SWEEPS):
        values = sweep(values)
    return np.asarray(values)


def bias() -> None:
    """Print how far the sampled fixed point is from the exact one, with its sign."""
    print("| set | " + " | ".join(f"K = {k}" for k in COUNTS) + " |\n|---|" + "---:|" * len(COUNTS))
    for uncertainty, rho in RADII.items():
        exact = robust_values(PROBLEM, uncertainty, rho).max(axis=1)
        cells = []
        for count in COUNTS:
            off = sampled_fixed_point(PROBLEM, uncertainty, rho, count) - exact
            cells.append(f"{100 * off[np.abs(off).argmax()] / np.ptp(exact):+.1f} %")
        print(f"| {uncertainty} {rho:g} | " + " | ".join(cells) + " |", flush=True)


def learned(seeds: int, steps: int) -> None:
    """Print the errors of trained teams; those of the dual network have the most steps."""
    print(f"| set | dual network, {steps:,} steps | " + " | ".join(f"K = {k}, equal time" for k in RATIO) + " |")
    print("|---|---:|" + "---:|" * len(RATIO))
    for uncertainty, rho in RADII.items():
        cells = []
        for count, ratio in {0: 1.0, **RATIO}.items():
            config = LEARN.replace(samples=count, steps=int(steps / ratio))
            found = [
                learned_agreement(PROBLEM, "vdn", uncertainty, rho, config=config.replace(first_seed=seed))
                for seed in range(seeds)
            ]
            errors = 100 * np.array([one.error for one in found])
            policy = min(one.policy for one in found)
            cells.append(f"{errors.mean():.1f} ({errors.max():.1f}) %" + ("" if policy == 1.0 else ", wrong policy"))
        print(f"| {uncertainty} {rho:g} | " + " | ".join(cells) + " |", flush=True)


def cost(env: str) -> None:
    """Print the processor time of a tick of training (acting, storing and one update)."""
    print("| environment | K | milliseconds | times the dual network's |\n|---|---:|---:|---:|")
    usual = 0.0
    for count in (0, 4, 8, 16):
        settings = {"env": env, "factorization": "vdn", "uncertainty": "kl", "rho": 0.1, "shards": 1, "steps": 32_000}
        config, made = resolve(settle({**settings, "samples": count}))
        programs = make_train(config, made, runs=1)
        state = programs.init(jnp.zeros(1, jnp.int32), jnp.full(1, config.rho, jnp.float32))
        state, _ = jax.block_until_ready(programs.chunk(state, jnp.int32(0), jnp.int32(config.first_update + 10)))
        began, ticks = time.process_time(), 400
        jax.block_until_ready(programs.chunk(state, jnp.int32(config.first_update + 10), jnp.int32(ticks)))
        took = 1e3 * (time.process_time() - began) / ticks
        usual = usual or took
        print(f"| {env} | {count} | {took:.2f} | {took / usual:.2f} |", flush=True)


def main() -> None:
    """Run the part that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("bias", "learned", "cost"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=64_000)
    parser.add_argument("--env", default="supply:newsvendor")
    given = parser.parse_args()
    if given.part == "bias":
        bias()
    elif given.part == "learned":
        learned(given.seeds, given.steps)
    else:
        cost(given.env)


if __name__ == "__main__":
    main()
