"""Sections on the runs themselves: what was run, how it learnt, whether its greedy agents are its greedy team."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drigm.core.errors import UserError
from drigm.core.naming import duration
from drigm.report.figures.curves import leaders, learning_bands
from drigm.report.figures.learning_curve import learning_band
from drigm.report.figures.style import score_axis
from drigm.report.html import Html, Section, escape, figure_html, paragraph, slug, table_html
from drigm.report.study import NAMED, Method, Study, changed
from drigm.runtime.progress import Progress
from drigm.training.runs import Run
from drigm.verification.greedy_alignment import cached_alignment

SHARED = ("env", "steps", "settings", "system", "commit")  # columns that become a sentence where all runs agree


def runs_section(studies: Sequence[Study]) -> Section:
    """Return the table of all runs: settings, versions, and how long each trained."""
    rows = [_run_row(method, run) for study in studies for method in study.methods for run in method.runs]
    columns = {
        "method": "Method",
        "env": "Environment",
        "seeds": "Seeds",
        "ids": "Seed ids",
        "steps": "Steps per seed",
        "time": "Training",
        "rate": "Steps/s per seed",
        "settings": "Not the default",
        "system": "Ran on",
        "commit": "Commit",
        "path": "Directory",
    }
    shared = {key: rows[0][key] for key in SHARED if all(row[key] == rows[0][key] for row in rows)}
    note = paragraph(
        "Runs that differ in nothing but their seeds count as one method.",
        "All seeds of a run train at once; times and speeds are those of metrics.csv, compilation included.",
    )
    every = [f"{columns[key]}: {cell}." for key, cell in shared.items() if cell is not None]
    common = paragraph("In all of them:", *map(Html, every)) if every else Html()
    left = {key: title for key, title in columns.items() if key not in shared}
    return Section("What was run", "runs", note + common + table_html(rows, left))


def learning_section(study: Study, suffix: str = "") -> Section:
    """Return the learning curves, each with its 95 % interval over seeds."""
    column = "win_rate" if study.env.spec.has_wins else "score"
    bands = {m.label: band for m in study.methods if (band := learning_band(m.runs, column)) is not None}
    if not bands:
        body = paragraph("No episode ended while these runs trained, so there is nothing to draw.")
        return Section("Learning", f"learning{suffix}", body)
    name = study.score_name
    title = leaders({label: band.intervals[-1] for label, band in bands.items()}, "at the end", study.fewest)
    figure = learning_bands(
        bands, ylabel=score_axis(study.name, study.env.spec.has_wins, "while exploring"), title=title
    )
    alt = f"{name} of the exploring team over environment steps. " + "; ".join(
        f"{label} ends at {band.intervals[-1].estimate:.3f}" for label, band in bands.items()
    )
    caption = (
        f"{name} of the team while it explores, mean over seeds; bands are pointwise 95 % intervals over "
        f"whole seeds (none for a single seed). Values far below those after the first third are cut."
    )
    return Section("Learning", f"learning{suffix}", figure_html(figure, alt, caption), {"curves": figure})


def alignment_section(studies: Sequence[Study]) -> Section:
    """Return, for every run, how often the agents' own greedy actions are the team's."""
    runs = [(method, run) for study in studies for method in study.methods for run in method.runs]
    rows = []
    with Progress("alignment", len(runs), unit="runs") as progress:
        for done, (method, run) in enumerate(runs, 1):
            rows.append(_alignment_row(method, run))
            progress.update(done)
    columns = {
        "method": "Method",
        "seeds": "Seeds",
        "agreement": "Greedy agents are the greedy team",
        "per_seed": "Per seed",
        "gap": "Gap elsewhere, mean (max)",
        "how": "Looked at",
    }
    note = paragraph(
        "DrIGM says that the actions which agents choose alone are together the best for the team.",
        "VDN and QMIX have it by construction; QTRAN has it as far as it has learnt it.",
        "Gaps are shares of the spread of the joint values.",
    )
    return Section("Do greedy agents make the greedy team?", "alignment", note + table_html(rows, columns))


def training_time(rows: Sequence[dict[str, float]]) -> tuple[float, float]:
    """Return a run's training time in seconds and its mean speed in steps per second and seed, by its metrics."""
    steps = np.array([row["step"] for row in rows])
    rates = np.array([row["steps_per_s"] for row in rows])
    if not len(steps):
        return float("nan"), float("nan")
    done = np.diff(steps, prepend=0.0)
    known = np.isfinite(rates) & (rates > 0) & (done > 0)
    seconds = float((done[known] / rates[known]).sum())
    return seconds, float(done[known].sum() / seconds) if seconds else float("nan")


def ran_on(run: Run) -> str:
    """Return ``2 × TFRT_CPU_0, Python 3.12.1, drigm 0.2.0``: as much as system.json tells."""
    facts = run.directory.load_system()
    versions, devices = facts.get("versions", {}), facts.get("devices", [])
    system = f"{len(devices)} × {str(devices[0]).partition(':')[0]}" if devices else ""
    packages = ", ".join(f"{name} {versions[name]}" for name in ("drigm", "jax") if versions.get(name))
    python = f"Python {facts['python']}" if "python" in facts else ""
    return ", ".join(filter(None, [system, python, packages]))


def _run_row(method: Method, run: Run) -> dict[str, object]:
    seconds, rate = training_time(run.directory.read_metrics(run.seeds[0]))
    given = changed(run.config, but=(*NAMED, "steps"))
    settings = ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in given.items())
    commit = run.directory.load_system().get("commit", "")
    shown = commit[:8] + ("+" if commit.endswith("+") else "")
    return {
        "method": method.label,
        "env": escape(run.config.env),
        "seeds": len(run.seeds),
        "ids": seed_range(run.seeds),
        "steps": f"{run.config.steps:,}",
        "time": duration(seconds),
        "rate": None if np.isnan(rate) else round(rate),
        "settings": Html(f'<span class="wrap faint">{escape(settings or "none")}</span>'),
        "system": Html(f'<span class="wrap faint">{escape(ran_on(run))}</span>'),
        "commit": Html(f"<code>{escape(shown)}</code>") if commit else None,
        "path": Html(f"<code>{escape(run.path)}</code>"),
    }


def _alignment_row(method: Method, run: Run) -> dict[str, object]:
    row: dict[str, object] = {"method": method.label, "seeds": len(run.seeds)}
    try:
        found = cached_alignment(run)
    except UserError as refused:
        return {**row, "how": str(refused).partition("; ")[2] or str(refused)}
    return {
        **row,
        "agreement": f"{100 * found.agreement:.1f} % of {found.points} joint histories",
        "per_seed": " ".join(f"{100 * share:.0f}" for share in found.per_seed),
        "gap": f"{found.mean_gap:.2g} ({found.max_gap:.2g})" if found.agreement < 1 else "none",
        "how": f"{found.method}, {found.joint_actions:.3g} joint actions",
    }


def seed_range(seeds: Sequence[int]) -> str:
    """Return ``0 to 4``."""
    return str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"


def id_suffix(study: Study, studies: Sequence[Study]) -> str:
    """Return what tells the study's section ids from those of the others; nothing where it is the only one."""
    return f"-{slug(study.name)}" if len(studies) > 1 else ""
