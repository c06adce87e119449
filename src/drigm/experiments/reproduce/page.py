"""One page, and the same numbers as files, out of everything that was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from drigm.evaluation import statistics as st
from drigm.evaluation.controllers import write_controllers
from drigm.experiments.reproduce import figures
from drigm.experiments.reproduce.compare import (
    beside_paper,
    controllers_beside,
    every_world,
    in_table,
    limit_of,
    plain,
    summary,
    worlds_of,
)
from drigm.experiments.reproduce.runner import Outcome, Scored, write_scores, write_timings
from drigm.experiments.reproduce.studies import SEASON
from drigm.experiments.reproduce.summary import summary_section
from drigm.experiments.reproduce.verdicts import (
    Against,
    authors_sets,
    counted,
    note,
    question_rows,
    questions,
    sets_compared,
    untrained,
    world_rows,
)
from drigm.report.figures.aggregates import aggregate_columns, limit_told, profile_alt, profiles
from drigm.report.figures.curves import world_name
from drigm.report.figures.style import score_axis
from drigm.report.html import Html, Section, escape, figure_html, paragraph, save_figures, table_html, write_page
from drigm.report.tables import markdown_table
from drigm.runtime.files import write_text
from drigm.verification.verify import Verification

SETS_TOLD = (
    "TV less contamination, each at its radius in the paper's table, so not at equal radii: contamination's are small. "
    "`*`: the 95 % interval over seeds (Welch's) leaves out 0. Tucson is home. Below, the same of the authors' "
    "released networks, from their means and standard errors over five seeds."
)
SEASON_TOLD = (
    "The paper's column 'seasonal' is no shift: it is Tucson, the training city, on days 0 to 199, from which training "
    "draws too. The suite `season` shifts the season: Tucson, 50 days each of winter (334 to 58), spring (59 to 150), "
    "summer (151 to 242) and autumn (243 to 333); training has seen none of autumn."
)
NO_SEASON = " The runs of this study were not scored in it."


class Files(NamedTuple):
    """What a reproduction leaves."""

    page: Path
    table: Path
    scores: Path
    timing: Path
    marl_eval: Path


def write_outcome(out: Path, scale: str, outcome: Outcome, verification: Verification | str | None) -> Files:
    """Write the page, its figures, and the tables as Markdown, CSV and marl-eval's JSON into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    write_scores(outcome, out / "scores.csv")
    write_timings(outcome, out / "timing.csv")
    played = [*outcome.of("climate"), *outcome.of("noise")]
    write_text(out / "marl_eval.json", json.dumps(st.marl_eval_json(records(played))))
    return write_tables(out, scale, outcome, verification)


def write_tables(out: Path, scale: str, outcome: Outcome, verification: Verification | str | None) -> Files:
    """Write the page, its figures and the tables as Markdown into ``out``, beside the scores that are there."""
    files = Files(out / "report.html", out / "table.md", out / "scores.csv", out / "timing.csv", out / "marl_eval.json")
    buildings, battles = outcome.of("climate"), outcome.of("noise")
    if beside := controllers_beside(buildings):
        write_controllers(out / "controllers.csv", beside)
    write_text(files.table, markdown(buildings, battles, verification, outcome.of(SEASON)))
    sections = page_sections(outcome, verification)
    command = f"drigm reproduce paper{'' if scale == 'paper' else f' --scale {scale}'}"
    write_page(files.page, "The paper, reproduced", lead(scale, outcome), sections, command)
    save_figures(sections, out / "figures")
    return files


def lead(scale: str, outcome: Outcome) -> str:
    """Return what the page is about, in two sentences."""
    runs, seconds = (sum(getattr(t, name) for t in outcome.timings) for name in ("runs", "seconds"))
    small = " A smoke run: every part works, no team has learnt enough to mean anything." if scale == "smoke" else ""
    return f"{runs} runs trained and scored in {seconds / 60:.0f} minutes, scale {scale}.{small}"


def page_sections(outcome: Outcome, verification: Verification | str | None) -> list[Section]:
    """Return the sections for whatever was trained."""
    buildings, battles = outcome.of("climate"), outcome.of("noise")
    sections = []
    if buildings or battles:
        sections.append(summary_section(buildings or battles))
    if buildings:
        sections += [_paper(buildings), _environments(buildings), _verdicts("buildings", buildings)]
        sections += [_sets(buildings), _season(outcome.of(SEASON)), _aggregates("buildings", buildings)]
        sections += _radii(buildings)
    if battles:
        sections += [_battles(battles), _verdicts("battles", battles), _aggregates("battles", battles)]
    if verification is not None:
        sections.append(Section("The counterexample", "counterexample", Html(f"<pre>{escape(verification)}</pre>")))
    if outcome.timings:
        sections.append(_timing(outcome))
    return sections


def _headed(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the columns of rows that Markdown shows too, under headings as the rest of the page has them."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: key if key.startswith("drigm") else world_name(key[:1].upper() + key[1:]) for key in keys}


def _timing(outcome: Outcome) -> Section:
    rows = [{"group": t.group, "runs": t.runs, "minutes": t.seconds / 60} for t in outcome.timings]
    rows.append({"group": "all", **{name: sum(row[name] for row in rows) for name in ("runs", "minutes")}})
    rows.append({"group": "of them the paper's main table", **table_time(outcome)})
    said = paragraph(
        "Training and scoring, compilation included, on this machine, with whatever else ran on it.",
        "Of a group with more radii than the table's, its runs count as their share.",
    )
    return Section("How long it took", "timing", said + table_html(rows, _headed(rows)))


def table_time(outcome: Outcome) -> dict[str, float]:
    """Return the runs of the paper's main table, and their minutes."""
    seconds = {t.group: t.seconds / t.runs for t in outcome.timings}
    found = [(name, len(one.seeds)) for name, group in outcome.scored.items() for one in group if in_table(one)]
    return {"runs": sum(k for _, k in found), "minutes": sum(seconds[name] * k for name, k in found) / 60}


def markdown(
    buildings: Sequence[Scored],
    battles: Sequence[Scored],
    verification: Verification | str | None,
    seasons: Sequence[Scored] = (),
) -> str:
    """Return all tables as Markdown."""
    parts = []
    if buildings:
        parts += ["## Beside the paper\n", markdown_table(plain(beside_paper(buildings)))]
        parts += ["\n## Every city\n", markdown_table(every_world(buildings))]
        parts += ["\n## Did robustness pay?\n", _questions_text(buildings)]
        parts += ["\n## TV against contamination\n", f"{SETS_TOLD}\n", markdown_table(_sets_rows(buildings))]
        parts += ["\n## Seasons\n", f"{SEASON_TOLD}{'' if seasons else NO_SEASON}"]
        parts += ["", markdown_table(every_world(seasons))] if seasons else []
        parts += ["\n## Statistics\n", _aggregates_text(buildings)]
    if battles:
        parts += ["\n## Battles under noise\n", markdown_table(every_world(battles))]
        parts += ["\n## Did robustness pay in battles?\n", _questions_text(battles)]
        parts += ["\n## Statistics of the battles\n", _aggregates_text(battles)]
    if verification is not None:
        parts += ["\n## The counterexample\n", f"```\n{verification}\n```"]
    return "\n".join(parts)


def _questions_text(scored: Sequence[Scored]) -> str:
    asked = questions(scored)
    tables = [markdown_table(plain(question_rows(asked))), markdown_table(world_rows(asked))]
    between = "In every world (`*`: the interval leaves out 0):"
    return "\n\n".join([_answers(scored, asked).replace("\n", " "), tables[0], between, tables[1]])


def _answers(scored: Sequence[Scored], asked: Sequence[Against]) -> str:
    missing = untrained(scored)
    left = f" The plain discount gamma (1 - rho) was not trained for {', '.join(missing)}." if missing else ""
    return f"{counted(asked)}\n{note(asked)}{left}"


def _aggregates_text(scored: Sequence[Scored]) -> str:
    rows = summary(scored)
    return markdown_table(plain(rows), aggregate_columns(rows))


def records(scored: Sequence[Scored]) -> list[st.SeedRecord]:
    """Return every final score in marl-eval's terms: a world is a task, the whole training one step count."""
    found = []
    for one in scored:
        config = one.config
        for world in one.evaluation.scores:
            for seed, score in zip(one.seeds, world.per_seed, strict=True):
                values = {"score": [score]}
                environment = config.env.partition(":")[0]
                algorithm = one.title.replace(",", "")  # marl-eval allows no comma
                record = st.SeedRecord(environment, world.name, algorithm, seed, [config.steps], values, values)
                found.append(record)
    return found


def _paper(buildings: Sequence[Scored]) -> Section:
    said = paragraph(
        "Each cell of the paper's main table, what its authors' released networks score in our simulator, and what",
        "drigm trains with the same budget and protocol. Paper and networks: mean and standard error of five seeds;",
        "drigm: mean with 95 % interval.",
    )
    caption = "Every method in every city: mean and standard error over seeds. The last five rows learn nothing."
    cities, cells = every_world(buildings), beside_paper(buildings)
    tables = table_html(cells, _headed(cells)) + table_html(cities, _headed(cities), caption=caption)
    return Section("Beside the paper", "paper", said + tables)


def _environments(buildings: Sequence[Scored]) -> Section:
    figure = figures.environments(buildings)
    body = figure_html(
        figure, "Scores in environments 1 to 6, by factorization and method", "Bands: 95 % intervals over seeds."
    )
    return Section("Environments 1 to 6", "environments", body, {"environments": figure})


def _radii(buildings: Sequence[Scored]) -> list[Section]:
    """A section for each factorization with at least two radii of one set besides 0."""
    sections = []
    for factorization in dict.fromkeys(one.config.factorization for one in buildings):
        if max(figures.radii_of(buildings, factorization).values(), default=0) < 3:
            continue
        cities = worlds_of(buildings[0])
        about = {"Tucson (training)": cities.index("Tucson"), "New York": cities.index("NewYork"), "worst city": None}
        figure = figures.radii(buildings, factorization, about)
        body = figure_html(
            figure, f"Score of {factorization.upper()} against the radius", "Bands: 95 % intervals over seeds."
        )
        name = f"radii-{factorization}"
        sections.append(Section(f"The radius, {factorization.upper()}", name, body, {name: figure}))
    return sections


def _battles(battles: Sequence[Scored]) -> Section:
    drawn = {"noise": figures.noise(battles), "radius": figures.battle_radii(battles)}
    said = paragraph(
        f"{battles[0].config.env}, 512 greedy battles in each world.",
        "Rewards are positive, so the fail value is 0 and contamination is the plain discount gamma (1 - rho) itself:",
        "robust methods stand against it where they stand against the discount.",
    )
    body = said + figure_html(drawn["noise"], "Battles won against the noise", "Bands: 95 % intervals over seeds.")
    body += figure_html(drawn["radius"], "Battles won against the radius, for each noise")
    worlds = every_world(battles)
    return Section("Battles under noise", "battles", body + table_html(worlds, _headed(worlds)), drawn)


def _verdicts(where: str, scored: Sequence[Scored]) -> Section:
    asked = questions(scored)
    body = "".join(map(paragraph, _answers(scored, asked).splitlines()))
    rows, worlds = question_rows(asked, html=True), world_rows(asked)
    body += table_html(rows, _headed(rows)) + table_html(
        worlds, _headed(worlds), caption="The same in every world; *: the interval leaves out 0."
    )
    return Section(f"Did robustness pay in {where}?", f"verdicts-{where}", body)


def _sets_rows(buildings: Sequence[Scored]) -> list[dict[str, Any]]:
    compared = sets_compared(buildings)
    return [*world_rows(compared), *(authors_sets(worlds_of(buildings[0])) if compared else [])]


def _sets(buildings: Sequence[Scored]) -> Section:
    rows = _sets_rows(buildings)
    table = (
        table_html(rows, _headed(rows)) if rows else paragraph("The two were not trained for the same factorization.")
    )
    return Section("TV against contamination", "sets", paragraph(SETS_TOLD.replace("`", "")) + table)


def _season(seasons: Sequence[Scored]) -> Section:
    said = paragraph((SEASON_TOLD + ("" if seasons else NO_SEASON)).replace("`", ""))
    worlds = every_world(seasons)
    return Section("Seasons", SEASON, said + (table_html(worlds, _headed(worlds)) if worlds else Html()))


def _aggregates(where: str, scored: Sequence[Scored]) -> Section:
    """Every method over all seeds and worlds: a table, and profiles by factorization."""
    rows = summary(scored)
    panels = figures.profile_panels(scored)
    figure = profiles(panels, xlabel=score_axis(scored[0].config.env))
    lead = "Over seeds and worlds, with 95 % intervals over whole seeds."
    body = paragraph(lead, limit_told(limit_of(scored)))
    body += table_html(rows, aggregate_columns(rows))
    body += figure_html(figure, profile_alt(panels), "Performance profiles; bands are pointwise 95 % intervals.")
    name = f"statistics-{where}"
    return Section(f"Statistics of the {where}", name, body, {f"profiles-{where}": figure})
