"""Train every method of the building table, score it in six cities, and write results/.

    make results                       # about three quarters of an hour on 2 cores
    make results RESULTS_ARGS="--table ablations"
    make results RESULTS_ARGS="--only qmix --seeds 10 --runs runs/ten --out runs/ten"

Runs live in runs/results/ and are never trained twice: stop it whenever you like, start it again, and it goes on.
Every method has the same budget, optimiser, schedule and seeds; "gamma (1 - rho)" rows are the plain discounts that a
robust target must be compared with, see docs/differences.md.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
import time
from pathlib import Path
from typing import Any

from drigm.config import TrainConfig
from drigm.devices import cache_compilations, use_cores
from drigm.envs import building_data
from drigm.errors import UserError, check
from drigm.evaluate import Evaluation, evaluate
from drigm.references import CONTROLLERS, authors_score, controller_score
from drigm.report.figures import shift_bars
from drigm.report.style import save
from drigm.report.tables import Score, format_table, markdown_table
from drigm.run_directory import RunDirectory
from drigm.train import Run, load_run, resume_run, train_run

GAMMA = 0.997
PAPER_BUDGET = 172_800
METHODS: dict[str, dict[str, Any]] = {
    "VDN": {"factorization": "vdn"},
    "QMIX": {"factorization": "qmix"},
    "VDN-TV 0.5": {"factorization": "vdn", "uncertainty": "tv", "rho": 0.5},
    "QMIX-TV 0.2": {"factorization": "qmix", "uncertainty": "tv", "rho": 0.2},
    "VDN, gamma 0": {"factorization": "vdn", "gamma": 0.0},
    "VDN, gamma (1 - 0.5)": {"factorization": "vdn", "gamma": GAMMA * 0.5},
    "QMIX, gamma (1 - 0.2)": {"factorization": "qmix", "gamma": GAMMA * 0.8},
    "VDN-TV 0.2": {"factorization": "vdn", "uncertainty": "tv", "rho": 0.2},
}
# What each choice of ours is worth: QMIX-TV 0.2 with one thing taken back.
BASE = {"factorization": "qmix", "uncertainty": "tv", "rho": 0.2}
ABLATIONS: dict[str, dict[str, Any]] = {
    "as it is": BASE,
    "linear head (one output per level)": {**BASE, "head": "linear"},
    "one kink": {**BASE, "bowls": 1},
    "uniform exploration": {**BASE, "local_exploration": 0.0},
    "windows of 12, burn-in 4, every 3rd tick": {**BASE, "window": 12, "burn_in": 4, "update_every": 3},
    "replay of the whole run": {**BASE, "replay_size": 172_800},
    "step size 1e-3": {**BASE, "learning_rate": 1e-3},
    "last weights, not their average": {**BASE, "average_decay": 0.0},
    "double Q": {**BASE, "double_q": True},
}
PICTURED = ("VDN-TV 0.5", "VDN, gamma 0", "QMIX", "QMIX-TV 0.2", "authors' qmix nominal", "authors' qmix tv")
TABLES = {"building": (METHODS, 5), "ablations": (ABLATIONS, 2)}


def main() -> int:
    """Run the table; exits with 2 on bad input."""
    options = _options()
    methods, seeds = TABLES[options.table]
    base = TrainConfig(seeds=options.seeds or seeds, steps=options.steps)
    use_cores(base.shards)
    cache_compilations()
    whole = not options.only and options.seeds is None and options.steps == PAPER_BUDGET
    check(whole or options.out is not None, "out", None, "give a directory: only the whole table goes to results/")
    out = options.out or Path("results") / options.table
    chosen = {name: settings for name, settings in methods.items() if options.only.lower() in name.lower()}
    results, began = {}, time.monotonic()
    for number, (name, settings) in enumerate(chosen.items(), 1):
        print(f"[{number}/{len(chosen)}] {name}", flush=True)
        run = _trained(base.replace(**settings), options.runs / options.table / _slug(name))
        results[name] = evaluate(run, "climate")
        _write(out, base, results)
        print(results[name], f"\n  {time.monotonic() - began:.0f} s so far", flush=True)
    print(format_table(_rows(results)))
    print(f"written to {out}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", choices=TABLES, default="building")
    parser.add_argument("--seeds", type=int, help="default: 5, for ablations 2")
    parser.add_argument("--steps", type=int, default=PAPER_BUDGET)
    parser.add_argument("--only", default="", help="only the methods whose name contains this")
    parser.add_argument("--runs", type=Path, default=Path("runs/results"))
    parser.add_argument("--out", type=Path, help="default: results/TABLE")
    return parser.parse_args()


def _trained(config: TrainConfig, path: Path) -> Run:
    """Return the finished run at ``path``, training or resuming it first if need be."""
    directory = RunDirectory(path)
    if directory.config_file.exists():
        if load_run(path).config != config:
            raise UserError(
                f"runs: {str(path)!r} was trained with other settings; move it away or give another --runs."
            )
        return resume_run(path)
    return train_run(config, path)


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c == "." else "-" for c in name.lower()).replace("--", "-").strip("-")


def _rows(results: dict[str, Evaluation]) -> list[dict[str, Any]]:
    """One row per method, then the authors' networks and the two reference controllers."""
    rows: list[dict[str, Any]] = [
        {"method": name, **{s.name: Score(s.mean, s.se) for s in result.scores}} for name, result in results.items()
    ]
    for factorization, method in itertools.product(("vdn", "qmix"), ("nominal", "tv", "contamination")):
        found = {city: authors_score(city, factorization, method) for city in building_data.PROTOCOL_CITIES}
        scores = {city: Score(score.mean, score.se) for city, score in found.items() if score is not None}
        rows.append({"method": f"authors' {factorization} {method}", **scores})
    for controller in CONTROLLERS:
        cities = {city: Score(controller_score(city, controller)) for city in building_data.PROTOCOL_CITIES}
        rows.append({"method": controller, **cities})
    return rows


def _write(out: Path, base: TrainConfig, results: dict[str, Evaluation]) -> None:
    """Write the table as CSV (every seed) and markdown, and as a bar chart."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "scores.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "city", "mean", "se", *(f"seed_{k}" for k in range(base.seeds))])
        for name, result in results.items():
            for score in result.scores:
                numbers = (score.mean, score.se, *score.per_seed)
                writer.writerow([name, score.name, *(f"{x:.5f}" for x in numbers)])
    budget = f"{base.steps:,} environment steps in Tucson, {base.seeds} seeds, 50 protocol days; mean ± standard error."
    (out / "table.md").write_text(f"{budget}\n\n{markdown_table(_rows(results))}\n")
    rows = {row["method"]: {city: score for city, score in row.items() if city != "method"} for row in _rows(results)}
    shown = {name: rows[name] for name in PICTURED if name in rows}
    if shown:
        save(shift_bars(shown), out / "scores.png")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"results_table: {error}", file=sys.stderr)
        sys.exit(2)
