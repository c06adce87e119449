"""The demo: a plain and an adapting team learn in Tucson, and meet heat that their simulator did not have.

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
import shlex
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
from drigm.envs import make_env
from drigm.envs.building.dataset import PROTOCOL_CITIES
from drigm.envs.energyplus.engine import has_engine
from drigm.envs.shifts import shift_suite, worlds
from drigm.evaluation.controllers import TITLES, controller_scores
from drigm.evaluation.evaluate import evaluate
from drigm.evaluation.published import CONTROLLERS, controller_score, paper_score
from drigm.evaluation.scores import ShiftScore
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


HEAT = 0.2  # of a zone's full power, 1.6 kW: twice what the adapting team has met in training
OFFICE = "energyplus:OfficeSmall/Tucson?gains=office"


class Team(NamedTuple):
    """One of the two teams, and what its training has beyond the defaults."""

    label: str
    folder: str
    settings: Mapping[str, str]


TEAMS = (
    Team("VDN", "plain", {"factorization": "vdn"}),
    Team("VDN, adapting", "adapting", {"factorization": "vdn", "preset": "adapting"}),
)
BESIDE = ("pi", "pi_tuned")  # the controllers that meet the heat too


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
    print(f"Two teams of six agents learn to keep an office in Tucson at 22 °C, {steps:,} steps each:")
    print("  VDN            believes its simulator")
    print("  VDN, adapting  learns in the worst of 64 worlds that stay for a day, and moves from its last action")
    print("Both are then scored in six cities, 50 days each, as simulated and with heat that the simulator lacks.")
    print("Beside them the controller on the wall, PI, which learns nothing.", flush=True)
    swept = sweep(plan(steps), out=out)
    if swept.failures:
        raise UserError("; ".join(f"{point}: {error}" for point, error in swept.failures.items()))
    cache_compilations()
    runs = [swept.run(team.folder) for team in TEAMS]
    scores = {team.label: swept.scores[team.folder] for team in TEAMS}
    rows = table_rows(scores, heated_controllers(runs[0]), in_energyplus(runs))
    print(f"\n{fitting_table(rows, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)}")
    print(f"\n{note(smoke)}\n", flush=True)
    files = write_report(out, scores, rows, day(runs), smoke=smoke)
    print(f"\nIn {out}:")
    for path, what in (
        (files.page, "all of this on one page"),
        (files.bars, "the scores"),
        (files.day, "the coldest of the 50 days in the worst city, with that heat, both teams"),
        (files.scores, "the table as JSON"),
        *(
            (out / team.folder, f"the {team.label} run; drigm evaluate {shlex.quote(str(out / team.folder))}")
            for team in TEAMS
        ),
    ):
        print(f"  {path.name:<12} {what}")
    print(f"Done in {duration(time.monotonic() - began)}.")
    if not smoke:
        open_page(files.page)
    return files


def plan(steps: int) -> dict[str, object]:
    """Return the sweep of both teams: the default configuration, but for what is named here."""
    base = {"env": "building:OfficeSmall/Tucson", "steps": steps}
    points = {team.folder: dict(team.settings) for team in TEAMS}
    evaluate = {"shifts": "climate", "perturb": f"gains=0,{HEAT:g}"}
    return {"name": "demo", "base": base, "points": points, "evaluate": evaluate}


def heated_controllers(run: Run) -> dict[str, dict[str, float]]:
    """Return what the controllers score in each city with the heat."""
    env, tried = worlds(run.env, "climate", {"gains": [HEAT]})
    found = controller_scores(env, tried, BESIDE, run.env)
    return {name: dict(zip(CITIES, map(float, scores), strict=True)) for name, scores in found.items()}


def in_energyplus(runs: Sequence[Run]) -> dict[str, float]:
    """Return the scores of teams and controllers on one day of the occupied office in EnergyPlus; {} without it."""
    if not has_engine():
        return {}
    env = make_env(OFFICE)
    env = env._replace(eval_seeds=env.eval_seeds[:1], num_eval_episodes=1)
    found = {
        team.label: evaluate(run, "nominal", env=env, controllers=False).scores[0].mean
        for team, run in zip(TEAMS, runs, strict=True)
    }
    beside = controller_scores(env, shift_suite(env, "nominal"), BESIDE, runs[0].env)
    return found | {TITLES[name]: float(scores[0]) for name, scores in beside.items()}


def day(runs: Sequence[Run]) -> Section:
    """Return the report's section on the coldest day in the worst city, with the heat, as each team lived it."""
    from drigm.report.sections.building_day import day_section  # matplotlib: a second that nobody need wait for before
    from drigm.report.study import collect

    (study,) = collect(runs, "climate")
    assert study.env.vary is not None
    named = {team.folder: team.label for team in TEAMS}
    methods = [method._replace(label=named[method.runs[0].path.name]) for method in study.methods]
    section = day_section(study._replace(env=study.env.vary({"gains": HEAT}), methods=methods))
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


def table_rows(
    scores: Mapping[str, Sequence[ShiftScore]],
    heated: Mapping[str, Mapping[str, float]],
    energyplus: Mapping[str, float],
) -> list[dict[str, object]]:
    """Return the table: teams and controllers as simulated, with the heat, and on a day in EnergyPlus, by city."""
    rows: list[dict[str, object]] = [{"": label, **_by_city(found, "0")} for label, found in scores.items()]
    rows.append({"": "VDN-TV, the paper's", **_paper("vdn", "tv")})
    for name in CONTROLLERS:
        rows.append({"": TITLES[name], **{city: Score(controller_score(city, name)) for city in CITIES}})
    rows += [{"": f"{label}, with heat", **_by_city(found, f"{HEAT:g}")} for label, found in scores.items()]
    rows += [
        {"": f"{TITLES[name]}, with heat", **{city: Score(x) for city, x in found.items()}}
        for name, found in heated.items()
    ]
    return rows + [{"": f"{label}, EnergyPlus", CITIES[0]: Score(x)} for label, x in energyplus.items()]


def _by_city(found: Sequence[ShiftScore], strength: str) -> dict[str, Score]:
    """Return the scores of the worlds with that much heat, by city."""
    here = [score for score in found if score.name.endswith(f", gains={strength}")]
    cells = scores_by_world(here).values()
    return {score.name.partition(",")[0]: cell for score, cell in zip(here, cells, strict=True)}


def _paper(factorization: str, method: str) -> dict[str, Score]:
    found = {city: paper_score(city, factorization, method) for city in CITIES}
    return {city: Score(*score) for city, score in found.items() if score is not None}


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
        f"With heat: {100 * HEAT:g} % of full power in every zone, which no reading shows. EnergyPlus: one day,\n"
        "occupied, where it is installed. The demo trains one seed of each team; results/transfer has the means."
    )


def write_report(
    out: Path, scores: Mapping[str, Sequence[ShiftScore]], rows: list[dict[str, object]], day: Section, *, smoke: bool
) -> Files:
    """Write the bar chart, the day, the scores as JSON, and a page that shows everything; return the files."""
    from drigm.report.figures.charts import shift_bars
    from drigm.report.figures.style import save
    from drigm.report.html import figure_html, paragraph, table_html, write_page

    files = Files(out / "report.html", out / "scores.png", out / "day.png", out / "scores.json")
    bars = {label: _by_city(found, f"{HEAT:g}") for label, found in scores.items()} | {TITLES[BESIDE[0]]: _heated(rows)}
    title = f"With heat of {100 * HEAT:g} % of full power in every zone that the simulator lacks"
    if smoke:
        title = f"A smoke run of {SMOKE_STEPS:,} steps: both teams have hardly begun"
    chart = shift_bars(bars, title=title)
    save(chart, files.bars, dpi=150)
    for figure in day.figures.values():
        save(figure, files.day, dpi=150)
    write_text(files.scores, json.dumps({"smoke": smoke, "rows": [_plain(row) for row in rows]}, indent=2))
    alt = f"Score with heat of each team and of PI in {', '.join(map(spaced, CITIES))}; the table below has the numbers"
    said = "".join(map(paragraph, summary(scores, bars, smoke)))
    short = Section("In short", "summary", said + figure_html(chart, alt))
    table = Section("Scores", "scores", table_html(rows, HEADINGS) + paragraph(note(smoke)))
    lead = "A plain and an adapting team learnt in Tucson, and met five other cities and heat that nobody told them of."
    command = f"python -m drigm.demo{' --smoke' if smoke else ''} --out {shlex.quote(str(out))}"
    write_page(files.page, "Trained in Tucson, deployed elsewhere", lead, [short, table, day], command)
    return files


def summary(
    scores: Mapping[str, Sequence[ShiftScore]], heated: Mapping[str, Mapping[str, Score]], smoke: bool
) -> list[str]:
    """Return what was compared, how it held, and whether it paid, a sentence each."""
    home = {label: _over_cities(_by_city(found, "0")) for label, found in scores.items()}
    hot = {label: _over_cities(found) for label, found in heated.items()}
    plain, adapting = (team.label for team in TEAMS)
    teams = "; ".join(f"{label} from {x:.3f} to {hot[label]:.3f}" for label, x in home.items())
    pi = TITLES[BESIDE[0]]
    kept = "held better" if hot[adapting] > hot[plain] else "did not hold better"
    best = "above" if hot[adapting] > hot[pi] else "below"
    paid = f"{adapting} {kept} than {plain} and is {best} {pi}; one seed of each shows it and proves nothing."
    return [
        f"Two teams trained for {'a smoke run' if smoke else f'{TrainConfig.steps:,} steps'} in Tucson, one seed each, "
        f"and {pi}, which learns nothing, played 50 days in each of six cities, as simulated and with heat in every "
        "zone that no reading shows.",
        f"Mean score over the cities, as simulated and with the heat: {teams}; {pi} {hot[pi]:.3f} with it.",
        f"A smoke run teaches nothing: {paid}" if smoke else paid,
    ]


def _over_cities(found: Mapping[str, Score]) -> float:
    return math.fsum(score.mean for score in found.values()) / len(found)


def _heated(rows: Sequence[Mapping[str, object]]) -> dict[str, Score]:
    """Return PI's row with the heat, by city."""
    row = next(row for row in rows if row[""] == f"{TITLES[BESIDE[0]]}, with heat")
    return {city: score for city, score in row.items() if isinstance(score, Score)}


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
