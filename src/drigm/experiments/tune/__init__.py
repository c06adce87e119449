"""Tuning: a radius chosen in worlds of one's own, within a budget at home, and only then held against the truth."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from drigm.core.choice import Choice
from drigm.core.config import FIELDS, TrainConfig, essential
from drigm.core.errors import UserError, as_path, check
from drigm.core.errors import choose as choose_one  # the package has a module of that name
from drigm.core.json_files import read_object
from drigm.core.naming import method_name
from drigm.envs.shifts import default_suite
from drigm.evaluation.cache import opened_id
from drigm.experiments.sweep import ENGINES
from drigm.experiments.sweep.results import Swept
from drigm.experiments.tune.asked import RADII, Axis, Over, label, parse_over, parse_truth, source_of
from drigm.experiments.tune.files import write_outcome
from drigm.experiments.tune.outcome import Outcome, outcome_of
from drigm.experiments.tune.search import Point, load_optuna, number_of_trials, try_points
from drigm.experiments.tune.trials import Say, Trials
from drigm.experiments.tune.truth import check_truth, paper_point, play_truth, rival
from drigm.runtime import interrupts
from drigm.runtime.devices import cache_compilations, use_cores
from drigm.runtime.files import make_folder, write_text
from drigm.training.runs import Run, load_run
from drigm.training.settings import check_method, resolve, settle

FORMAT = "drigm-tune-1"
OUT = "runs/tune"
WORLD_COUNT = 8  # of each group


class Tuned(NamedTuple):
    """A radius that was chosen; prints as a table and three sentences.

    Attributes:
        path: the folder, with tune.json, trials.csv, report.html and a sweep of all points in ``trials``.
        chosen: the settings that were chosen, as in ``{"rho": 0.1}``.
        config: of the team with them.
        outcome: prices, gains, folds and truths.
        swept: the sweep, whose ``failures`` says what has failed.
    """

    path: Path
    chosen: Point
    config: TrainConfig
    outcome: Outcome
    swept: Swept

    def run(self) -> Run:
        """Return the chosen team, which is trained already."""
        return self.swept.run(label(self.chosen))

    def __str__(self) -> str:
        return str(self.outcome)


def tune(
    run: Run | str | Path | None = None,
    *,
    over: Over,
    worlds: str,
    truth: str | Sequence[str] = (),
    budget: float = 0.05,
    trials: int = 0,
    hold_out: str = "",
    world_count: int = WORLD_COUNT,
    engine: str = "local",
    out: str | Path | None = None,
    workers: int = 0,
    cores: int = 0,
    address: str = "",
    trust: bool = False,
    quiet: bool = False,
    command: str = "",
    **settings: Any,
) -> Tuned:
    """Choose a radius in source worlds, within a budget at home; whatever stopped it, the same call goes on.

    Every point that is tried is trained at home, the environment as it is, and scored there and in groups of source
    worlds. Those that cost more than the budget at home are out; of the others the one is chosen that gains most over
    the team without robustness, of the same seeds. What it will gain elsewhere is predicted by holding out each group,
    and each seed, in turn (`drigm.experiments.tune.choose.predicted_gain`). Prices and gains are shares of the size of
    what the team without robustness gets: of its return, which is negative where it is a cost, or of battles of the
    share that it wins.

    A training that is hopelessly behind at home is ended early (`drigm.experiments.sweep.pruning`). A grid is tried as
    a whole; otherwise Optuna's TPE suggests points, with the budget as its constraint.

    Args:
        run: a run, or its directory, whose settings are taken; those that are named besides go before them.
        over: what to search over, as in ``"rho=0,0.05,0.1"``, ``["rho=0:0.5", "gamma=0.95,0.99"]`` or a mapping; a
            radius (rho or agent_rho) must be among it.
        worlds: the source worlds, as in ``"demand=0.8:1.2,lead_time=0:1"``: ranges or the name of a suite, several with
            semicolons between them.
        truth: worlds that are played once the choice stands, likewise; an environment's id, with a space and worlds
            after it if need be, plays there. Several may be given.
        budget: the share by which the choice may be worse at home.
        trials: points that are tried; 0 is the whole grid, or 20 where there is none.
        hold_out: which source worlds are held out together: "range", "half" or "world"; see
            `drigm.experiments.tune.asked.source_of`.
        world_count: worlds that are drawn for each of these groups, and for each part of a truth.
        engine, workers, cores, address: as in `drigm.sweep`.
        out: the folder; by default ``runs/tune``.
        trust: open a run that somebody else has made, as in `drigm.load_run`.
        quiet: show no progress.
        command: that the page says at its foot; by default this call's.
        settings: of the training, as in `drigm.train`.

    Returns:
        The choice, with the trials and what they got.

    Raises:
        UserError: an argument is not as it should be, Optuna is missing, the folder holds another tuning, or the team
            without robustness cannot be trained. Other trials that fail are in ``swept.failures``.
        KeyboardInterrupt: with a message that says how to continue.
    """
    axes = parse_over(over)
    load_optuna()
    number_of_trials(axes, trials)
    choose_one("engine", engine, tuple(ENGINES))
    check(0.0 <= budget < float("inf"), "budget", budget, "a share of 0 or more, as in 0.05")
    whole = isinstance(world_count, int) and 1 <= world_count <= FIELDS["world_count"].metadata["high"]
    check(whole, "world_count", world_count, "a whole number from 1 to 4096")
    config = _reference(run, trust, settings)
    use_cores(config.shards)
    cache_compilations()
    config, env = resolve(config)
    _check_axes(axes, config)
    source = source_of(env, worlds, hold_out, world_count, config)
    truths = parse_truth(truth, source.text, config.env, default_suite(env))
    for asked in truths:
        check_truth(asked, env, world_count)
    about = {
        "settings": essential(config),
        "over": [axis._asdict() for axis in axes],
        "worlds": source.text,
        "groups": [list(group.places) for group in source.groups],
        "world_count": world_count,
        "budget": budget,
        "trials": trials,
    }
    folder, say = as_path("out", OUT if out is None else out).resolve(), _say(quiet)
    where = {"engine": engine, "workers": workers, "cores": cores, "address": address, "quiet": quiet}
    base = {
        name: value for name, value in dataclasses.asdict(config).items() if name not in {axis.name for axis in axes}
    }
    reference = {axis.name: getattr(config, axis.name) for axis in axes}
    tried = Trials(folder / "trials", base, reference, env, source, world_count, budget, where, say)
    again = f"the same tuning continues in {folder}"
    try:
        with interrupts.advice(again):
            _claim(folder, about)
            say(f"tune: {len(source.groups)} groups of worlds: {', '.join(group.title for group in source.groups)}")
            points = try_points(axes, trials, reference, tried.evaluate)
            outcome = _outcome(tried, [reference, *points], config)
            command = command or _call(over, worlds, config)
            write_outcome(folder, about, outcome, command)  # the choice stands before any truth is looked at
            if truths:
                say(f"tune: chosen {label(outcome.point)}; now the truth")
                outcome = _with_truths(outcome, truths, tried, config.replace(**outcome.point), folder)
                write_outcome(folder, about, outcome, command)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {again}") from None
    return Tuned(folder, outcome.point, config.replace(**outcome.point), outcome, tried.swept)


def _reference(run: Run | str | Path | None, trust: bool, settings: Mapping[str, Any]) -> TrainConfig:
    """Return the settings of the team without robustness."""
    given = _settings(run, trust, settings)
    twice = sorted(set(RADII) & settings.keys())
    check(not twice, "settings", ", ".join(twice), "leave it out: over says which radii are tried; others are 0")
    return settle({**given, **dict.fromkeys(RADII, 0.0)})


def _check_axes(axes: Sequence[Axis], config: TrainConfig) -> None:
    """Raise `UserError` where a value that is searched over goes with no other setting: a radius without a set."""
    for axis in axes:
        for value in axis.values or (axis.low, axis.high):
            try:
                check_method(config.replace(**{axis.name: value}))
            except UserError as error:
                raise UserError(f"over {axis.name}: {value!r} cannot be tried; {error}") from None


def _outcome(tried: Trials, points: Sequence[Point], config: TrainConfig) -> Outcome:
    known = [tried.trial(name) for name in dict.fromkeys(map(label, points))]
    radii = [name for name in tried.reference if name in RADII]
    method = f"{method_name(config)} in {config.env}"
    return outcome_of(method, known, tried.reference, radii, tried.source.groups, tried.budget)


def _settings(run: Run | str | Path | None, trust: bool, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the run, if there is one, and on top of them those that are named."""
    chosen: dict[str, Any] = {}
    for name, value in settings.items():
        chosen |= {name: value} if not isinstance(value, Choice) else _chosen(name, value)
    if run is None:
        return chosen
    named = {name: str(chosen.get(name, "")) for name in ("env", "env_python")}
    opened = run if isinstance(run, Run) else load_run(run, trust=trust, **named)
    return {**dataclasses.asdict(opened.config), "env": opened_id(opened), **chosen}


def _chosen(name: str, choice: Choice) -> dict[str, Any]:
    fine = choice.field == name and isinstance(choice.chosen, str)
    check(fine, name, choice, "one of drigm's choices for it, or a name: processes of their own train it")
    return {name: choice.chosen, **{key: value for key, value in choice.settings.items() if value is not None}}


def _claim(folder: Path, about: Mapping[str, Any]) -> None:
    """Write down what is asked for in ``folder``; `UserError` where something else was asked for there."""
    file, asked = folder / "asked.json", json.loads(json.dumps({"format": FORMAT, **about}))
    if file.exists():
        there = read_object(file, finite=False)
        differs = [name for name in asked if json.dumps(there.get(name)) != json.dumps(asked[name])]
        message = f"it holds a tuning with other {', '.join(differs)}; give another folder"
        check(not differs, "out", str(folder), message)
        return
    make_folder(folder)
    write_text(file, json.dumps(asked, indent=2))


def _with_truths(
    outcome: Outcome, truths: Sequence[tuple[str, str]], tried: Trials, config: TrainConfig, folder: Path
) -> Outcome:
    """Return ``outcome`` with what its points, and the paper's radius for ``config``, did in the truths."""
    runs = [tried.swept.run(trial.name) for trial in outcome.finished]
    paper, point = None, paper_point(config, tried.reference)
    if point is not None:
        swept, name = rival(tried, point, folder / "paper")
        paper = (point, swept.run(name)) if name in swept.scores else None
    make_folder(folder / "truth")
    quiet, count = bool(tried.engine["quiet"]), tried.world_count
    played = [play_truth(outcome, asked, runs, paper, folder / "truth", count, quiet) for asked in truths]
    return outcome._replace(truths=played)


def _say(quiet: bool) -> Say:
    def say(line: str) -> None:
        if not quiet:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    return say


def _call(over: Over, worlds: str, config: TrainConfig) -> str:
    """Return about the command of a call from Python."""
    texts = [over] if isinstance(over, str) else over
    if isinstance(texts, Mapping):
        values = {name: value if isinstance(value, str) else ",".join(map(str, value)) for name, value in texts.items()}
        texts = [f"{name}={value}" for name, value in values.items()]
    words = ["drigm", "tune", "--env", config.env, *(word for text in texts for word in ("--over", text))]
    return shlex.join([*words, "--worlds", worlds])
