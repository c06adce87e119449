"""A run on disk: what was asked for, what it ran on, what it measured, what it learnt.

::

    DIR/config.json                      every setting (TrainConfig)
    DIR/scales.json                      how readings, state and rewards are standardised (drigm.envs.calibration)
    DIR/system.json                      package versions, commit, platform, devices
    DIR/metrics/seed_K.csv               one row per chunk
    DIR/weights/seed_K.safetensors       agents, mixer and dual network of a finished seed
    DIR/checksums.json                   SHA-256 of all of these, once the run has finished
    DIR/diverged.json                    the seeds whose training diverged: by which step, and why
    DIR/stopped.json                     the steps that were trained, where a callback ended the run early
    DIR/checkpoint.safetensors           the whole training state, while the run is unfinished
    DIR/checkpoint.previous.safetensors  the one before, in case that one is damaged
    DIR/.lock                            held by the process that trains
    DIR/learning_curve.png
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from drigm.core.config import TrainConfig, from_dict, validate
from drigm.core.errors import UserError, check, shown
from drigm.core.json_files import parse_object, read_object
from drigm.core.metrics import COLUMNS
from drigm.core.naming import resume_command
from drigm.core.scales import Scales, from_text, to_text
from drigm.core.types import EnvSpec, PyTree
from drigm.runtime.files import (
    append_text,
    file_digest,
    file_errors,
    hold,
    make_folder,
    read_bytes,
    remove,
    write_text,
)
from drigm.runtime.system import system_facts
from drigm.storage.checkpoint import DamagedError, drop, load_arrays, load_tree, not_finite, previous, save_tree

LONGEST_PLACE = 80  # characters of an environment's name in a folder's


class Diverged(NamedTuple):
    """A seed whose training diverged."""

    step: int  # by which it did
    why: str  # the field, what was given and what is wrong with it, as a clause that speaks of {seeds} and {steps}


class RunDirectory:
    """Paths and files of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.system_file = self.path / "system.json"
        self.scales_file = self.path / "scales.json"
        self.checkpoint_file = self.path / "checkpoint.safetensors"
        self.curve_file = self.path / "learning_curve.png"
        self.checksums_file = self.path / "checksums.json"
        self.diverged_file = self.path / "diverged.json"
        self.stopped_file = self.path / "stopped.json"

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    def metrics_file(self, seed: int) -> Path:
        """Return where the rows of ``seed`` are."""
        return self.path / "metrics" / f"seed_{seed}.csv"

    def weights_file(self, seed: int) -> Path:
        """Return where the weights of ``seed`` are once it has finished."""
        return self.path / "weights" / f"seed_{seed}.safetensors"

    def refuse_taken(self) -> None:
        """Raise `UserError` if something is there already.

        Empty folders and half-written files are nothing: a run that was killed before its config stood begins anew.
        """
        if self.is_taken():
            hint = f"continue it with --resume {shlex.quote(str(self.path))}, or " if self.config_file.exists() else ""
            raise UserError(f"out: {str(self.path)!r} is not empty; {hint}give another directory.")

    def is_taken(self) -> bool:
        """Return whether something is there that a new run must not take the place of."""
        leftovers = (self.system_file, self.scales_file)  # these are written before the config, and with it
        with file_errors(self.path, "read"):
            if not self.path.is_dir():
                return self.path.exists()
            return any(_is_something(path) for path in self.path.rglob("*") if path not in leftovers)

    def has_leftovers(self) -> bool:
        """Return whether a checkpoint is there, which a finished run has no use for."""
        return self.checkpoint_file.exists() or previous(self.checkpoint_file).exists()

    def create(self, config: TrainConfig, provenance: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Make the directory of ``config``, whose environment has ``provenance`` (`drigm.training.trust`).

        Raises:
            UserError: it cannot be made, or something is there already.
        """
        self.refuse_taken()
        try:
            for folder in (self.path, self.path / "metrics", self.path / "weights"):
                folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or error
            raise UserError(f"out: {shown(str(self.path))} cannot be created ({why}).") from None
        self.clean()
        remove(self.scales_file)
        write_text(self.system_file, json.dumps({**system_facts(), **provenance}, indent=2))
        write_text(self.config_file, config.to_json())  # the last: from here on it is a run

    def clean(self) -> None:
        """Remove what a process that was killed while it wrote has left; only who holds the lock may do that."""
        for folder in (self.path, self.path / "metrics", self.path / "weights", self.path / "scores"):
            for file in folder.glob("*.part") if folder.is_dir() else ():
                remove(file)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process; `UserError` where another one trains it.

        The lock is the kernel's and goes with the process, however that ends. The directory is made if needed.
        """
        make_folder(self.path)
        with hold(
            self.path / ".lock",
            f"run: {str(self.path)!r} is being trained by another process; let it finish, or stop it.",
        ):
            yield

    def load_config(self) -> TrainConfig:
        """Return the run's validated config; `UserError` if this is no run directory."""
        try:
            known = self.config_file.exists()
        except (OSError, ValueError):  # a name that is no path
            known = False
        if not known:
            raise UserError(f"run: {str(self.path)!r} is not a run directory (it has no config.json).")
        return validate(from_dict(parse_object(self._checked(self.config_file), self.config_file)))

    def load_system(self) -> dict[str, Any]:
        """Return what system.json holds of what drigm writes there; no result depends on it, so damage is no error."""
        kinds = {"versions": dict, "devices": list, "environment": dict, "plugins": dict}
        try:
            found = read_object(self.system_file)
        except UserError:
            return {}
        return {name: value for name, value in found.items() if isinstance(value, kinds.get(name, str))}

    def save_scales(self, scales: Scales) -> None:
        """Write how readings, state and rewards are standardised."""
        write_text(self.scales_file, to_text(scales))

    def load_scales(self, spec: EnvSpec) -> Scales | None:
        """Return the run's scales for its environment, with ``spec``; None where an older version trained it.

        Raises:
            UserError: the file is damaged, or lost.
        """
        file = self.scales_file
        if not file.exists() and not self._has_written(file):
            return None
        return from_text(self._checked(file), spec, file)

    def has_started(self) -> bool:
        """Return whether anything was learnt that is on disk."""
        return any(self.path.glob("checkpoint*")) or any(self.path.glob("weights/*"))

    def append_metrics(self, seed: int, row: dict[str, float]) -> None:
        """Add one row to a seed's CSV, writing the header first if the file is new."""
        path = self.metrics_file(seed)
        append_text(path, metrics_row(row) if path.exists() else METRICS_HEADER + metrics_row(row))

    def restore_metrics(self, seed: int, rows: str) -> bool:
        """Make the seed's CSV hold just ``rows``, those of a checkpoint; returns whether it was damaged.

        Rows that were written after the checkpoint are no damage.
        """
        path, wanted = self.metrics_file(seed), METRICS_HEADER + rows
        make_folder(path.parent)
        found = read_bytes(path) if path.exists() else b""
        if not rows:
            remove(path)
            return False
        write_text(path, wanted.removesuffix("\n"))
        return not found.startswith(wanted.encode())

    def read_metrics(self, seed: int) -> list[dict[str, float]]:
        """Return a seed's rows; an unfinished last line (a killed run) is left out.

        Raises:
            UserError: the file cannot be read, a cell is no number, or it is not what a finished run has written.
        """
        path = self.metrics_file(seed)
        if not path.exists() and not self._has_written(path):
            return []
        try:
            text = self._checked(path).decode("utf-8")
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
            found = [{k: float(v) for k, v in row.items()} for row in rows if all(row.values())]
        except UserError:
            raise
        except (TypeError, ValueError, csv.Error) as error:
            raise UserError(f"{path}: not a table of numbers ({' '.join(str(error).split())}).") from None
        for row in found:
            row.setdefault("win_rate", math.nan)  # drigm 0.1 had no such column
        whole = all(row.keys() == set(COLUMNS) for row in found)
        check(whole, str(path), list(next(iter(rows), {})), f"its columns must be {', '.join(COLUMNS)}")
        return found

    def save_weights(self, seed: int, weights: PyTree) -> None:
        """Write the weights of a seed that has finished."""
        make_folder(self.weights_file(seed).parent)
        save_tree(self.weights_file(seed), weights, {"format": "drigm-weights-1", "seed": str(seed)})

    def load_weights(self, seed: int, like: PyTree) -> PyTree:
        """Return the weights of ``seed``; `UserError` as `require_weights`, or where they are those of another run."""
        self.require_weights(seed)
        return load_tree(self.weights_file(seed), like)

    def require_weights(self, seed: int) -> None:
        """Raise `UserError` unless the weights of ``seed`` are there, and whole.

        It says why: the run has not finished, its training diverged, or the file is damaged.
        """
        if not self.weights_file(seed).exists():
            if (diverged := self.diverged().get(seed)) is not None:
                raise UserError(divergence({seed: diverged}))
            if self.checkpoint_file.exists():
                raise UserError(f"run: {str(self.path)!r} is unfinished; continue it with {resume_command(self.path)}.")
            raise UserError(f"run: {str(self.path)!r} has no weights of seed {seed}.")
        self._check_weights(seed)

    def _check_weights(self, seed: int) -> None:
        """Raise `DamagedError` unless the file of the weights of ``seed`` is whole, finite, and of that seed."""
        file = self.weights_file(seed)
        arrays, metadata = load_arrays(file)
        if metadata.get("seed", str(seed)) != str(seed):
            raise DamagedError(f"{file}: holds the weights of seed {metadata['seed']}, not of seed {seed}.")
        if (name := not_finite(arrays)) is not None:
            raise DamagedError(f"{file}: {name} holds numbers that are not finite.")

    def damaged_weights(self, config: TrainConfig) -> str:
        """Return a sentence about the first file of weights that is there and cannot be used; "" if none."""
        for seed in seeds_of(config):
            try:
                if self.weights_file(seed).exists():
                    self._check_weights(seed)
            except UserError as error:
                return str(error)
        return ""

    def is_finished(self, config: TrainConfig) -> bool:
        """Return whether each seed has whole weights, or has diverged, and nothing is left to be written."""
        try:
            diverged = self.diverged()
            if not all(seed in diverged or self.weights_file(seed).exists() for seed in seeds_of(config)):
                return False
        except UserError:
            return False
        ending = self.checkpoint_file.exists() and not self.checksums_file.exists()
        return not ending and not self.damaged_weights(config)

    def weights_digest(self, config: TrainConfig) -> str:
        """Return the SHA-256 of the files of weights of all seeds: what scores belong to."""
        found = hashlib.sha256()
        for seed in seeds_of(config):
            found.update(bytes.fromhex(file_digest(self.weights_file(seed))))
        return found.hexdigest()

    def finish(self, config: TrainConfig) -> None:
        """Write down what the finished run's files hold, and drop its checkpoints."""
        files = [self.config_file, self.system_file, self.scales_file, self.diverged_file, self.stopped_file]
        files += [file for seed in seeds_of(config) for file in (self.metrics_file(seed), self.weights_file(seed))]
        sums = {file.relative_to(self.path).as_posix(): file_digest(file) for file in files if file.exists()}
        write_text(self.checksums_file, json.dumps(sums, indent=2))
        drop(self.checkpoint_file)

    def _checked(self, file: Path) -> bytes:
        """Return the content of a file; `UserError` if it is not what the run had written when it finished."""
        content = read_bytes(file)
        if self._has_written(file) not in ("", hashlib.sha256(content).hexdigest()):
            hint = f"restore it, or delete {self.checksums_file.name} if the change is meant"
            raise UserError(f"{file}: is not what the finished run had written; {hint}.")
        return content

    def _has_written(self, file: Path) -> object:
        """Return the SHA-256 of what the run had written to a file when it finished; "" if that is not known."""
        known = self.checksums_file.exists()
        return read_object(self.checksums_file).get(file.relative_to(self.path).as_posix(), "") if known else ""

    def diverged(self) -> dict[int, Diverged]:
        """Return the seeds whose training diverged."""
        if not self.diverged_file.exists():
            return {}
        found = parse_object(self._checked(self.diverged_file), self.diverged_file)
        try:
            return {int(seed): Diverged(int(one["step"]), str(one["why"])) for seed, one in found.items()}
        except (ValueError, KeyError, TypeError, OverflowError):
            raise UserError(f"{self.diverged_file}: is damaged; delete it, and resume the run.") from None

    def record_diverged(self, found: dict[int, Diverged]) -> None:
        """Write down the seeds whose training diverged, so that no resume tries them again."""
        if found:
            content = {str(seed): one._asdict() for seed, one in found.items()}
            write_text(self.diverged_file, json.dumps(content, indent=2))
        else:
            remove(self.diverged_file)

    def steps_trained(self, config: TrainConfig) -> int:
        """Return the environment steps of a finished run's seeds: fewer than it was to have if a callback ended it."""
        if not self.stopped_file.exists():
            return config.steps
        step = parse_object(self._checked(self.stopped_file), self.stopped_file).get("step")
        if not isinstance(step, int) or not 0 < step < config.steps:
            raise UserError(f"{self.stopped_file}: is damaged; it must hold a step below {config.steps}.")
        return step

    def record_stop(self, step: int | None) -> None:
        """Write down that the run has finished at ``step``, or, with None, that it has all its steps."""
        if step is None:
            remove(self.stopped_file)
        else:
            write_text(self.stopped_file, json.dumps({"step": step}))


def divergence(found: dict[int, Diverged], others: str = "") -> str:
    """Return the sentence that says which seeds diverged; ``others`` is what became of the rest, as a clause."""
    first = next(iter(found.values()))
    seeds = f"seed{'s' if len(found) > 1 else ''} {', '.join(map(str, found))}"
    steps = ", ".join(dict.fromkeys(str(one.step) for one in found.values()))
    why = first.why.replace("{seeds}", seeds).replace("{steps}", steps)
    return f"{why}{f'; {others}' if others else ''}."


def _is_something(path: Path) -> bool:
    return not path.is_dir() and path.name != ".lock" and path.suffix != ".part"


def seeds_of(config: TrainConfig) -> list[int]:
    """Return the seeds that ``config`` trains."""
    return list(range(config.first_seed, config.first_seed + config.seeds))


def default_path(config: TrainConfig) -> Path:
    """Make and return an empty folder runs/<what>-<when> that nobody else has been given.

    Raises:
        UserError: it cannot be made.
    """
    env, *method = (
        re.sub(r"[^\w.=-]+", "-", name.rpartition(":")[2], flags=re.ASCII).strip("-.")[:LONGEST_PLACE]
        for name in (config.env, config.factorization, config.uncertainty)
    )
    what = "-".join([env, *method])
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


METRICS_HEADER = ",".join(COLUMNS) + "\r\n"


def metrics_row(row: dict[str, float]) -> str:
    """Return a line of metrics as CSV."""
    return ",".join(_short(row[name]) for name in COLUMNS) + "\r\n"


def _short(x: float) -> str:
    return str(int(x)) if float(x).is_integer() else f"{x:.6g}"
