"""A run on disk: what was asked for, what it ran on, what it measured, what it learnt.

::

    DIR/config.json                  every setting (TrainConfig)
    DIR/system.json                  package versions, commit, platform, devices
    DIR/metrics/seed_K.csv           one row per chunk
    DIR/weights/seed_K.safetensors   agents, mixer and dual network of a finished seed
    DIR/checkpoint.safetensors       the whole training state, while the run is unfinished
    DIR/learning_curve.png
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import jax

from drigm.checkpoint import load_tree, save_tree
from drigm.config import TrainConfig, from_dict, validate
from drigm.errors import UserError, check, read_json, shown
from drigm.trust import provenance
from drigm.types import PyTree

LONGEST_PLACE = 80  # characters of an environment's name in a folder's
METRICS = (
    "step",
    "return",
    "score",
    "win_rate",
    "episodes",
    "loss",
    "dual_loss",
    "value",
    "grad_norm",
    "epsilon",
    "steps_per_s",
)


class RunDirectory:
    """Paths and files of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.system_file = self.path / "system.json"
        self.checkpoint_file = self.path / "checkpoint.safetensors"
        self.curve_file = self.path / "learning_curve.png"

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    def metrics_file(self, seed: int) -> Path:
        """Return where the rows of ``seed`` are."""
        return self.path / "metrics" / f"seed_{seed}.csv"

    def weights_file(self, seed: int) -> Path:
        """Return where the weights of ``seed`` are once it has finished."""
        return self.path / "weights" / f"seed_{seed}.safetensors"

    def create(self, config: TrainConfig) -> None:
        """Make the directory; `UserError` if something is there already.

        Empty folders are nothing: a run that was killed before its config was written begins anew.
        """
        source = provenance(config)
        try:
            if self.path.exists() and (
                not self.path.is_dir() or any(p for p in self.path.rglob("*") if not p.is_dir())
            ):
                hint = f"continue it with --resume {self.path}, or give another directory"
                raise UserError(f"out: {str(self.path)!r} is not empty; {hint}.")
            for folder in (self.path, self.path / "metrics", self.path / "weights"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"out: {shown(str(self.path))} cannot be created ({error.strerror}).") from None
        write_text(self.config_file, config.to_json())
        write_text(self.system_file, json.dumps({**system_facts(), **source}, indent=2))

    def load_config(self) -> TrainConfig:
        """Return the run's validated config; `UserError` if this is no run directory."""
        try:
            settings = read_json(self.config_file)
        except OSError:
            raise UserError(f"run: {str(self.path)!r} is not a run directory (it has no config.json).") from None
        check(isinstance(settings, dict), str(self.config_file), settings, "it must hold one JSON object")
        return validate(from_dict(settings))

    def load_system(self) -> Any:
        """Return what system.json holds; None if it is missing or damaged, for no result depends on it."""
        try:
            return read_json(self.system_file)
        except (OSError, UserError):
            return None

    def append_metrics(self, seed: int, row: dict[str, float]) -> None:
        """Add one row to a seed's CSV, writing the header first if the file is new."""
        _append_row(self.metrics_file(seed), row)

    def read_metrics(self, seed: int) -> list[dict[str, float]]:
        """Return a seed's rows; an unfinished last line (a killed run) is left out.

        Raises:
            UserError: a cell is no number.
        """
        path = self.metrics_file(seed)
        if not path.exists():
            return []
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        try:
            return [{k: float(v) for k, v in row.items()} for row in rows if all(row.values())]
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: not a table of numbers ({error}).") from None

    def drop_metrics_after(self, seed: int, step: int) -> None:
        """Forget rows beyond ``step``: they were written after the checkpoint that a run resumes from."""
        path = self.metrics_file(seed)
        kept = path.with_name(path.name + ".part")
        kept.unlink(missing_ok=True)
        rows = [row for row in self.read_metrics(seed) if row["step"] <= step]
        for row in rows:
            _append_row(kept, row)
        if rows:
            os.replace(kept, path)  # at once, so that a kill here loses nothing
        else:
            path.unlink(missing_ok=True)

    def save_weights(self, seed: int, weights: PyTree) -> None:
        self.weights_file(seed).parent.mkdir(exist_ok=True)
        save_tree(self.weights_file(seed), weights, {"format": "drigm-weights-1"})

    def load_weights(self, seed: int, like: PyTree) -> PyTree:
        """Return the weights of ``seed``; `UserError` if the run has not finished."""
        if not self.weights_file(seed).exists():
            if self.checkpoint_file.exists():
                raise UserError(
                    f"run: {str(self.path)!r} is unfinished; continue it with drigm train --resume {self.path}."
                )
            raise UserError(f"run: {str(self.path)!r} has no weights of seed {seed}.")
        return load_tree(self.weights_file(seed), like)

    def is_finished(self, config: TrainConfig) -> bool:
        return all(self.weights_file(seed).exists() for seed in seeds_of(config))


def seeds_of(config: TrainConfig) -> list[int]:
    """Return the seeds that ``config`` trains."""
    return list(range(config.first_seed, config.first_seed + config.seeds))


def default_path(config: TrainConfig) -> Path:
    """Make and return an empty folder runs/<what>-<when> that nobody else has been given.

    Raises:
        UserError: it cannot be made.
    """
    place = re.sub(r"[^\w.=-]+", "-", config.env.rpartition(":")[2], flags=re.ASCII).strip("-.")
    what = f"{place[:LONGEST_PLACE]}-{config.factorization}-{config.uncertainty}"
    what += f"-{config.rho:g}" if config.rho else ""
    base, number = Path("runs") / f"{what}-{time.strftime('%Y%m%d-%H%M%S')}", 1
    try:
        base.parent.mkdir(exist_ok=True)
        while True:
            path = base if number == 1 else base.with_name(f"{base.name}-{number}")
            try:
                path.mkdir()  # runs that begin in the same second get folders of their own
                return path
            except FileExistsError:
                number += 1
    except OSError as error:
        raise UserError(f"out: {str(base)!r} cannot be created ({error.strerror}).") from None


def _append_row(path: Path, row: dict[str, float]) -> None:
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, METRICS)
        if new:
            writer.writeheader()
        writer.writerow({name: _short(row[name]) for name in METRICS})


def write_text(path: Path, text: str) -> None:
    """Write a small file atomically."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text + "\n")
    os.replace(temporary, path)


def system_facts() -> dict[str, object]:
    """Return what a reader needs to run this again: versions, commit, platform, devices."""
    packages = ("drigm", "jax", "jaxlib", "equinox", "optax", "numpy", "safetensors")
    return {
        "versions": {name: version_of(name) for name in packages},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": [str(device) for device in jax.local_devices()],
        "commit": _commit(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def version_of(package: str) -> str | None:
    """Return the version of an installed package; None where it is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return drigm's own git commit (with "+" if it was changed), None outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _short(x: float) -> str:
    return str(int(x)) if float(x).is_integer() else f"{x:.6g}"
