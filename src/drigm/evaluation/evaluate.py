"""Greedy, decentralised scores of trained teams in a suite of shifted worlds, beside controllers that do not learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack, overload

import jax.numpy as jnp
import numpy as np

from drigm.core.defaults import TRIM
from drigm.core.errors import check
from drigm.core.strengths import Perturb, grid_of
from drigm.core.types import EnvSpec, join_trees
from drigm.envs import make_env
from drigm.envs.api import Environment
from drigm.envs.shifts import WORLDS, Grid, default_suite
from drigm.envs.shifts import worlds as worlds_of
from drigm.evaluation.controllers import controller_scores, controllers_of
from drigm.evaluation.players import teams, wrapped
from drigm.evaluation.scores import Evaluation, episode_scores, shift_score
from drigm.runtime.devices import use_cores
from drigm.runtime.progress import Progress
from drigm.training.runs import Run, as_runs


class Options(TypedDict, total=False):
    """What `evaluate` takes by name."""

    env: str | Environment | None
    trim: bool | float
    worlds: str
    controllers: bool
    quiet: bool


@overload
def evaluate(
    run: Run | str | Path, shifts: str | None = None, perturb: Perturb | None = None, **options: Unpack[Options]
) -> Evaluation: ...
@overload
def evaluate(
    run: Sequence[Run | str | Path],
    shifts: str | None = None,
    perturb: Perturb | None = None,
    **options: Unpack[Options],
) -> list[Evaluation]: ...
def evaluate(
    run: Run | str | Path | Sequence[Run | str | Path],
    shifts: str | None = None,
    perturb: Perturb | None = None,
    *,
    env: str | Environment | None = None,
    trim: bool | float = False,
    worlds: str = "",
    controllers: bool = True,
    quiet: bool = False,
) -> Evaluation | list[Evaluation]:
    """Return the scores of ``run`` over the worlds of a suite under the environment's evaluation protocol.

    Every seed plays the protocol's episodes greedily, each agent on its own history, in every world; a score is
    the mean over episodes of the environment's published score (of battles: the win rate).

    Args:
        run: a finished run or its directory; or several, for each of which there is an evaluation then.
        shifts: a suite (see ``drigm list``); by default ``climate`` or ``demand`` or, where there is none, ``noise``,
            and ``nominal`` where ``perturb`` is given.
        perturb: strengths of perturbations, as in ``{"obs_noise": [0, 0.1, 0.4]}``, ``{"obs_noise": 0.1}`` or
            ``"obs_noise=0,0.1,0.4"``: every world is played under each (under every combination, if there are several).
        env: play in this environment, or the one of this id, instead of the run's own. Its agents are the run's of the
            same names, all of them or some; observations and actions must be as many. The networks keep their own
            standardisation.
        trim: add a slow integral of each agent's own error to the level that it chose (`drigm.agents.pi.Trimmed`),
            with this gain per unit of error and step (True: 0.03), where the environment says what is regulated.
        worlds: ranges of persistent worlds to play in instead of a suite, as in ``"power=0.7:2,gains=-0.3:0.3@3h"``
            (`drigm.envs.persistent`); they are others than those that a training with the same ranges draws. Several
            parts with semicolons between them, each ranges or a suite's name, are played one after the other.
        controllers: score the controllers of `drigm.evaluation.controllers` in the same worlds, where any is made for
            the environment's kind; PI is tuned in the environment that the run was trained in.
        quiet: show no progress.

    Raises:
        UserError: the environment has no such suite or perturbation, or the run is unfinished; the environment does
            not fit the run, or a trim does not fit it.
    """
    gain, grid = trim_gain(trim), grid_of(perturb)
    check(not (worlds and shifts), "worlds", worlds, f"leave it out with the suite {shifts}")
    results = list[Evaluation]()
    for one in as_runs(run):
        here = here_of(one, env)
        suite = "worlds" if worlds else shifts or default_suite(here, grid)
        (found,) = evaluate_together([one], suite, grid, quiet, here, gain, worlds)
        results.append(with_controllers(found, one, grid, here, worlds) if controllers else found)
    return results[0] if isinstance(run, Run | str | Path) else results


def with_controllers(
    found: Evaluation, run: Run, perturb: Grid | None, env: Environment | None = None, ranges: str = ""
) -> Evaluation:
    """Return ``found``, of ``run`` in ``env``, with what the controllers score in its worlds, if there are any."""
    played, tried = worlds_of(env or run.env, found.suite, perturb, ranges)
    names = controllers_of(played, run.env)
    names = names if len(names) > 1 else []  # doing nothing alone says nothing
    scores = controller_scores(played, tried, names, run.env) if names else {}
    return found._replace(controllers={name: [float(x) for x in row] for name, row in scores.items()})


def trim_gain(trim: bool | float) -> float:
    """Return the gain that ``trim`` means; 0 is none."""
    gain = TRIM if trim is True else float(trim)
    check(0.0 <= gain < float("inf"), "trim", trim, "give a gain of 0 or more, such as 0.03")
    return gain


def here_of(run: Run, env: str | Environment | None) -> Environment:
    """Return the environment to play ``run`` in; `UserError` in one sentence where its agents cannot act there."""
    if env is None or env == "":
        return run.env
    here = make_env(env) if isinstance(env, str) else env
    check_fits(run.env.spec, here.spec)
    return here


def check_fits(team: EnvSpec, here: EnvSpec) -> None:
    """Raise `UserError` unless agents trained under the spec ``team`` can act under ``here``."""
    strangers = [agent for agent in here.agents if agent not in team.agents]
    message = f"the run has no agent called {' or '.join(strangers[:2])} (it has {', '.join(team.agents[:8])})"
    check(not strangers, "env", here.name, message)
    sizes = [(spec.obs_size, spec.num_actions) for spec in (team, here)]
    message = "the run's agents have {} readings and {} actions, its agents {} and {}".format(*sizes[0], *sizes[1])
    check(sizes[0] == sizes[1], "env", here.name, message)


def evaluate_together(
    runs: Sequence[Run],
    suite: str,
    perturb: Grid | None,
    quiet: bool,
    env: Environment | None = None,
    trim: float = 0.0,
    ranges: str = "",
    count: int = WORLDS,
) -> list[Evaluation]:
    """Evaluate runs with the same networks and environment in one program, as if their seeds were those of one run.

    For ``env``, ``trim`` and ``ranges`` (``worlds``) see `evaluate`, for ``count`` `drigm.envs.shifts.worlds`; by
    default it is the runs' own environment, and nothing is trimmed.
    """
    use_cores()
    env, tried = worlds_of(env or runs[0].env, suite, perturb, ranges, count)
    agents = join_trees(jnp.concatenate, [run.weights().agents for run in runs])
    players = teams(agents, wrapped(env.spec, runs[0].env.spec.agents, trim))
    with Progress(f"{suite} of {env.spec.name}", len(tried), quiet=quiet, unit="worlds") as progress:
        scores = episode_scores(env, players, tried, progress.update).mean(axis=-1)  # [W, K of all runs]
    ends = np.cumsum([len(run.seeds) for run in runs])
    return [
        Evaluation(
            suite,
            [shift_score(world.name, row) for world, row in zip(tried, part, strict=True)],
            seeds=tuple(run.seeds),
        )
        for run, part in zip(runs, np.split(scores, ends[:-1], axis=1), strict=True)
    ]
