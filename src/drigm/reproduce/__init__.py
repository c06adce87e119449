"""The paper from one command: its table, its ablation, its battles and its counterexample, beside its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from drigm.devices import cache_compilations, use_cores
from drigm.errors import check, choose
from drigm.reproduce.runner import Outcome, plan_text, train_groups
from drigm.reproduce.studies import PARTS, SCALES, Group, groups
from drigm.verify import verify

if TYPE_CHECKING:
    from drigm.reproduce.page import Files

__all__ = ["PARTS", "SCALES", "Group", "Outcome", "groups", "plan_text", "reproduce_paper"]


def reproduce_paper(
    out: Path, scale: str = "paper", parts: Sequence[str] = PARTS, seeds: int | None = None, *, plan_only: bool = False
) -> Files | None:
    """Train, score and compare everything, or ``parts`` of it; returns the files that were written.

    Says beforehand what it will do. Runs are kept below ``out``/runs and never trained twice: stop it at any point and
    call it again.

    Args:
        out: the folder of runs, tables and page.
        scale: ``paper``: the paper's budgets, five seeds; ``smoke``: everything in two minutes, to see that it works.
        parts: of `PARTS`.
        seeds: of every method, instead of the scale's.
        plan_only: say what would be done, and return None.

    Raises:
        UserError: an unknown scale or part, or a training failed.
    """
    choose("scale", scale, tuple(SCALES))
    for part in parts:
        choose("parts", part, PARTS)
    check(seeds is None or seeds >= 1, "seeds", seeds, "give at least 1")
    use_cores()
    cache_compilations()
    todo = groups(parts, SCALES[scale], seeds)
    print(plan_text(todo, out / "runs"), flush=True)
    if plan_only:
        return None
    outcome = train_groups(todo, out / "runs")
    verification = verify(problems=SCALES[scale].problems) if "counterexample" in parts else None
    from drigm.reproduce.page import write_outcome  # matplotlib: a second that the plan need not wait for

    return write_outcome(out, scale, outcome, verification)
