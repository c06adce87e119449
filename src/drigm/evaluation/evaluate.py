"""Greedy, decentralised scores of trained teams in a suite of shifted worlds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents import rollout
from drigm.agents.recurrent import RecurrentAgents
from drigm.agents.rollout import Outcome
from drigm.core.config import TrainConfig
from drigm.core.errors import warn
from drigm.core.types import Array, PyTree
from drigm.envs.api import Environment, Shift
from drigm.envs.shifts import Grid, default_suite, worlds
from drigm.envs.subprocess.source import origin, source_file
from drigm.evaluation.subprocess_play import subprocess_outcomes
from drigm.runtime.devices import use_cores
from drigm.runtime.files import FileError, file_digest
from drigm.runtime.progress import Progress
from drigm.storage.results import load_result, store_result, to_json
from drigm.storage.run_directory import RunDirectory
from drigm.training.runs import Run


class ShiftScore(NamedTuple):
    """The score in one shifted world; ``se`` is the population standard deviation over seeds / sqrt(seeds)."""

    name: str
    mean: float
    se: float
    per_seed: list[float]


class Evaluation(NamedTuple):
    """Scores of a run over a suite; prints as a table."""

    suite: str
    scores: list[ShiftScore]

    def to_json(self) -> str:
        """Return one object per world; null where there is no score."""
        return to_json([score._asdict() for score in self.scores])

    def __str__(self) -> str:
        width = max(len(score.name) for score in self.scores)
        lines = [f"{s.name:<{width}}  {s.mean:8.3f} +- {s.se:.3f}" for s in self.scores]
        return "\n".join([f"{self.suite:<{width}}     score", *lines])


def evaluate(run: Run, shifts: str | None = None, perturb: Grid | None = None, *, quiet: bool = False) -> Evaluation:
    """Return the scores of ``run`` over the worlds of a suite under the environment's evaluation protocol.

    Every seed plays the protocol's episodes greedily, each agent on its own history, in every world; a score is
    the mean over episodes of the environment's published score (of battles: the win rate).

    Args:
        run: a finished run.
        shifts: a suite (see ``drigm list``); by default ``climate`` or, where there is none, ``noise``, and
            ``nominal`` where ``perturb`` is given.
        perturb: strengths of perturbations, as in ``{"obs_noise": [0, 0.1, 0.4]}``: every world is played under each
            (under every combination, if there are several).
        quiet: show no progress.

    Raises:
        UserError: the environment has no such suite or perturbation, or the run is unfinished.
    """
    return _evaluate_together([run], shifts or _default(run, perturb), perturb, quiet)[0]


def _default(run: Run, perturb: Grid | None) -> str:
    return "nominal" if perturb else default_suite(run.env)


def _evaluate_together(runs: Sequence[Run], suite: str, perturb: Grid | None, quiet: bool) -> list[Evaluation]:
    """Evaluate runs with the same networks and environment in one program, as if their seeds were those of one run."""
    use_cores()
    env, tried = worlds(runs[0].env, suite, perturb)
    agents = jax.tree.map(lambda *each: jnp.concatenate(each), *(run.weights().agents for run in runs))
    with Progress(f"{suite}, {len(tried)} worlds", len(tried), quiet=quiet) as progress:
        scores = episode_scores(env, agents, tried, progress.update).mean(axis=-1)  # [W, K of all runs]
    ends = np.cumsum([len(run.seeds) for run in runs])
    return [
        Evaluation(suite, [shift_score(world.name, row) for world, row in zip(tried, part, strict=True)])
        for part in np.split(scores, ends[:-1], axis=1)
    ]


def cached_evaluation(
    run: Run, shifts: str | None = None, perturb: Grid | None = None, *, quiet: bool = False
) -> Evaluation:
    """Return `evaluate` (run, shifts, perturb), from ``scores/`` in the run directory if it stands there already.

    A finished run's weights no longer change; what another version of drigm wrote is computed anew.
    """
    return cached_evaluations([run], shifts, perturb, quiet=quiet)[0]


def cached_evaluations(
    runs: Sequence[Run], shifts: str | None = None, perturb: Grid | None = None, *, quiet: bool = False
) -> list[Evaluation]:
    """Return `cached_evaluation` of each run; if one of them has not been played, all are, in one program.

    All, because rounding differs with what is played side by side: a score must not depend on where a session stopped.

    Args:
        runs: with the same networks and the same environment, as `drigm.training.runs.train_together` returns them.
        shifts, perturb, quiet: see `evaluate`.
    """
    suite = shifts or _default(runs[0], perturb)
    kept = [stored_evaluation(run.directory, run.config, suite, perturb, _opened(run)) for run in runs]
    found = [one for one in kept if one is not None]
    if len(found) == len(runs):
        return found
    found = _evaluate_together(runs, suite, perturb, quiet)
    for run, result in zip(runs, found, strict=True):
        file, key = _stored(run.directory, run.config, suite, perturb, _opened(run))
        if not store_result(file, key, [score._asdict() for score in result.scores]) and not quiet:
            warn(f"{file}: cannot be written; the scores are computed again the next time.")
    return found


def stored_evaluation(
    directory: RunDirectory, config: TrainConfig, suite: str, perturb: Grid | None = None, env_id: str = ""
) -> Evaluation | None:
    """Return what `cached_evaluation` has kept in a run directory for these very weights; None if nothing.

    Scores that were played in another version of the source of the environment ``env_id`` do not count.
    """
    try:
        found = load_result(*_stored(directory, config, suite, perturb, env_id))
        scores = [] if found is None else [ShiftScore(**score) for score in found]
        ours = bool(scores) and all(
            np.shape(np.array([s.mean, s.se, *s.per_seed], np.float64)) == (2 + config.seeds,) for s in scores
        )
    except (FileError, TypeError, ValueError, OverflowError):  # no weights, or not ours
        return None
    return Evaluation(suite, scores) if ours else None


def _opened(run: Run) -> str:
    """The id of the environment that ``run`` was opened with, where it lies now."""
    return run.config.env if run.env.subprocess is None else f"{run.env.subprocess.kind}:{run.env.subprocess.name}"


def _stored(
    directory: RunDirectory, config: TrainConfig, suite: str, perturb: Grid | None, env_id: str
) -> tuple[Path, dict[str, object]]:
    """The file that scores are kept in, and what must stand in it."""
    named = {name: [float(x) for x in strengths] for name, strengths in (perturb or {}).items()}
    strengths = "".join(f"-{name}={','.join(f'{x:g}' for x in values)}" for name, values in named.items())
    weights = directory.weights_digest(config)
    key: dict[str, object] = {"suite": suite, "perturb": named, "version": version("drigm"), "weights": weights}
    parts = origin(env_id)
    if parts is not None and (source := source_file(parts, config.env_python)) is not None:
        key["source"] = file_digest(source)
    return directory.path / "scores" / f"{suite}{strengths}.json", key


def episode_scores(
    env: Environment,
    agents: RecurrentAgents,
    worlds: list[Shift],
    done: Callable[[int], None] = lambda count: None,
) -> np.ndarray:
    """Return the scores [W worlds, K seeds, E protocol episodes] of greedy episodes, float64.

    An episode's score is the environment's published score of its return or, where battles are won, 1 or 0.

    Args:
        env: the environment.
        agents: weights of K seeds stacked on a leading axis.
        worlds: the worlds to play in.
        done: called with the number of worlds that have been played.
    """
    if env.subprocess is not None:
        outcomes = subprocess_outcomes(env, agents, worlds, done)
    else:
        play, parts = _play(env), []
        for count, world in enumerate(worlds, 1):
            parts.append(jax.block_until_ready(play(agents, world.params)))
            done(count)
        outcomes = jax.tree.map(lambda *x: np.stack(x), *parts)
    if env.spec.has_wins:
        return np.asarray(outcomes.won, np.float64)
    return np.asarray(env.score(outcomes.episode_return), np.float64)


def _play(env: Environment):
    """Compile one world: ``play(agents, params) -> Outcome`` [K, E], seeds and episodes side by side."""
    episodes = jnp.arange(env.num_eval_episodes, dtype=jnp.int32)

    def one(agents: RecurrentAgents, params: PyTree, index: Array) -> Outcome:
        return rollout.greedy_outcome(env, agents, jax.random.key(index), env.episode(params, index))

    per_episode = jax.vmap(one, in_axes=(None, None, 0))
    per_seed = jax.vmap(per_episode, in_axes=(0, None, None))
    return jax.jit(lambda agents, params: per_seed(agents, params, episodes))


def shift_score(name: str, per_seed: np.ndarray) -> ShiftScore:
    """Return the score of the seeds [K] in the world ``name``."""
    se = float(per_seed.std() / np.sqrt(len(per_seed)))  # the paper's error: population std over seeds
    return ShiftScore(name, float(per_seed.mean()), se, [float(x) for x in per_seed])
