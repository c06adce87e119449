"""Damage copies of small runs, read them back, and count what is told and what is not.

::

    python tools/damage.py --files 2000 --seed 0

One run has finished, one was stopped, and of one a seed diverged. Every reading must end in the same numbers, in one
sentence (`UserError`), or in other numbers that a line announces: an older checkpoint, which is always used where only
the newest one is damaged. It prints one line of counts, and each traceback, each number that differs in silence and
each checkpoint that was not used.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import random
import re
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from drigm.core.config import TrainConfig
from drigm.core.errors import UserError
from drigm.core.scales import scales_of, to_text
from drigm.envs import make_env
from drigm.evaluation.cache import cached_evaluation, stored_evaluation
from drigm.report.sections.overview import ran_on
from drigm.storage.checkpoint import load_arrays, previous, save_tree
from drigm.storage.run_directory import Diverged, RunDirectory, divergence
from drigm.training.checkpointing import restore
from drigm.training.loop import axes, weights_of
from drigm.training.runs import Run, load_run, train_run, with_stored_scales
from drigm.training.runs import programs_of as make_programs
from drigm.training.session import Member, Session
from drigm.verification.greedy_alignment import cached_alignment

CONFIG = TrainConfig().replace(
    env="probe:matrix",
    factorization="vdn",
    seeds=2,
    steps=240,
    hidden=8,
    num_envs=4,
    replay_size=400,
    batch=4,
    learning_starts=24,
    shards=1,
)
WRONG = ("SILENT", "TRACEBACK", "UNUSED")
BAD_VALUES = ("3", "1e999", "null", "[5]", "{}", '"text"', "true")
BAD_NUMBERS = ("NaN", "Infinity", "-1e400", "1" * 400, "1e30", "-7", "[" * 30_000)


class Subject(NamedTuple):
    """The runs that copies are made of, and what is needed to read them without compiling again."""

    finished: Path
    unfinished: Path
    diverged: Path
    like: Any
    session: Session
    state: Any


def prepare(folder: Path) -> Subject:
    """Train the runs: one to its end, with scores beside it; one until its third checkpoint."""
    run = train_run(CONFIG, folder / "finished", quiet=True)
    cached_evaluation(run, "nominal", quiet=True)
    cached_alignment(run)
    checkpointing: Any = sys.modules["drigm.training.checkpointing"]
    before = checkpointing.CHECKPOINT_SECONDS, checkpointing.SAVING_SHARE, checkpointing.save
    saved: list[int] = []

    def save_and_stop(session: Session, standing: Any) -> None:
        before[2](session, standing)
        saved.append(standing.tick)
        if len(saved) == 40:
            raise KeyboardInterrupt

    checkpointing.CHECKPOINT_SECONDS, checkpointing.SAVING_SHARE, checkpointing.save = 0.0, math.inf, save_and_stop
    try:
        with contextlib.suppress(KeyboardInterrupt):
            train_run(CONFIG, folder / "unfinished", quiet=True)
    finally:
        checkpointing.CHECKPOINT_SECONDS, checkpointing.SAVING_SHARE, checkpointing.save = before
    other = RunDirectory(shutil.copytree(folder / "finished", folder / "diverged"))
    other.weights_file(1).unlink()
    other.record_diverged({1: Diverged(24, "learning_rate: 0.003 is not allowed; {seeds} by step {steps}")})
    other.finish(run.config)
    programs = make_programs(CONFIG, run.env)
    state = programs.init(*axes([CONFIG]))
    shapes = jax.eval_shape(lambda s: weights_of(s.learner), programs.shapes(*axes([CONFIG])))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), shapes)
    # Without stored scales it would be the environment as it is made.
    session = Session([], make_env(CONFIG.env), programs, Path(), "")
    return Subject(folder / "finished", folder / "unfinished", other.path, like, session, state)


def read_finished(subject: Subject, path: Path) -> dict[str, Any]:
    """Return every number that commands show of a run that has ended."""
    run = load_run(path)
    diverged = run.directory.diverged()
    seen: dict[str, Any] = {"config": run.config, "scales": to_text(scales_of(run.env.spec))}
    seen["diverged"] = (diverged, divergence(diverged)) if diverged else None
    for seed in (seed for seed in run.seeds if seed not in diverged):
        seen[f"weights {seed}"] = run.directory.load_weights(seed, subject.like)
        seen[f"metrics {seed}"] = run.directory.read_metrics(seed)
    # None is no number: it is computed anew from the weights.
    seen["scores"] = stored_evaluation(run.directory, run.config, "nominal")
    seen["alignment"] = None if diverged else stored_alignment(run)
    ran_on(run)
    run.directory.is_finished(run.config)
    return seen


def stored_alignment(run: Run) -> Any:
    """Return the alignment that is stored, None where it would be computed."""
    kept: Any = sys.modules["drigm.verification.greedy_alignment"]
    compute, kept.verify_run = kept.verify_run, lambda run: None
    try:
        with contextlib.suppress(AttributeError):
            return cached_alignment(run)
    finally:
        kept.verify_run = compute
    return None


def read_unfinished(subject: Subject, path: Path) -> dict[str, Any]:
    """Return what a resume of an unfinished run goes on from."""
    directory = RunDirectory(path)
    config = directory.load_config()
    if directory.is_finished(config):
        raise AssertionError("an unfinished run counts as finished")
    directory.diverged()
    if config != CONFIG:  # another program would be compiled, and refuse the checkpoint
        made = make_programs(config, subject.session.env) if config.env == CONFIG.env else None
        if made is None:
            raise UserError(f"env: {config.env!r} is another one.")
        session = subject.session._replace(programs=made)
    else:
        session = subject.session
    member = Member(config, directory)
    env = with_stored_scales(Run(directory, config, session.env)).env
    session = session._replace(members=[member], checkpoint_file=directory.checkpoint_file, env=env)
    found = restore(session, subject.state)
    return {"tick": found.tick, "rows": found.rows, "state": found.state}


def equal(given: Any, wanted: Any) -> bool:
    """Whether all that is in ``given`` is in ``wanted``, bit for bit; None is nothing."""
    for name, value in given.items():
        if value is None:
            continue
        if name.startswith("weights") or name == "state":
            pairs = zip(jax.tree.leaves(value), jax.tree.leaves(wanted[name]), strict=True)
            same = all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
        else:
            same = repr(value) == repr(wanted[name])
        if not same:
            return False
    return True


def damages(rng: random.Random) -> dict[str, Callable[[Path], None]]:
    """Return what can be done to a file."""

    def flip(file: Path) -> None:
        content = bytearray(file.read_bytes())
        for _ in range(rng.choice((1, 1, 1, 3))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        file.write_bytes(content)

    def cut(file: Path) -> None:
        file.write_bytes(file.read_bytes()[: rng.randrange(file.stat().st_size)])

    def scribble(file: Path) -> None:
        content = bytearray(file.read_bytes())
        at, length = rng.randrange(len(content)), rng.choice((1, 8, 100))
        content[at : at + length] = rng.randbytes(length)
        file.write_bytes(content)

    def folder(file: Path) -> None:
        file.unlink()
        file.mkdir()

    def number(file: Path) -> None:
        """Another number where there is one: in arrays with a checksum that is right, in text anywhere."""
        if file.suffix == ".safetensors":
            arrays, metadata = load_arrays(file)
            name = rng.choice([n for n, x in arrays.items() if x.dtype.kind == "f" and x.size])
            arrays[name] = arrays[name].copy()
            arrays[name].reshape(-1)[0] = rng.choice((math.nan, math.inf))
            save_tree(file, arrays, metadata)
            return
        text = file.read_text()
        if file.suffix == ".json" and rng.random() < 0.5:  # a value of another kind
            values = list(re.finditer(r'(?<=": )(\{[^{}]*\}|\[[^][]*\]|"[^"]*"|[-0-9.e]+)', text))
            if values:
                one = rng.choice(values)
                file.write_text(text[: one.start()] + rng.choice(BAD_VALUES) + text[one.end() :], newline="")
                return
        digits = [i for i, letter in enumerate(text) if letter.isdigit()]
        if digits:
            at = rng.choice(digits)
            file.write_text(text[:at] + rng.choice(BAD_NUMBERS) + text[at + 1 :], newline="")

    def lines(file: Path) -> None:
        """A line doubled, lost or moved."""
        content = file.read_bytes().split(b"\n")
        i, j = rng.randrange(len(content)), rng.randrange(len(content))
        content[i : i + rng.choice((0, 1))] = [content[j]] * rng.choice((0, 1))
        file.write_bytes(b"\n".join(content))

    def exchange(file: Path) -> None:
        """The file of another seed, or of another name."""
        others = [other for other in file.parent.iterdir() if other.is_file() and other.suffix == file.suffix]
        file.write_bytes(rng.choice(others).read_bytes())

    return {
        "flip": flip,
        "cut": cut,
        "scribble": scribble,
        "empty": lambda file: file.write_bytes(b"") and None,
        "folder": folder,
        "number": number,
        "lines": lines,
        "exchange": exchange,
        "lost": lambda file: file.unlink(),
    }


def outcome(read: Callable[[], dict[str, Any]], wanted: list[dict[str, Any]]) -> tuple[str, str]:
    """Return what came of a reading: same, older, refused, said, SILENT or TRACEBACK, and its text."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found = read()
    except UserError as error:
        return ("refused", "") if str(error).strip() and "\n" not in str(error) else ("TRACEBACK", repr(error))
    except Exception:
        return "TRACEBACK", traceback.format_exc()
    if equal(found, wanted[0]):
        return "same", ""
    if any(equal(found, one) for one in wanted[1:]):
        return "older", ""
    return ("said", "") if said.getvalue() else ("SILENT", f"{list(found)}, tick {found.get('tick')}")


def run(files: int, seed: int) -> Counter[str]:
    """Damage ``files`` files, one at a time; returns how often each outcome came."""
    rng, counts = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        subject = prepare(Path(folder))
        ended = [(subject.finished, read_finished), (subject.diverged, read_finished)]
        cases = [ended[0], (subject.unfinished, read_unfinished), ended[1]]
        copy = Path(folder) / "copy"
        known = []
        for source, read in cases:
            shutil.copytree(source, copy)
            known.append([read(subject, copy)])
            shutil.rmtree(copy)
        # A resume from an older checkpoint that is whole comes to the same end, bit for bit.
        shutil.copytree(subject.unfinished, copy)
        shutil.copy(previous(copy / "checkpoint.safetensors"), copy / "checkpoint.safetensors")
        known[1].append(read_unfinished(subject, copy))
        shutil.rmtree(copy)
        for _ in range(files):
            which = rng.randrange(len(cases))
            source, read = cases[which]
            shutil.copytree(source, copy)
            file = rng.choice(sorted(path for path in copy.rglob("*") if path.is_file() and path.stat().st_size))
            kind, damage = rng.choice(list(damages(rng).items()))
            damage(file)
            result, text = outcome(lambda read=read: read(subject, copy), known[which])
            if source == subject.unfinished and file.name == "checkpoint.safetensors" and result == "refused":
                result = "UNUSED"  # the checkpoint before it is whole
            counts[result] += 1
            if result in WRONG:
                print(f"{source.name}/{file.relative_to(copy)} {kind}: {result} {text}")
            shutil.rmtree(copy)
    return counts


def main() -> int:
    """Exit code 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts = run(options.files, options.seed)
    print(" ".join(f"{name}={counts[name]}" for name in ("same", "older", "refused", "said", *WRONG)))
    return 1 if any(counts[name] for name in WRONG) else 0


if __name__ == "__main__":
    sys.exit(main())
