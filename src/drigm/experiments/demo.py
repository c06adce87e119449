"""The demo: a robust and an ordinary team learn in Tucson, side by side, and are scored in six cities.

::

    python -m drigm.demo [--smoke] [--out DIR]
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import math
import os
import shutil
import sys
import time
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from drigm.core.config import TrainConfig
from drigm.core.errors import UserError, as_path
from drigm.core.naming import duration, spaced
from drigm.envs.building.dataset import PROTOCOL_CITIES
from drigm.evaluation.controllers import TITLES
from drigm.evaluation.published import CONTROLLERS, authors_score, controller_score, paper_score
from drigm.evaluation.scores import Evaluation
from drigm.experiments.sweep import sweep
from drigm.report.html import Section
from drigm.report.tables import Score, format_table, scores_by_world
from drigm.runtime import interrupts
from drigm.runtime.devices import cache_compilations
from drigm.runtime.files import write_text
from drigm.training.runs import Run

CITIES = tuple(PROTOCOL_CITIES)
HEADINGS = {"": "score", **{city: spaced(city) for city in CITIES}}
SMOKE_STEPS = 6_400  # enough for every part to run


class Team(NamedTuple):
    """One of the two teams. ``method`` is its uncertainty set, under the name that the references use."""

    label: str
    folder: str
    method: str
    rho: float


TEAMS = (Team("QMIX-TV", "qmix-tv", "tv", 0.2), Team("QMIX", "qmix", "nominal", 0.0))


class Files(NamedTuple):
    """What the demo leaves, beside the two run directories."""

    page: Path
    bars: Path
    day: Path
    scores: Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns 0, 2 for bad input or where a training failed, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="python -m drigm.demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help=f"only {SMOKE_STEPS} steps: shows that every part works")
    parser.add_argument("--out", metavar="DIR", help="where to write (default: a new folder under runs/)")
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an ASCII terminal has no degree sign
    if arguments is None:
        interrupts.leave_in_time()
    try:
        with interrupts.as_interrupts(), interrupts.advice("both trainings have stopped with it"):
            run_demo(fresh_directory(None if options.out is None else as_path("out", options.out)), smoke=options.smoke)
    except UserError as error:
        print(f"drigm demo: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"drigm demo: {error.filename or 'system'}: {error.strerror or error}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        interrupts.message(KeyboardInterrupt())
        print("\ndrigm demo: stopped, and both trainings with it", file=sys.stderr)
        return interrupts.exit_code()
    return 0


def run_demo(out: Path, *, smoke: bool = False) -> Files:
    """Train both teams below ``out``, score them, draw the pictures, and say what came out.

    Raises:
        UserError: a training failed, or ``out`` cannot be written.
    """
    began = time.monotonic()
    steps = SMOKE_STEPS if smoke else TrainConfig.steps
    print(f"Two teams of six agents learn to keep an office in Tucson at 22 °C, {steps:,} steps each, side by side:")
    print("  QMIX-TV  prepares for a world that differs from Tucson (total variation, rho 0.2)")
    print("  QMIX     believes its simulator")
    print("Both are then scored in six cities, 50 days each; neither has seen a city but Tucson.", flush=True)
    swept = sweep(plan(steps), out=out)
    if swept.failures:
        raise UserError("; ".join(f"{point}: {error}" for point, error in swept.failures.items()))
    evaluations = {team.label: Evaluation("climate", swept.scores[team.folder]) for team in TEAMS}
    rows = table_rows(evaluations)
    print(f"\n{fitting_table(rows, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)}")
    print(f"\n{note(smoke)}\n", flush=True)
    cache_compilations()
    files = write_report(out, evaluations, day([swept.run(team.folder) for team in TEAMS]), smoke=smoke)
    print(f"\nIn {out}:")
    for path, what in (
        (files.page, "all of this on one page"),
        (files.bars, "the scores"),
        (files.day, "the coldest of the 50 days in the worst city, both teams"),
        (files.scores, "the table as JSON"),
        *((out / team.folder, f"the {team.label} run; drigm evaluate {out / team.folder}") for team in TEAMS),
    ):
        print(f"  {path.name:<12} {what}")
    print(f"Done in {duration(time.monotonic() - began)}.")
    if not smoke:
        open_page(files.page)
    return files


def plan(steps: int) -> dict[str, object]:
    """Return the sweep of both teams: the default configuration, but for what is named here."""
    base = {"env": "building:OfficeSmall/Tucson", "factorization": "qmix", "steps": steps}
    points = {team.folder: {"uncertainty": team.method, "rho": team.rho} for team in TEAMS}
    return {"name": "demo", "base": base, "points": points, "evaluate": {"shifts": "climate"}}


def day(runs: Sequence[Run]) -> Section:
    """Return the report's section on the coldest protocol day in the worst city, as each team lived it."""
    from drigm.report.sections.building_day import day_section  # matplotlib: a second that nobody need wait for before
    from drigm.report.study import collect

    (study,) = collect(runs, "climate")
    section = day_section(study)
    assert section is not None  # it is a building
    return section


def fresh_directory(asked: Path | None) -> Path:
    """Return a path that does not exist or is empty: ``asked``, one named after it, or a new one under runs/."""
    now = time.strftime("%Y%m%d-%H%M%S")
    dated = Path("runs") / f"demo-{now}"
    if asked is not None:
        dated = asked.parent / f"{asked.name}-{now}" if asked.name else Path(f"{os.path.abspath(asked)}-{now}")
    numbered = (dated.with_name(f"{dated.name}-{i}") for i in itertools.count(2))
    free = (p for p in itertools.chain([asked] if asked else [], [dated], numbered) if _is_free(p))
    path = next(free)
    if asked is not None and path != asked:
        print(f"{asked} is not empty, so this goes to {path}.")
    return path


def _is_free(path: Path) -> bool:
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def table_rows(evaluations: Mapping[str, Evaluation]) -> list[dict[str, object]]:
    """Return the table: both teams, the paper, the authors' networks, and the controllers; one column per city."""
    rows = [{"": f"{team.label}, this demo", **scores_by_world(evaluations[team.label].scores)} for team in TEAMS]
    for source, look_up in (("paper", paper_score), ("authors' networks", authors_score)):
        for team in TEAMS:
            found = {city: look_up(city, "qmix", team.method) for city in CITIES}
            rows.append({"": f"{team.label}, {source}", **{c: Score(*r) for c, r in found.items() if r is not None}})
    for controller in CONTROLLERS:
        rows.append({"": TITLES[controller], **{city: Score(controller_score(city, controller)) for city in CITIES}})
    return rows


def fitting_table(rows: list[dict[str, object]], width: int | None) -> str:
    """Return the table as text, without standard errors if it is wider than ``width`` columns with them."""
    text = format_table(rows, HEADINGS)
    if width is None or max(map(len, text.splitlines())) <= width:
        return text
    plain = [{k: v._replace(se=math.nan) if isinstance(v, Score) else v for k, v in row.items()} for row in rows]
    return (
        format_table(plain, HEADINGS) + "\n(This terminal is too narrow for the standard errors; the files have them.)"
    )


def note(smoke: bool) -> str:
    """Return what a reader must know about the table."""
    if smoke:
        return f"A smoke run: {SMOKE_STEPS:,} steps teach a team little; that every part works is all it shows."
    return (
        "Paper, authors' networks: mean and standard error of 5 seeds. The demo trains one seed of each team,\n"
        "and seeds differ by more than such teams do: one pair cannot rank them. README.md has means over seeds."
    )


def write_report(out: Path, evaluations: Mapping[str, Evaluation], day: Section, *, smoke: bool) -> Files:
    """Write the bar chart, the day, the scores as JSON, and a page that shows everything; return the files."""
    from drigm.report.figures.charts import shift_bars
    from drigm.report.figures.style import save
    from drigm.report.html import figure_html, paragraph, table_html, write_page

    files = Files(out / "report.html", out / "scores.png", out / "day.png", out / "scores.json")
    bars = {label: scores_by_world(evaluation.scores) for label, evaluation in evaluations.items()}
    for team in TEAMS:
        found = {city: authors_score(city, "qmix", team.method) for city in CITIES}
        bars[f"{team.label}, authors' networks"] = {c: Score(*r) for c, r in found.items() if r is not None}
    title = f"A smoke run of {SMOKE_STEPS:,} steps: both teams have hardly begun" if smoke else None
    chart = shift_bars(bars, title=title)
    save(chart, files.bars, dpi=150)
    for figure in day.figures.values():
        save(figure, files.day, dpi=150)
    rows = table_rows(evaluations)
    write_text(files.scores, json.dumps({"smoke": smoke, "rows": [_plain(row) for row in rows]}, indent=2))
    alt = f"Score of each team in {', '.join(map(spaced, CITIES))}; the numbers stand in the table below"
    body = figure_html(chart, alt) + table_html(rows, HEADINGS) + paragraph(note(smoke))
    lead = "A robust and an ordinary team learnt side by side, and met five cities that they had never seen."
    sections = [Section("Scores", "scores", body), day]
    write_page(files.page, "Trained in Tucson, scored in six cities", lead, sections)
    return files


def _plain(row: Mapping[str, object]) -> dict[str, object]:
    """A row of the table for JSON, which has no nan."""
    scores = {name: value for name, value in row.items() if isinstance(value, Score)}
    cells = {city: {"mean": s.mean, "se": None if math.isnan(s.se) else s.se} for city, s in scores.items()}
    return {"name": row[""], **cells}


def open_page(page: Path) -> None:
    """Show ``page`` in a browser if somebody sits at this machine's screen; the path is printed anyway."""
    screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.stdout.isatty() and screen and "SSH_CONNECTION" not in os.environ:
        webbrowser.open(page.resolve().as_uri())
