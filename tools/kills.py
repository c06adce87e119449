"""Kill real trainings at random instants, resume them until they have finished, and compare with an undisturbed one.

::

    python tools/kills.py building --kills 20
    python tools/kills.py sweep --kills 20 --signal INT
    python tools/kills.py subprocesses --kills 20 --steps 40000

Weights must be equal bit for bit, and metrics in everything but the column that depends on the clock. With ``--signal
INT`` or ``TERM`` it also prints how long the process took to leave.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

TANK = Path(__file__).parents[1] / "examples" / "tank.py"
SMALL = ["--hidden", "16", "--num-envs", "8", "--batch", "16", "--replay-size", "4000", "--learning-starts", "400"]
GRID = """
[base]
env = "building:OfficeSmall/Tucson"
hidden = 16
num_envs = 8
batch = 16
replay_size = 4000
learning_starts = 400
steps = {steps}
[grid]
uncertainty = ["tv", "contamination"]
rho = [0.1, 0.2]
[evaluate]
shifts = "nominal"
"""


class Subject(NamedTuple):
    """A training as two commands, below one folder each: how it begins, and how it goes on after a kill."""

    begin: Callable[[Path], Sequence[str]]
    go_on: Callable[[Path], Sequence[str]]


def building(steps: int, folder: Path) -> Subject:
    """A run of two seeds in a building."""
    settings = ["--env", "building:OfficeSmall/Tucson", "--uncertainty", "tv", "--rho", "0.2", "--seeds", "2", *SMALL]
    return single([*settings, "--steps", str(steps)])


def single(settings: Sequence[str]) -> Subject:
    """A single run with these flags of ``drigm train``."""
    return Subject(
        lambda path: ["train", *settings, "--quiet", "--out", str(path)],
        lambda path: ["train", "--quiet", "--resume", str(path)],
    )


def sweep(steps: int, folder: Path) -> Subject:
    """Four points in two programs, scored."""
    file = folder / "grid.toml"
    file.write_text(GRID.format(steps=steps))
    command = lambda path: ["sweep", str(file), "--quiet", "--out", str(path)]  # noqa: E731
    return Subject(command, command)


def subprocesses(steps: int, folder: Path) -> Subject:
    """A run of two seeds, perturbed, whose environments live in subprocesses."""
    where = ["--env", f"pettingzoo:{TANK}:Tank", "--env-workers", "1", "--perturb", "obs_noise=0.1 action_delay=1"]
    rounds = ["--factorization", "vdn", "--update-every", "5", "--updates", "2", "--seeds", "2", "--steps", str(steps)]
    return single([*SMALL, *where, *rounds])


SUBJECTS = {"building": building, "sweep": sweep, "subprocesses": subprocesses}


def result_of(path: Path) -> dict[str, object]:
    """Return what must not depend on kills: weights, metrics without their clock, scores."""
    found: dict[str, object] = {}
    for file in sorted(path.rglob("*")):
        name = str(file.relative_to(path))
        if file.suffix == ".safetensors":
            found[name] = file.read_bytes()
        elif file.parent.name == "metrics":
            with open(file, newline="") as opened:
                found[name] = [{k: v for k, v in row.items() if k != "steps_per_s"} for row in csv.DictReader(opened)]
        elif file.parent.name == "scores":
            found[name] = json.loads(file.read_text())
    return found


def start(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start ``drigm`` with its words in ``log``."""
    with open(log, "ab") as said:
        return subprocess.Popen([sys.executable, "-m", "drigm", *arguments], stdout=said, stderr=said)


def disturbed(subject: Subject, path: Path, signum: int, seconds: float, kills: int, rng: random.Random) -> list[float]:
    """Bring a run to its end through up to ``kills`` kills; returns how long the process took to leave each time."""
    log, left = path.with_suffix(".log"), []
    while True:
        arguments = subject.go_on(path) if (path / "config.json").exists() else subject.begin(path)
        process = start(arguments, log)
        try:
            code = process.wait(rng.uniform(0.0, seconds) if len(left) < kills else None)
        except subprocess.TimeoutExpired:
            began = time.monotonic()
            process.send_signal(signum)
            process.wait()
            left.append(time.monotonic() - began)
            continue
        if code:
            raise SystemExit(f"{' '.join(arguments)} ended with {code}:\n{log.read_text()}")
        return left


def main() -> int:
    """Exit code 1 where a disturbed run differs from the undisturbed one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--kills", type=int, default=20, help="in all; a run takes several")
    parser.add_argument("--each", type=int, default=5, help="kills of one run at most")
    parser.add_argument("--steps", type=int, default=80_000)
    parser.add_argument("--signal", default="KILL", choices=("KILL", "INT", "TERM"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, signum = random.Random(options.seed), getattr(signal, f"SIG{options.signal}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subject = SUBJECTS[options.subject](options.steps, folder)
        for warm in range(2):  # the second time nothing is compiled, as after a kill
            began = time.monotonic()
            if start(subject.begin(folder / f"whole-{warm}"), folder / "whole.log").wait():
                raise SystemExit((folder / "whole.log").read_text())
        seconds, wanted = time.monotonic() - began, result_of(folder / "whole-1")
        left: list[float] = []
        different = runs = 0
        while len(left) < options.kills:
            path, began = folder / f"run-{runs}", time.monotonic()
            took = disturbed(subject, path, signum, seconds, min(options.each, options.kills - len(left)), rng)
            if not took:  # the machine has become faster: kills must fall within a run
                seconds = min(seconds, time.monotonic() - began)
            left += took
            same = result_of(path) == wanted
            runs, different = runs + 1, different + (not same)
            print(f"run {runs}: {len(left)} kills so far, {'equal' if same else 'DIFFERENT'}", flush=True)
    what = f"{options.subject}: {len(left)} x SIG{options.signal} in {runs} runs of {seconds:.0f} s"
    print(f"{what}, {different} different; left within {max(left):.1f} s")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
