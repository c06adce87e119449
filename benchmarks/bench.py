"""Measure how fast drigm trains, what that costs, and how both grow.

    make bench                                            # about a quarter of an hour on two quiet cores
    make bench BENCH_ARGS="--parts throughput split"      # some parts; the others keep what was measured before
    make bench BENCH_ARGS=--quick                         # every part once through in little; writes nothing
    make bench BENCH_ARGS="--parts gpu"                   # the paper's main table on a GPU; no default part
    make bench BENCH_ARGS="--parts peers"                 # other people's libraries, in their own environments: hours
    make bench BENCH_ARGS="--parts peers --measured benchmarks/peers.json"  # what `make peers` has measured

Writes benchmarks/results.json, and benchmarks/RESULTS.md and growth.svg from it. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks.measure import CONFIG, ROOT, Table, machine, say
from drigm.report.tables import format_table, markdown_table
from drigm.runtime.devices import use_cores

FOLDER = ROOT / "benchmarks"
RESULTS, PAGE, FIGURE = FOLDER / "results.json", FOLDER / "RESULTS.md", FOLDER / "growth.svg"


class Part(NamedTuple):
    """One measurement: a module with ``measure(quick) -> result`` and ``tables(result) -> [Table]``."""

    module: str
    about: str
    default: bool = True


PARTS = {
    "throughput": Part("benchmarks.throughput", "training and acting against the machine's peak"),
    "split": Part("benchmarks.split", "environment, acting, replay, update, host"),
    "compile": Part("benchmarks.compile_time", "tracing and compiling, cold and cached"),
    "memory": Part("benchmarks.memory", "memory, and what a seed costs"),
    "growth": Part("benchmarks.growth", "growth with agents, actions and windows"),
    "seeds": Part("benchmarks.seeds", "several seeds: together, vmapped, one by one"),
    "peers": Part("benchmarks.peers", "other libraries, same task and work", default=False),
    "gpu": Part("benchmarks.gpu", "the paper's main table and battles, on a GPU if there is one", default=False),
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    use_cores(CONFIG.shards)
    jax.config.update("jax_enable_compilation_cache", False)
    results = {} if options.quick else _earlier(options.out)
    for name in options.parts:
        began = time.perf_counter()
        say(f"{name}: {PARTS[name].about}")
        if name == "peers" and options.measured:
            found = json.loads(options.measured.read_text())
            facts, seconds = found["machine"], sum(run["wall_seconds"] for run in found["runs"])
        else:
            found, facts = run_part(name, options.quick), machine()
            seconds = time.perf_counter() - began
        results[name] = {"machine": facts, "seconds": seconds, "result": found}
        say(f"{name} took {seconds:.0f} s")
        print("\n" + as_text(tables_of(name, found)), flush=True)
        if not options.quick:  # after every part: what was measured is kept, whatever comes
            options.out.write_text(json.dumps(results, indent=2) + "\n")
    if not options.quick:
        write_page(results, options.out.with_name(PAGE.name))
        say(f"written to {options.out} and {PAGE.name} beside it")


def run_part(name: str, quick: bool) -> Any:
    """Return what part ``name`` measures, ready for JSON; its module is imported only now."""
    module = importlib.import_module(PARTS[name].module)
    return module.bench_peers() if name == "peers" else module.measure(quick)


def tables_of(name: str, result: Any) -> list[Table | str]:
    """Return the tables of a part's ``result``; text is shown as it is."""
    module = importlib.import_module(PARTS[name].module)
    return [module.table(result)] if name == "peers" else module.tables(result)


def as_text(tables: Sequence[Table | str]) -> str:
    """Return ``tables`` for a terminal."""
    return "\n\n".join(t if isinstance(t, str) else _with_note(format_table(t.rows, title=t.title), t) for t in tables)


def as_markdown(results: Mapping[str, Any]) -> str:
    """Return the page of all ``results``, which needs nothing but them."""
    lines = ["# What `make bench` measured", "", "Written by `make bench`; the numbers are in results.json.", ""]
    for name, part in results.items():
        facts = part["machine"]
        lines += [f"## {name}: {PARTS[name].about}", ""]
        for table in tables_of(name, part["result"]):
            if isinstance(table, str):
                lines += ["```", table, "```", ""]
            else:
                lines += [f"**{table.title}**", "", _with_note(markdown_table(table.rows), table, "\n\n"), ""]
        if name == "growth":
            lines += [f"![A tick against agents]({FIGURE.name})", ""]
        versions = ", ".join(f"{package} {facts['versions'][package]}" for package in ("drigm", "jax", "jaxlib"))
        processor = facts.get("processor", "processor not recorded")
        where = f"{facts['cores']} cores ({processor}), {versions}, {facts['started'][:10]}"
        lines += [f"<sub>{where}; {part['seconds'] / 60:.1f} minutes</sub>", ""]
    return "\n".join(lines)


def write_page(results: Mapping[str, Any], path: Path) -> None:
    """Write the page of ``results`` to ``path`` and its figure beside it."""
    path.write_text(as_markdown(results))
    if "growth" in results:
        importlib.import_module(PARTS["growth"].module).plot(results["growth"]["result"], path.with_name(FIGURE.name))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.bench", description=(__doc__ or "").partition("\n")[0])
    usual = [name for name, part in PARTS.items() if part.default]
    told = f"of {', '.join(PARTS)}; default: {', '.join(usual)}"
    parser.add_argument("--parts", nargs="+", default=usual, choices=list(PARTS), metavar="PART", help=told)
    parser.add_argument("--measured", type=Path, metavar="FILE", help="part peers: what `make peers` wrote to FILE")
    parser.add_argument("--quick", action="store_true", help="fewer points, short turns; writes nothing")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file (default: benchmarks/results.json)")
    options = parser.parse_args(arguments)
    if options.measured and "peers" not in options.parts:
        parser.error("--measured: only with part peers")
    return options


def _earlier(path: Path) -> dict[str, Any]:
    """What was measured before, part by part."""
    found = json.loads(path.read_text()) if path.exists() else {}
    return {name: found[name] for name in PARTS if name in found}


def _with_note(text: str, table: Table, gap: str = "\n") -> str:
    return f"{text}{gap}{table.note}" if table.note else text


if __name__ == "__main__":
    main()
