"""What a sweep file's [tables] asks for: its methods in every world, which is better than which, and the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from drigm.core.errors import check, choose
from drigm.envs import make_env
from drigm.evaluation import statistics as st
from drigm.evaluation.controllers import write_controllers
from drigm.evaluation.scores import Evaluation, returns_of, shift_score
from drigm.experiments.reproduce.compare import (
    Pair,
    controllers_beside,
    every_world,
    fewer_seeds,
    interval_text,
    matrix,
    worlds_of,
)
from drigm.experiments.reproduce.figures import battle_radii, noise
from drigm.experiments.reproduce.from_scores import Worlds, by_seed, read_rows
from drigm.experiments.reproduce.named_outcome import write_named_outcome
from drigm.experiments.reproduce.runner import Scored
from drigm.experiments.sweep.results import Swept
from drigm.experiments.sweep.spec import Sweep, Tables, read_tables
from drigm.report.figures.charts import shift_bars
from drigm.report.figures.curves import world_intervals
from drigm.report.figures.style import color, drawing, save, score_axis
from drigm.report.tables import Score, markdown_table, write_csv
from drigm.runtime.files import write_text

# Of each measure its name in comparisons.csv and in comparisons.md, what stands for no effect, and its digits.
MEASURES = (("probability of improvement", "P(better)", 0.5, 2), ("difference", "difference", 0.0, 3))
PERCENT_MEASURE = ("percent", "percent", 0.0, 1)
Comparison = Mapping[str, tuple[st.Interval, ...]]  # place: of the measures
NOTE = (
    "P(better): probability that a run of the first method scores higher than one of the second, with a 95 % "
    "score interval; difference: of their mean scores, with Welch's. `*`: the interval excludes no effect (0.5, "
    f"0), of {st.VERDICT_SEEDS} seeds or more; with fewer nothing is marked. Such an interval excludes it in about "
    "5 of 100 comparisons of equal methods, and there are many here. A difference between runs that are all equal "
    "has no width. Runs are not paired by seed."
)
PERCENT = " percent: the difference of returns in percent of the second's, of a cost in percent of the cost."


def rewrite_tables(folder: Path, file: Path) -> list[Path]:
    """Write the tables of the sweep ``file`` into ``folder``, from the scores.csv that is there; nothing is trained.

    Raises:
        UserError: the file or the scores cannot be read, or do not belong together.
    """
    configs, suite, tables = read_tables(file)
    scored = []
    for name, worlds in read_rows(folder / "scores.csv", "drigm sweep", _scores).items():
        config = configs[choose("scores", name, tuple(configs))]
        seeds = sorted(next(iter(worlds.values())))
        whole = all(sorted(per_seed) == seeds for per_seed in worlds.values())
        check(whole, "scores", name, "every world needs a score of every seed")
        scores = [shift_score(world, np.array([per_seed[k] for k in seeds])) for world, per_seed in worlds.items()]
        scored.append(Scored(config.replace(seeds=len(seeds)), Evaluation(suite, scores), name))
    return write_tables(folder, scored, tables)


def write_swept(swept: Swept, sweep: Sweep, suite: str) -> list[Path]:
    """Write the tables of ``sweep``, which has just ended, beside its scores."""
    points = [(swept.points[point], Evaluation(suite, scores), point) for point, scores in swept.scores.items()]
    scored = [Scored(config, found, sweep.names.get(config, point)) for config, found, point in points]
    return write_tables(swept.path, scored, sweep.tables or Tables())


def write_tables(out: Path, scored: Sequence[Scored], tables: Tables) -> list[Path]:
    """Write table.md, comparisons.md and .csv, controllers.csv and the figures of ``scored`` into ``out``."""
    if not scored:
        return []
    files, methods = [out / "table.md"], {one.title: one for one in scored}
    rows = every_world(scored)
    where = " and ".join(dict.fromkeys(one.config.env for one in scored))
    steps = " or ".join(dict.fromkeys(f"{one.config.steps:,}" for one in scored))
    budget = f"{steps} environment steps in {where}; mean ± standard error over seeds."
    write_text(files[0], f"{budget}\n\n{markdown_table(rows)}")
    if beside := controllers_beside(scored):
        files.append(out / "controllers.csv")
        write_controllers(files[-1], beside)
    pairs = [(methods[a], methods[b]) for a, b in tables.compare if a in methods and b in methods]
    twins = _twins(scored, tables.against)
    named, pairs = len(tables.compare) + len(twins), pairs + twins
    if pairs:
        files += _write_comparisons(pairs, tables.percent, out)
    if tables.outcome:
        files += write_named_outcome(out, scored, pairs, tables.outcome, named)
    if scored[0].evaluation.suite == "noise":
        return [*files, save(noise(scored), out / "noise.png"), save(battle_radii(scored), out / "radius.png")]
    return [*files, save(_picture(rows, methods, tables.picture), out / "scores.png")] if tables.picture else files


def _twins(scored: Sequence[Scored], settings: Mapping[str, object]) -> list[Pair]:
    """Return every method beside the one that has ``settings`` and is equal otherwise."""
    if not settings:
        return []
    by_config = {one.config: one for one in scored}
    both = [(one, by_config.get(one.config.replace(**settings))) for one in scored]
    return [(one, twin) for one, twin in both if twin is not None and twin is not one]


def compare(first: Scored, second: Scored, percent: bool = False) -> Comparison:
    """Return probability of improvement and difference in every world, the worst, and the mean of all.

    With ``percent`` also the difference of returns in percent of what ``second`` gets there. Runs are not paired by
    seed (see `drigm.evaluation.statistics`).
    """
    x, y = matrix(first), matrix(second)  # [K, W]
    places = {world: (x[:, i], y[:, i]) for i, world in enumerate(worlds_of(first))}
    places |= {"worst world": (x.min(axis=1), y.min(axis=1)), "mean of worlds": (x.mean(axis=1), y.mean(axis=1))}
    found = {p: (st.probability_of_improvement(*at), st.difference(*at)) for p, at in places.items()}
    if not percent:
        return found
    env = make_env(first.config.env)
    returns = {p: [returns_of(env, scores) for scores in at] for p, at in places.items()}
    shares = {p: st.difference(a, b).share_of(float(b.mean())) for p, (a, b) in returns.items()}
    return {p: (*both, st.Interval(*(100.0 * x for x in shares[p]))) for p, both in found.items()}


def _scores(rows: list[dict[str, str]]) -> dict[str, Worlds]:
    return by_seed((row["method"], row["world"], row["seed"], row["score"]) for row in rows)


def _write_comparisons(pairs: Sequence[Pair], percent: bool, out: Path) -> list[Path]:
    """Write comparisons.md and .csv, and comparisons.png where there are seeds enough for verdicts."""
    files = [out / "comparisons.md", out / "comparisons.csv"]
    measures = (*MEASURES, PERCENT_MEASURE) if percent else MEASURES
    found = [compare(*pair, percent) for pair in pairs]
    shown: list[dict[str, str]] = []
    lines: list[list[str]] = [["method", "other", "place", "measure", "estimate", "low", "high"]]
    for (a, b), places in zip(pairs, found, strict=True):
        head = {"comparison": f"{a.title} over {b.title}", "seeds": f"{len(a.seeds)}/{len(b.seeds)}"}
        for i, (name, title, level, digits) in enumerate(measures):
            cells = {p: _cell(at[i], level, digits, fewer_seeds((a, b))) for p, at in places.items()}
            shown.append(head | {"measure": title} | cells)
            lines += [[a.title, b.title, p, name, *(f"{x:.5f}" for x in at[i])] for p, at in places.items()]
            head = {"comparison": "", "seeds": ""}
    write_text(files[0], f"{NOTE}{PERCENT if percent else ''}\n\n{markdown_table(shown)}")
    write_csv(files[1], lines)
    if min(map(fewer_seeds, pairs)) < st.VERDICT_SEEDS:
        return files
    return [*files, save(_forest(pairs, found), out / "comparisons.png")]


def _cell(interval: st.Interval, level: float, digits: int, seeds: int) -> str:
    return f"{interval_text(interval, digits)}{'*' if st.significant(interval, level, seeds) else ''}"


def _forest(pairs: Sequence[Pair], found: Sequence[Comparison]) -> Figure:
    """Draw every comparison as a row of intervals, one column per place; 0.5 is no difference."""
    heights = list(range(len(found)))[::-1]
    with drawing(1.9 + 1.25 * len(found[0]), 0.9 + 0.42 * len(found)) as figure:
        axes = figure.subplots(1, len(found[0]), sharey=True)
        for ax, place in zip(axes, found[0], strict=True):
            ax.axvline(0.5, color="0.6", linewidth=0.8)
            for height, pair, places in zip(heights, pairs, found, strict=True):
                estimate, low, high = interval = places[place][0]
                hue = color(0) if st.significant(interval, 0.5, fewer_seeds(pair)) else "0.5"
                ax.plot([low, high], [height, height], color=hue, linewidth=2)
                ax.plot(estimate, height, "o", color=hue, markersize=5)
            ax.set(xlim=(-0.05, 1.05), title=place)
            ax.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        axes[0].set_yticks(heights, [f"{a.title}\nover {b.title}" for a, b in pairs])
        axes[0].set_ylim(-0.6, len(found) - 0.4)
        figure.supxlabel("Probability that a run of the first beats one of the second, with 95 % interval")
    return figure


def _picture(rows: Sequence[dict[str, object]], methods: dict[str, Scored], shown: Sequence[str]) -> Figure:
    """Draw the scores of ``shown`` in every world: of the six cities beside the authors' networks."""
    one = next(iter(methods.values()))
    if one.evaluation.suite == "climate":
        cells = {str(row["method"]): {w: s for w, s in row.items() if isinstance(s, Score)} for row in rows}
        return shift_bars({name: cells[name] for name in shown if name in cells})
    scores = {name: st.per_world(matrix(methods[name])) for name in shown if name in methods}
    return world_intervals(scores, worlds_of(one), nominal="", ylabel=score_axis(one.config.env), title="")
