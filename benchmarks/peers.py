"""drigm beside two libraries of its field, at equal work on one task: seconds, processor time, greedy return.

    make peers                                  # everything, hours on two cores: both algorithms, 5 seeds
    make peers PEERS_ARGS="--seeds 1 --algorithms qmix"
    make peers PEERS_ARGS=--quick               # a twentieth of the frames: does everything run?

The task is PettingZoo's simple_spread: three agents, 25 steps, the team's reward alone (``local_ratio`` 0). Every
library does `Work`: 50,000 frames in rounds of ten episodes, after each ten updates on 32 sequences of 25 steps, the
same widths, step size, discount, exploration and target period; then 1,000 greedy episodes. Each run is a process of
its own, in the library's own virtual environment (``.venv-benchmarl``, ``.venv-xuance``, made once; pip takes a CPU
build of torch where its settings offer one), timed from its start to its last update, with everything that it has to
import and compile. drigm runs over PettingZoo, stepping the very environment that BenchMARL has; on its JAX twin; and
on the twin with four seeds in one program, as its users train them, of whose time each seed counts a quarter.

What cannot be matched, and is therefore said:

- The network. The peers have a GRU (or, with ``--cell lstm``, an LSTM) and a hidden layer of 64 after it; drigm has an
  LSTM, without its usual layer before it, and a linear head: 1.1 times the multiplications of the peers with a GRU,
  0.9 times those with an LSTM. drigm and XuanCe tell an agent its number, drigm its previous action too; BenchMARL
  neither.
- The sequences. The peers draw whole episodes; drigm draws windows that begin anywhere, in which an episode's end
  hides one transition in 26 from the loss.
- The step size: drigm takes 1e-3, twice the peers'; at theirs it has not finished learning (-46 to -65, NOTES.md).
- The optimisers' small constants and the networks' initialisations are each library's own.
- drigm's first run of each kind compiles; later ones find its programs in the cache on disk. Both are in the table.
- Four seeds in one program keep both cores busy; a peer's process has one core for most of its time, and two could run
  side by side. Processor seconds compare the work itself.
- Over PettingZoo, drigm acts with agents that are one round older than the peers'.
- Every library evaluates on episodes of its own; drigm's seeds share theirs. 1,000 of them leave a standard error of
  0.35 in a return, which the intervals over seeds do not have; 100 left 1.1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.measure import machine
from drigm.evaluation import statistics
from drigm.report.tables import format_table

HERE = Path(__file__).parent
RESULTS = HERE / "peers.json"
VENVS = Path(os.environ.get("DRIGM_PEER_VENVS", HERE.parent))
ALGORITHMS = ("qmix", "vdn")
QUICK_SHARE = 20


@dataclass(frozen=True)
class Work:
    """What every library does in one run; travels to its driver as JSON."""

    algorithm: str = "qmix"
    seed: int = 0
    frames: int = 50_000  # steps of one environment
    episode: int = 25
    envs: int = 10
    updates_per_round: int = 10  # after one episode of every environment
    batch: int = 32  # sequences of an episode's length
    cell: str = "gru"  # of the peers
    hidden: int = 64
    head: int = 64
    mixer_embed: int = 32
    learning_rate: float = 5e-4
    gamma: float = 0.9
    epsilon: tuple[float, float] = (1.0, 0.05)  # over the first half
    target_period: int = 50
    replay_episodes: int = 5000
    eval_episodes: int = 1000  # of one, the return has a standard deviation of 11
    threads: int = 1  # of the peers' torch
    drigm: dict[str, Any] = field(default_factory=dict)  # settings of drigm's alone, such as shards


class Library(NamedTuple):
    """One row of the table: a driver, the Python that runs it, and what it is told besides `Work`."""

    name: str
    driver: str
    venv: str = ""  # the folder of its virtual environment; drigm runs in this one
    package: str = ""
    where: str = ""  # of drigm: see its driver
    settings: dict[str, Any] = {}  # noqa: RUF012 (never changed): of drigm


# Twice the peers' step size: at theirs drigm has not finished learning after 2,000 updates.
OWN_RATE = {"learning_rate": 1e-3, "learning_rate_end": 1e-3}
LIBRARIES = {
    # The environments need a core of two, as one worker: learning, which runs beside them, has the other.
    "pettingzoo": Library(
        "drigm, PettingZoo",
        "drigm_spread.py",
        where="pettingzoo",
        settings={"shards": 1, "env_workers": 1, **OWN_RATE},
    ),
    "twin": Library("drigm, JAX twin", "drigm_spread.py", where="twin", settings={"shards": 2, **OWN_RATE}),
    "together": Library(
        "drigm, JAX twin, 4 seeds in one program",
        "drigm_spread.py",
        where="twin",
        settings={"shards": 1, "seeds": 4, **OWN_RATE},
    ),
    "benchmarl": Library("BenchMARL 1.5.2", "benchmarl_spread.py", ".venv-benchmarl", "benchmarl==1.5.2"),
    "xuance": Library("XuanCe 1.4.4", "xuance_spread.py", ".venv-xuance", "xuance==1.4.4"),
}
OWN = ("pettingzoo", "twin", "together")


class Measured(NamedTuple):
    """One finished process."""

    said: dict[str, Any]
    wall: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--algorithms", nargs="+", choices=ALGORITHMS, default=ALGORITHMS)
    parser.add_argument("--libraries", nargs="+", choices=tuple(LIBRARIES), default=tuple(LIBRARIES))
    parser.add_argument("--frames", type=int, default=Work.frames)
    parser.add_argument("--eval-episodes", type=int, default=Work.eval_episodes)
    parser.add_argument("--cell", choices=("gru", "lstm"), default=Work.cell, help="the peers' recurrent cell")
    parser.add_argument("--threads", type=int, default=Work.threads, help="threads of the peers' torch")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of drigm's, as in shards=1"
    )
    parser.add_argument("--quick", action="store_true", help=f"1/{QUICK_SHARE} of the frames, one seed, no file")
    parser.add_argument("--venvs", type=Path, default=VENVS, help="where the virtual environments are (or will be)")
    parser.add_argument("--install-only", action="store_true", help="make the virtual environments and stop")
    parser.add_argument("--out", type=Path, help="JSON file (default: benchmarks/peers.json; none with --quick)")
    parser.add_argument("--show", type=Path, metavar="FILE", help="print the table of such a file; nothing is measured")
    options = parser.parse_args()
    if options.show:
        print(table(json.loads(options.show.read_text())))
        return
    needed = {*options.libraries, *(["benchmarl"] if "pettingzoo" in options.libraries else [])}  # whose tasks it plays
    for name in sorted(needed):
        install(LIBRARIES[name], options.venvs)
    if options.install_only:
        return
    own = {name: json.loads(value) for name, _, value in (word.partition("=") for word in options.set)}
    work = Work(
        frames=options.frames // (QUICK_SHARE if options.quick else 1),
        eval_episodes=options.eval_episodes,
        cell=options.cell,
        threads=options.threads,
        drigm=own,
    )
    seeds = 1 if options.quick else options.seeds
    out = options.out or (None if options.quick else RESULTS)
    result = bench_peers(work, seeds, options.algorithms, options.libraries, venvs=options.venvs, keep=_writer(out))
    print(table(result))
    if out:
        print(f"written to {out}")


def bench_peers(
    work: Work | None = None,
    seeds: int = 5,
    algorithms: Sequence[str] = ALGORITHMS,
    libraries: Sequence[str] = tuple(LIBRARIES),
    *,
    venvs: Path = VENVS,
    keep: Callable[[dict[str, Any]], None] = lambda result: None,
) -> dict[str, Any]:
    """Run every library on every seed, in turn, and return all that was measured, ready for JSON.

    Args:
        work: what is done; its algorithm and seed are filled in.
        seeds: runs of each library and algorithm.
        algorithms: of `ALGORITHMS`.
        libraries: of `LIBRARIES`.
        venvs: the folder that holds the peers' virtual environments.
        keep: called with the result so far after each run, so that a stop loses one run.
    """
    work = work or Work()
    result: dict[str, Any] = {
        "machine": machine(),
        "work": dataclasses.asdict(work),
        "runs": [],
    }
    plan = [(a, seed, name) for a in algorithms for seed in range(seeds) for name in libraries]
    with tempfile.TemporaryDirectory() as folder:
        for number, (algorithm, seed, name) in enumerate(plan, 1):
            library = LIBRARIES[name]
            install(library, venvs)
            _say(f"{number}/{len(plan)} {library.name} {algorithm} seed {seed} ...")
            todo = dataclasses.replace(work, algorithm=algorithm, seed=seed)
            done = run_one(library, todo, venvs, Path(folder) / f"cache-{name}-{algorithm}")
            result["runs"].append(_record(name, todo, done))
            last = result["runs"][-1]
            spent = f"{last['seconds']:.1f} s, {last['processor_seconds']:.1f} s of processor"
            _say(f"    {spent}, return {last['return']:.2f}")
            keep(result)
    return result


def run_one(library: Library, work: Work, venvs: Path, cache: Path) -> Measured:
    """Run one library's driver in a process of its own; ``cache`` keeps what JAX compiles."""
    python = _python(venvs / library.venv) if library.venv else Path(sys.executable)
    told = {
        **dataclasses.asdict(work),
        "drigm": {**library.settings, **work.drigm},
        "where": library.where,
        "module": "pettingzoo.mpe.simple_spread_v3",
        "env_python": str(_python(venvs / LIBRARIES["benchmarl"].venv)),
    }
    env = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
        "SDL_VIDEODRIVER": "dummy",
        "PYGAME_HIDE_SUPPORT_PROMPT": "1",
        "WANDB_MODE": "disabled",
    }
    if library.venv:
        env["OMP_NUM_THREADS"] = str(work.threads)
        env.pop("PYTHONPATH", None)
    command = [str(python), str(HERE.resolve() / "drivers" / library.driver)]
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "errors", "w+b") as errors:
        began = time.time()
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=folder, env=env
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({**told, "began": began}).encode())
        process.stdin.close()
        said = process.stdout.read().decode()
        process.wait()
        wall = time.time() - began
        errors.seek(0)
        if process.returncode:
            raise SystemExit(f"{library.name} failed:\n{errors.read().decode(errors='replace')[-4000:]}")
    last = json.loads(said.strip().splitlines()[-1])
    return Measured(last, wall)


def _record(name: str, work: Work, done: Measured) -> dict[str, Any]:
    said = dict(done.said)
    seeds, returns = said.get("seeds", 1), said.pop("returns")  # of all seeds in one process
    return {
        "library": name,
        "algorithm": work.algorithm,
        "seed": work.seed,
        # From the process's start to its last update, a seed's share.
        "seconds": (said["start_seconds"] + said["train_seconds"]) / seeds,
        "wall_seconds": done.wall,
        "processor_seconds": said["used_seconds"] / seeds,
        "return": float(np.mean(returns)),
        "return_deviation": float(np.std(returns)),
        "load": os.getloadavg(),
        **said,
    }


def install(library: Library, venvs: Path) -> None:
    """Make the virtual environment of ``library`` unless it is there."""
    if not library.venv:
        return
    folder = venvs / library.venv
    name = library.package.partition("==")[0]
    ready = folder / f".{name}-installed"
    if ready.exists() and ready.read_text().strip() in ("", library.package):
        return
    _say(f"installing {library.package} into {folder} (torch: some hundred MB, once)")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(_python(folder)), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(HERE / "drivers" / f"{name}.txt")], check=True, stdout=sys.stderr)
    # Without its own list of dependencies: see the comment in the file of those that it needs.
    subprocess.run([*pip, "--no-deps", library.package], check=True, stdout=sys.stderr)
    ready.write_text(library.package + "\n")


def table(result: dict[str, Any]) -> str:
    """Return the result as a table: seconds, how many times as long as drigm's, and greedy returns with intervals."""
    rows = []
    for algorithm in dict.fromkeys(run["algorithm"] for run in result["runs"]):
        found = {name: _runs(result, algorithm, name) for name in LIBRARIES}
        found = {name: runs for name, runs in found.items() if runs}
        own = {name: _seconds(found[name]) for name in OWN if name in found}
        for name, runs in found.items():
            mine = found.get("pettingzoo") or found.get("twin") or runs
            rows.append(
                {
                    "library": LIBRARIES[name].name,
                    "algorithm": algorithm,
                    "seeds": len(_returns(runs)),
                    "first s": f"{runs[0]['seconds']:.1f}",
                    "s": f"{_seconds(runs):.1f}",
                    "start s": f"{np.mean([r['start_seconds'] for r in _later(runs)]):.1f}",
                    "processor s": f"{np.mean([r['processor_seconds'] for r in _later(runs)]):.1f}",
                    "x drigm": f"{_seconds(runs) / own['pettingzoo']:.1f}" if "pettingzoo" in own else "-",
                    "x twin": f"{_seconds(runs) / own['twin']:.1f}" if "twin" in own else "-",
                    "x 4 seeds": f"{_seconds(runs) / own['together']:.1f}" if "together" in own else "-",
                    "updates": runs[0]["updates"],
                    "return": _interval(statistics.interval(_returns(runs)[:, None], statistics.mean)),
                    "less drigm's": _interval(statistics.difference(_returns(runs), _returns(mine))),
                    "MB": f"{np.mean([r['memory_mb'] for r in runs]):.0f}",
                }
            )
    work = result["work"]
    title = f"simple_spread, {work['frames']} frames; seconds to the last update (first: nothing compiled before)"
    return format_table(rows, title=title)


def _runs(result: dict[str, Any], algorithm: str, name: str) -> list[dict[str, Any]]:
    return [run for run in result["runs"] if (run["library"], run["algorithm"]) == (name, algorithm)]


def _later(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All runs but the first, which compiles; the first where there is no other."""
    return runs[1:] or runs


def _seconds(runs: list[dict[str, Any]]) -> float:
    return float(np.mean([run["seconds"] for run in _later(runs)]))


def _returns(runs: list[dict[str, Any]]) -> np.ndarray:
    """Each seed's mean over greedy episodes, [K]."""
    return np.array([mean for run in runs for mean in run.get("seed_returns", [run["return"]])])


def _interval(interval: statistics.Interval) -> str:
    if math.isnan(interval.low):
        return f"{interval.estimate:.2f}"
    return f"{interval.estimate:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _python(folder: Path) -> Path:
    return folder.absolute() / "bin" / "python"


def _writer(out: Path | None) -> Callable[[dict[str, Any]], None]:
    def write(result: dict[str, Any]) -> None:
        if out:
            out.write_text(json.dumps(result, indent=2) + "\n")

    return write


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
