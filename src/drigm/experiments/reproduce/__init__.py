"""The paper from one command: its table, its ablation, its battles and its counterexample, beside its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from drigm.core.defaults import PARTS
from drigm.core.errors import UserError, check, choose
from drigm.experiments.reproduce.from_scores import read_outcome, read_verification
from drigm.experiments.reproduce.runner import Outcome, plan_text, suited, train_groups
from drigm.experiments.reproduce.studies import SCALES, Group, groups
from drigm.runtime.devices import cache_compilations, require_backend, use_cores
from drigm.training.settings import resolve
from drigm.verification.verify import verify

if TYPE_CHECKING:
    from drigm.experiments.reproduce.page import Files

T = TypeVar("T")

__all__ = ["PARTS", "SCALES", "Group", "Outcome", "groups", "plan", "plan_text", "reproduce_paper", "reproduce_tables"]


def plan(scale: str = "paper", parts: Sequence[str] = PARTS, seeds: int | None = None) -> list[Group]:
    """Return what `reproduce_paper` trains on the default device; arguments and errors as there."""
    choose("scale", scale, tuple(SCALES))
    for part in parts:
        choose("parts", part, PARTS)
    check(seeds is None or seeds >= 1, "seeds", seeds, "give at least 1")
    use_cores()
    require_backend()
    return [suited(group) for group in groups(parts, SCALES[scale], seeds)]


def reproduce_paper(
    out: Path,
    scale: str = "paper",
    parts: Sequence[str] = PARTS,
    seeds: int | None = None,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> Files:
    """Train, score and compare everything, or ``parts`` of it; returns the files that were written.

    Runs are kept below ``out``/runs and never trained twice: stop it at any point and call it again.

    Args:
        out: the folder of runs, tables and page.
        scale: ``paper``: the paper's budgets, five seeds; ``smoke``: every part in a few minutes, to see that it works.
        parts: of `PARTS`.
        seeds: of every method, instead of the scale's.
        say: is told beforehand what will be trained and how long it takes, and a line before each group.

    Raises:
        UserError: an unknown scale or part, a missing extra, a folder that cannot be written, or a training failed.
    """
    todo = plan(scale, parts, seeds)
    verification = SCALES[scale].verification if "counterexample" in parts else 0.0
    say(plan_text(todo, out / "runs", verification))
    _check_all(todo, out)
    cache_compilations()
    outcome = train_groups(todo, out / "runs", say)
    shown = verify(problems=SCALES[scale].problems, learned=SCALES[scale].learned) if verification else None
    from drigm.experiments.reproduce.page import write_outcome  # matplotlib: a second that the plan need not wait for

    return _written(lambda: write_outcome(out, scale, outcome, shown))


def reproduce_tables(folder: Path, scale: str = "paper") -> Sequence[Path]:
    """Write the tables and figures of a finished study anew, from its scores.csv; returns the files.

    Args:
        folder: of `reproduce_paper`, with its scores.csv and timing.csv; or one with scores.csv and the sweep file
            that they came from, named like the folder, as in results/building/building.toml.
        scale: of `reproduce_paper`.

    Raises:
        UserError: no such files, or scores that no method of the study has; or the folder cannot be written.
    """
    file = folder / f"{folder.resolve().name}.toml"
    if file.is_file():
        from drigm.experiments.reproduce.method_tables import rewrite_tables

        return _written(lambda: rewrite_tables(folder, file))
    from drigm.experiments.reproduce.page import write_tables

    outcome, shown = read_outcome(folder, scale), read_verification(folder)
    return _written(lambda: write_tables(folder, scale, outcome, shown))


def _written(write: Callable[[], T]) -> T:
    try:
        return write()
    except OSError as error:
        raise UserError(f"out: {error.filename!r} cannot be written ({error.strerror}).") from None


def _check_all(todo: Sequence[Group], out: Path) -> None:
    """Raise `UserError` now for what would end a study after hours: no folder to write to, no extra, a bad setting."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out: {str(out)!r} cannot be created ({error.strerror}).") from None
    for group in todo:
        resolve(group.configs[0])
