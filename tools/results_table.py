"""Train every method of a results table, score it in shifted worlds, compare, and write results/.

    make results                                     # the buildings: about an hour and a half on 2 cores
    make results RESULTS_ARGS="--table gamble"       # a gamble whose odds get worse: a few minutes
    make results RESULTS_ARGS="--table ablations"
    make results RESULTS_ARGS="--table starcraft"    # SMAX 3s_vs_5z; needs the extra smax
    make results RESULTS_ARGS="--table gamble --from-scores"  # nothing is trained: from results/gamble/scores.csv
    make results RESULTS_ARGS="--only qtran --runs runs/mine --out runs/mine/table"

Runs live in runs/results/, in blocks of a few seeds, and are never trained twice: stop it whenever you like, start it
again, and it goes on. Every team has the same budget, optimiser, schedule and seeds (GroupDR's estimators have data of
their own on top); see tools/results_methods.py.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import noise_figures
import numpy as np
from comparisons import Scores, compare, read_scores, write_comparisons
from matplotlib.figure import Figure
from results_methods import TABLES, Spec

from drigm.core.config import TrainConfig
from drigm.core.errors import UserError, check
from drigm.envs.building import dataset
from drigm.evaluation.evaluate import evaluate, shift_score
from drigm.evaluation.published import CONTROLLERS, authors_score, controller_score
from drigm.report.figures.charts import shift_bars
from drigm.report.figures.style import color, drawing, save
from drigm.report.tables import Score, format_table, markdown_table
from drigm.runtime.devices import cache_compilations, use_cores
from drigm.storage.run_directory import RunDirectory
from drigm.training.runs import Run, load_run, resume_run, train_run
from drigm.training.settings import settle


def main() -> int:
    """Run the table; exits with 2 on bad input."""
    options = _options()
    spec = TABLES[options.table]
    base = settle(spec.settings)
    base = base.replace(steps=options.steps or base.steps)
    whole = not options.only and options.seeds is None and options.steps is None
    check(whole or options.out is not None, "out", None, "give a directory: only the whole table goes to results/")
    out = options.out or Path("results") / options.table
    if options.from_scores:
        _write(out, base, spec, read_scores(out / "scores.csv"))
        return 0
    use_cores(TrainConfig().shards)
    cache_compilations()
    chosen = {name: value for name, value in spec.methods.items() if options.only.lower() in name.lower()}
    scores: Scores = {}
    began = time.monotonic()
    for number, (name, (settings, seeds)) in enumerate(chosen.items(), 1):
        print(f"[{number}/{len(chosen)}] {name}", flush=True)
        folder = options.runs / options.table / _slug(name)
        scores[name] = _scores(base.replace(**settings), options.seeds or seeds, folder, spec)
        if spec.timed:
            print(f"  trained in {_seconds(folder):.0f} s, compilation included", flush=True)
        _write(out, base, spec, scores)
        print(f"  {time.monotonic() - began:.0f} s so far", flush=True)
    print(format_table(_rows(spec, scores)))
    print(f"written to {out}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", choices=TABLES, default="building")
    parser.add_argument("--seeds", type=int, help="of every method (default: what tools/results_methods.py says)")
    parser.add_argument("--steps", type=int, help="per seed (default: the paper's budget)")
    parser.add_argument("--only", default="", help="only the methods whose name contains this")
    parser.add_argument("--runs", type=Path, default=Path("runs/results"))
    parser.add_argument("--out", type=Path, help="default: results/TABLE")
    parser.add_argument(
        "--from-scores", action="store_true", help="train nothing: write everything anew from the scores.csv in OUT"
    )
    return parser.parse_args()


def _scores(config: TrainConfig, seeds: int, folder: Path, spec: Spec) -> dict[str, list[float]]:
    """Train and evaluate the blocks of one method; the scores of every world over all seeds."""
    found: dict[str, list[float]] = {}
    for first in range(0, seeds, spec.block):
        block = config.replace(first_seed=first, seeds=min(spec.block, seeds - first))
        for score in evaluate(_trained(block, folder / f"seeds-{first}"), spec.suite).scores:
            found.setdefault(score.name, []).extend(score.per_seed)
    return found


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


def _seconds(folder: Path) -> float:
    """How long the runs in ``folder`` trained, from the rates in their metrics."""
    total = 0.0
    for path in sorted(folder.glob("seeds-*")):
        run = load_run(path)
        rows = run.directory.read_metrics(run.seeds[0])
        steps = np.diff([row["step"] for row in rows], prepend=0.0)
        total += float(sum(steps / [row["steps_per_s"] for row in rows])) * len(run.seeds)
    return total


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c == "." else "-" for c in name.lower()).replace("--", "-").strip("-")


def _score(world: str, per_seed: list[float]) -> Score:
    score = shift_score(world, np.array(per_seed))
    return Score(score.mean, score.se) if len(per_seed) > 1 else Score(score.mean)


def _rows(spec: Spec, scores: Scores) -> list[dict[str, Any]]:
    """One row per method; in buildings then the authors' networks and the two reference controllers."""
    rows: list[dict[str, Any]] = [
        {"method": name, "seeds": len(next(iter(worlds.values()))), **{w: _score(w, s) for w, s in worlds.items()}}
        for name, worlds in scores.items()
    ]
    if spec.suite != "climate":
        return rows
    for factorization, method in itertools.product(("vdn", "qmix", "qtran"), ("nominal", "tv", "contamination")):
        found = {city: authors_score(city, factorization, method) for city in dataset.PROTOCOL_CITIES}
        cells = {city: Score(score.mean, score.se) for city, score in found.items() if score is not None}
        if cells:
            rows.append({"method": f"authors' {factorization} {method}", "seeds": 5, **cells})
    for controller in CONTROLLERS:
        cities = {city: Score(controller_score(city, controller)) for city in dataset.PROTOCOL_CITIES}
        rows.append({"method": controller, **cities})
    return rows


def _write(out: Path, base: TrainConfig, spec: Spec, scores: Scores) -> None:
    """Write the table as CSV (every seed) and Markdown, the comparisons, and a bar chart."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "scores.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "world", "seed", "score"])
        for name, worlds in scores.items():
            for world, per_seed in worlds.items():
                writer.writerows([name, world, seed, f"{score:.5f}"] for seed, score in enumerate(per_seed))
    budget = f"{base.steps:,} environment steps in {base.env}; mean ± standard error over seeds."
    rows = _rows(spec, scores)
    (out / "table.md").write_text(f"{budget}\n\n{markdown_table(rows)}\n")
    found = [compare(scores, *pair) for pair in spec.comparisons if all(name in scores for name in pair)]
    if found:
        write_comparisons(found, out)
    if spec.suite == "noise":
        noise_figures.draw(scores, out)
        return
    cells = {row["method"]: {w: s for w, s in row.items() if isinstance(s, Score)} for row in rows}
    shown = {name: cells[name] for name in spec.pictured if name in cells}
    if shown:
        save(shift_bars(shown) if spec.suite == "climate" else _curves(shown), out / "scores.png")


def _curves(scores: dict[str, dict[str, Score]]) -> Figure:
    """Draw the scores over the worlds of a suite; methods with the same scores share a line."""
    groups: dict[tuple[float, ...], list[str]] = {}
    for name, worlds in scores.items():
        groups.setdefault(tuple(round(score.mean, 3) for score in worlds.values()), []).append(name)
    with drawing(7.0, 3.4) as figure:
        ax = figure.subplots()
        for index, (means, names) in enumerate(groups.items()):
            ax.plot(range(len(means)), means, "o-", color=color(index), label=", ".join(names))
        ax.set_xticks(range(len(next(iter(groups)))), list(next(iter(scores.values()))))
        ax.set(ylabel="Score")
        ax.legend()
        return figure


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"results_table: {error}", file=sys.stderr)
        sys.exit(2)
