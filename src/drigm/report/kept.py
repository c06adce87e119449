"""Results that a run keeps beside its weights, so that no page has to compute them twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from drigm.alignment import Alignment, verify_run
from drigm.evaluate import Evaluation, ShiftScore, evaluate
from drigm.run_directory import write_text
from drigm.train import Run


def cached_evaluation(run: Run, shifts: str | None = None) -> Evaluation:
    """Return `evaluate`'s scores, from RUN/scores if they are there."""
    path = run.path / "scores" / f"{shifts or 'default'}.json"
    kept = _read(path)
    if kept:
        return Evaluation(kept["suite"], [ShiftScore(**row) for row in kept["scores"]])
    found = evaluate(run, shifts)
    _write(path, {"suite": found.suite, "scores": [score._asdict() for score in found.scores]})
    return found


def cached_alignment(run: Run, compute: Callable[[Run], Alignment] = verify_run) -> Alignment:
    """Return `verify_run`'s result, from RUN/scores/alignment.json if it is there.

    Raises:
        UserError: the run's environment lives in another process.
    """
    path = run.path / "scores" / "alignment.json"
    kept = _read(path)
    if kept:
        return Alignment(**kept)
    found = compute(run)
    _write(path, found._asdict())
    return found


def _read(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _write(path: Path, content: dict) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        write_text(path, json.dumps(content, indent=2))
    except OSError:
        return  # a run that may only be read is computed anew each time
