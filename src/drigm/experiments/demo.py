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
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from drigm.core.config import TrainConfig
from drigm.core.errors import UserError, as_path
from drigm.envs.building import dataset, simulator
from drigm.envs.shifts import shift_suite
from drigm.evaluation.evaluate import Evaluation, evaluate, greedy_day
from drigm.evaluation.published import CONTROLLERS, authors_score, controller_score, paper_score
from drigm.experiments.processes import Task, TaskError, train_side_by_side
from drigm.report.tables import Score, format_table
from drigm.runtime import interrupts
from drigm.runtime.devices import cache_compilations, use_cores
from drigm.runtime.files import write_text
from drigm.training.runs import Run, load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CITIES = tuple(dataset.PROTOCOL_CITIES)
DAY_CITY = "NewYork"  # the coldest of the six on the protocol's days
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
    """Run the demo; returns 0, 1 if a training failed, 2 for bad input, 130 when interrupted."""
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
    except TaskError as failure:
        print(f"drigm demo: {failure}", file=sys.stderr)
        return 2 if failure.code == 2 else 1
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
        TaskError: a training failed.
        UserError: ``out`` cannot be written.
    """
    began = time.monotonic()
    steps = SMOKE_STEPS if smoke else TrainConfig.steps
    print(f"Two teams of six agents learn to keep an office in Tucson at 22 °C, {steps:,} steps each, side by side:")
    print("  QMIX-TV  prepares for a world that differs from Tucson (total variation, rho 0.2)")
    print("  QMIX     believes its simulator", flush=True)
    train_side_by_side([Task(team.label, train_arguments(team, out, steps)) for team in TEAMS])

    print("\nScoring both in six cities, 50 days each; neither has seen a city but Tucson.", flush=True)
    use_cores()
    cache_compilations()
    runs = {team.label: load_run(out / team.folder) for team in TEAMS}
    evaluations = {label: evaluate(run) for label, run in runs.items()}
    rows = table_rows(evaluations)
    print(f"\n{fitting_table(rows, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)}")
    print(f"\n{note(smoke)}", flush=True)
    files = write_report(out, evaluations, draw_day(runs, out), smoke=smoke)
    print(f"\nIn {out}:")
    for path, what in (
        (files.page, "all of this on one page"),
        (files.bars, "the scores"),
        (files.day, f"the coldest of the 50 days in {spaced(DAY_CITY)}, both teams"),
        (files.scores, "the table as JSON"),
        *((out / team.folder, f"the {team.label} run; drigm evaluate {out / team.folder}") for team in TEAMS),
    ):
        print(f"  {path.name:<12} {what}")
    seconds = round(time.monotonic() - began)
    print(f"Done in {seconds // 60} min {seconds % 60} s.")
    if not smoke:
        open_page(files.page)
    return files


def train_arguments(team: Team, out: Path, steps: int) -> list[str]:
    """Return the arguments of ``drigm train`` for ``team``: the default configuration, but for what is named here."""
    robust = ["--uncertainty", team.method, *(["--rho", f"{team.rho:g}"] if team.rho else [])]
    env = ["--env", "building:OfficeSmall/Tucson", "--factorization", "qmix"]
    return ["--out", str(out / team.folder), "--steps", str(steps), *env, *robust]


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
    """Return the table: both teams, the paper, the authors' networks, and the two controllers; one column per city."""
    rows = [{"": f"{team.label}, this demo", **_scores(evaluations[team.label])} for team in TEAMS]
    for source, look_up in (("paper", paper_score), ("authors' networks", authors_score)):
        for team in TEAMS:
            found = {city: look_up(city, "qmix", team.method) for city in CITIES}
            rows.append({"": f"{team.label}, {source}", **{c: Score(*r) for c, r in found.items() if r is not None}})
    for controller in CONTROLLERS:
        name = controller.replace("_", " ").replace("one step", "one-step")
        rows.append({"": name, **{city: Score(controller_score(city, controller)) for city in CITIES}})
    return rows


def _scores(evaluation: Evaluation) -> dict[str, Score]:
    """A team's scores by city; one seed has no standard error."""
    return {s.name: Score(s.mean, s.se if len(s.per_seed) > 1 else math.nan) for s in evaluation.scores}


def fitting_table(rows: list[dict[str, object]], width: int | None) -> str:
    """Return the table as text, without standard errors if it is wider than ``width`` columns with them."""
    headings = {"": "score", **{city: spaced(city) for city in CITIES}}
    text = format_table(rows, headings)
    if width is None or max(map(len, text.splitlines())) <= width:
        return text
    plain = [{k: v._replace(se=math.nan) if isinstance(v, Score) else v for k, v in row.items()} for row in rows]
    return (
        format_table(plain, headings) + "\n(This terminal is too narrow for the standard errors; the files have them.)"
    )


def note(smoke: bool) -> str:
    """Return what a reader must know about the table."""
    if smoke:
        return f"A smoke run: {SMOKE_STEPS:,} steps teach a team little; that every part works is all it shows."
    return (
        "Paper, authors' networks: mean and standard error of 5 seeds. The demo trains one seed of each team,\n"
        "and seeds differ by more than such teams do: one pair cannot rank them. README.md has means over seeds."
    )


def draw_day(runs: Mapping[str, Run], out: Path) -> Path:
    """Draw the coldest protocol day in `DAY_CITY` as each team lived it."""
    from drigm.report.figures.style import save

    env = next(iter(runs.values())).env
    params = next(shift.params for shift in shift_suite(env, "climate") if shift.name == DAY_CITY)
    episode, outdoor = coldest_day(np.asarray(params.out_temp))
    levels = np.asarray(env.spec.action_values)
    lived = {}
    for label, run in runs.items():
        agents = jax.tree.map(lambda x: x[0], run.weights().agents)
        timesteps, actions = greedy_day(env, agents, params, episode)
        lived[label] = np.asarray(timesteps.obs)[:, :, 0], levels[np.asarray(actions)]
    return save(day_figure(env.spec.agents, episode, outdoor, lived), out / "day.png", dpi=150)


def day_figure(
    agents: Sequence[str], episode: int, outdoor: np.ndarray, lived: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> Figure:
    """Return the picture of protocol episode ``episode`` in `DAY_CITY`.

    Args:
        agents: the zones' names.
        episode: its number.
        outdoor: [T] outdoor temperature in C.
        lived: per team, the zones' temperatures in C and the powers, both [T, N].
    """
    from drigm.report.figures.charts import BuildingDay, PolicyDay, building_day

    policies = [PolicyDay(label, *arrays) for label, arrays in lived.items()]
    zones = [name.replace("_ZN", "").replace("_", " ").capitalize() for name in agents]
    day = BuildingDay(DAY_CITY, zones, np.arange(len(outdoor)) * 24 / len(outdoor), outdoor, policies)
    number = int(simulator.PROTOCOL_DAYS[episode]) + 1
    return building_day(
        day, title=f"Day {number} of the year in {spaced(DAY_CITY)}, the coldest of the 50 it is scored on"
    )


def coldest_day(out_temp: np.ndarray) -> tuple[int, np.ndarray]:
    """Return which protocol episode has the lowest mean outdoor temperature, and its course [288] in C.

    ``out_temp`` is the year's series of the city, in C.
    """
    options = simulator.BuildingOptions()
    starts = simulator.day_starts(options)[simulator.PROTOCOL_DAYS]
    days = out_temp[(starts[:, None] + np.arange(options.episode_len)) % len(out_temp)]
    coldest = int(days.mean(axis=1).argmin())
    return coldest, days[coldest]


def write_report(out: Path, evaluations: Mapping[str, Evaluation], day: Path, *, smoke: bool) -> Files:
    """Write the bar chart, the scores as JSON, and a page that shows everything; return the files."""
    from drigm.report.figures.charts import shift_bars
    from drigm.report.figures.style import save
    from drigm.report.html import Section, figure_html, paragraph, table_html, write_page

    files = Files(out / "report.html", out / "scores.png", day, out / "scores.json")
    bars = {label: _scores(evaluation) for label, evaluation in evaluations.items()}
    for team in TEAMS:
        found = {city: authors_score(city, "qmix", team.method) for city in CITIES}
        bars[f"{team.label}, authors' networks"] = {c: Score(*r) for c, r in found.items() if r is not None}
    title = f"A smoke run of {SMOKE_STEPS:,} steps: both teams have hardly begun" if smoke else None
    chart = shift_bars(bars, title=title)
    save(chart, files.bars, dpi=150)
    rows = table_rows(evaluations)
    write_text(files.scores, json.dumps({"smoke": smoke, "rows": [_plain(row) for row in rows]}, indent=2))
    headings = {"": "score", **{city: spaced(city) for city in CITIES}}
    cities = ", ".join(f"{spaced(s.name)}" for s in next(iter(evaluations.values())).scores)
    scores = Section(
        "Scores",
        "scores",
        figure_html(chart, f"Score of each team in {cities}; the numbers stand in the table below")
        + table_html(rows, headings)
        + paragraph(note(smoke)),
    )
    alt = f"Zone temperatures and powers of both teams on a cold day in {spaced(DAY_CITY)}"
    sections = [scores, Section("The coldest day", "day", figure_html(day, alt))]
    lead = "A robust and an ordinary team learnt side by side, and met five cities that they had never seen."
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


def spaced(city: str) -> str:
    """Return ``New York`` for ``NewYork``."""
    return {"NewYork": "New York", "ElPaso": "El Paso", "PortAngeles": "Port Angeles"}.get(city, city)
