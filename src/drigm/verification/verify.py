"""`drigm verify`: the mathematics checked on this machine, and the DrIGM alignment of a trained run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

from drigm.runtime.progress import Progress
from drigm.storage.results import to_json
from drigm.training.runs import Run, as_runs
from drigm.verification.exact import (
    AgentWiseReport,
    Counterexample,
    StaticReport,
    TheoremReport,
    check_agent_wise,
    check_theorem,
    fooled,
    gamble_problem,
    identification_problem,
    solve_counterexample,
    solve_static,
)
from drigm.verification.greedy_alignment import Alignment, verify_run
from drigm.verification.learned_vs_exact import LEARN, Agreement, learned_agreement

HORIZON = 4  # steps of the problem with two persistent worlds
LEARNED = ("vdn", "qmix", "qtran")
LEARNED_SET, LEARNED_RHO = "tv", 0.3
AGENT_RHO = 1.0  # of the team that learns against a failing agent, where the nominal optimum is wrong


class Verification(NamedTuple):
    """The counterexample, the theorem on random problems, what is learnt, persistent worlds, failing agents."""

    counterexample: Counterexample
    theorem: TheoremReport
    learned: list[Agreement]
    static: StaticReport
    failures: AgentWiseReport

    @property
    def holds(self) -> bool:
        """Whether everything came out as the theory says."""
        learnt = all(agreement.holds for agreement in self.learned)
        exact = fooled(self.counterexample) and self.theorem.violations == 0
        return exact and learnt and self.static.identifying_pays and self.failures.holds

    def to_json(self) -> str:
        """Return everything as one JSON object."""
        return to_json(
            {
                "holds": self.holds,
                "counterexample": self.counterexample.summary(),
                "theorem": self.theorem._asdict(),
                "static": {**self.static._asdict(), "identifying_pays": self.static.identifying_pays},
                "failures": {**self.failures._asdict(), "holds": self.failures.holds},
                "learned": [{**agreement._asdict(), "holds": agreement.holds} for agreement in self.learned],
            }
        )

    def __str__(self) -> str:
        lines = ["(a) " + str(self.counterexample), "(b) " + str(self.theorem), "(c) Learned against exact:"]
        lines += [
            *(f"  {agreement}" for agreement in self.learned),
            "(d) " + str(self.static),
            "(e) " + str(self.failures),
        ]
        return "\n".join([*lines, "Everything holds." if self.holds else "NOT everything holds."])


@overload
def verify(
    run: None = None, *, quiet: bool = False, learned: Sequence[str] = LEARNED, **theorem: Any
) -> Verification: ...
@overload
def verify(run: Run | str | Path, *, quiet: bool = False) -> Alignment: ...
@overload
def verify(run: Sequence[Run | str | Path], *, quiet: bool = False) -> list[Alignment]: ...
def verify(
    run: Run | str | Path | Sequence[Run | str | Path] | None = None,
    *,
    quiet: bool = False,
    learned: Sequence[str] = LEARNED,
    **theorem: Any,
) -> Verification | Alignment | list[Alignment]:
    """Return the outcome of all five checks of the theory, which takes about a minute; or the alignment of a run.

    Args:
        run: a finished run or its directory, or several: how often greedy agents are the greedy team
            (`drigm.verification.greedy_alignment.verify_run`), instead of the theory.
        quiet: show no progress.
        learned: the factorizations that are trained on a problem solved exactly; the first also with a failing agent.
        theorem: passed on to `drigm.verification.exact.check_theorem`, such as ``problems=2000``.
    """
    if run is not None:
        found = [verify_run(one) for one in as_runs(run)]
        return found[0] if isinstance(run, Run | str | Path) else found
    with Progress("verify", 2 + len(learned) + bool(learned), quiet=quiet, unit="parts") as progress:
        progress.note("counterexample")
        example = solve_counterexample()
        progress.update(1)
        progress.note("random problems")
        report = check_theorem(**theorem)
        progress.update(2)
        agreements = []
        for done, factorization in enumerate(learned, 3):
            progress.note(f"training {factorization}")
            agreements.append(learned_agreement(gamble_problem(), factorization, LEARNED_SET, LEARNED_RHO))
            progress.update(done)
        if learned:
            progress.note("training against a failing agent")
            failing = LEARN.replace(agent_rho=AGENT_RHO)
            agreements.append(learned_agreement(gamble_problem(), learned[0], "nominal", 0.0, config=failing))
            progress.update(3 + len(learned))
    return Verification(
        example, report, agreements, solve_static(identification_problem(), HORIZON), check_agent_wise()
    )
