"""The report on runs: its sections, in the order of the page, and the page itself."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from drigm.core.errors import check
from drigm.core.strengths import Perturb, grid_of, perturb_text
from drigm.deployment.log import read_log
from drigm.evaluation.evaluate import trim_gain
from drigm.report.html import Section, save_figures, write_page
from drigm.report.sections.against_paper import paper_section
from drigm.report.sections.battle import battle_section
from drigm.report.sections.building_day import day_section
from drigm.report.sections.closed_loop import loop_sections
from drigm.report.sections.comparison import statistics_section
from drigm.report.sections.overview import alignment_section, id_suffix, learning_section, runs_section
from drigm.report.sections.robustness import radius_section, shifts_section
from drigm.report.sections.summary import summary_section
from drigm.report.sections.supply_chain import supply_section
from drigm.report.study import Study, collect
from drigm.runtime.devices import use_cores
from drigm.training.runs import Run, as_runs

# Of each environment, in this order; one that has nothing to say about it returns None.
PER_STUDY = (
    shifts_section,
    statistics_section,
    radius_section,
    paper_section,
    day_section,
    battle_section,
    supply_section,
    learning_section,
)


def report_sections(
    runs: Sequence[Run], shifts: str | None = None, trim: float = 0.0, perturb: Perturb | None = None
) -> list[Section]:
    """Return everything that a report says about ``runs``, to be written by `drigm.report.html.write_page`.

    Scores and alignment are kept in the runs' directories, so that they are computed once.

    Args:
        runs: finished runs; those that differ in their seeds only are one method.
        shifts: the suite of worlds; by default that of `drigm.evaluation.evaluate.evaluate`.
        trim: show every team once more with a trim of this gain.
        perturb: strengths that every world is played under, as in `drigm.evaluate`: a curve over one of them.

    Raises:
        UserError: as `drigm.report.study.collect`.
    """
    use_cores()
    studies = collect(runs, shifts, trim, grid_of(perturb))
    sections = [_named(summary_section(study, id_suffix(study, studies)), study, studies) for study in studies]
    sections.append(runs_section(studies))
    for study in studies:
        made = (make(study, id_suffix(study, studies)) for make in PER_STUDY)
        sections += [_named(section, study, studies) for section in made if section is not None]
    return [*sections, alignment_section(studies)]


def write_report(
    runs: Run | str | Path | Sequence[Run | str | Path],
    path: str | Path = "report.html",
    shifts: str | None = None,
    figures: str | Path | None = None,
    trim: bool | float = False,
    perturb: Perturb | None = None,
) -> Path:
    """Write the report on ``runs`` as one HTML file and return its path.

    Args:
        runs: a finished run or its directory, or several; see `report_sections`.
        path: the page; its suffix must be .html.
        shifts: see `report_sections`.
        figures: a folder that every figure is written to as SVG and PNG.
        trim: show every team once more with a trim, as in `drigm.evaluate`.
        perturb: see `report_sections`.

    Raises:
        UserError: as `report_sections`; or a file cannot be written.
    """
    _check_suffix(path)
    runs = as_runs(runs)
    sections = report_sections(runs, shifts, trim_gain(trim), perturb)
    if figures is not None:
        save_figures(sections, figures)
    made = command(runs, path, shifts, figures, trim, perturb)
    return write_page(path, _heading(runs), _lead(runs), sections, made)


def command(
    runs: Sequence[Run],
    path: str | Path,
    shifts: str | None,
    figures: str | Path | None,
    trim: bool | float,
    perturb: Perturb | None,
) -> str:
    """Return the ``drigm report`` that writes the same page, to be pasted into a shell; arguments as `write_report`."""
    words = ["drigm", "report", *(str(run.path) for run in runs), "-o", str(path)]
    words += ["--shifts", shifts] if shifts else []
    words += [x for part in perturb_text(perturb or "").split() for x in ("--perturb", part)]
    words += ["--trim"] if trim else []
    words += ["--figures", str(figures)] if figures is not None else []
    return shlex.join(words)


def write_log_report(logs: Sequence[str | Path], path: str | Path) -> Path:
    """Write a page about logs of ``drigm deploy``, to play through, and return its path.

    Args:
        logs: the files.
        path: the page; its suffix must be .html.

    Raises:
        UserError: a log cannot be read; or the page cannot be written.
    """
    _check_suffix(path)
    sections = list[Section]()
    for number, file in enumerate(map(Path, logs)):
        sections += loop_sections(read_log(file), file.name, f"-{number}" if len(logs) > 1 else "")
    what = _count(len(logs), "log")
    made = shlex.join(["drigm", "report", *map(str, logs), "-o", str(path)])
    return write_page(
        path, "A team in the loop", f"{what} of drigm deploy: readings, actions, reward, flags.", sections, made
    )


def _check_suffix(path: str | Path) -> None:
    check(Path(path).suffix.lower() in {".html", ".htm"}, "out", str(path), "its suffix must be .html")


def _named(section: Section, study: Study, studies: Sequence[Study]) -> Section:
    return section if len(studies) == 1 else section._replace(title=f"{section.title}: {study.name}")


def _heading(runs: Sequence[Run]) -> str:
    envs = list(dict.fromkeys(run.config.env for run in runs))
    return f"Robust teams in {envs[0]}" if len(envs) == 1 else f"Robust teams in {len(envs)} environments"


def _lead(runs: Sequence[Run]) -> str:
    seeds = sum(len(run.seeds) for run in runs)
    what = f"{_count(len(runs), 'run')}, {_count(seeds, 'trained team')}"
    return f"{what}: how they hold in worlds that differ from the one they were trained in, and how they learnt."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"
