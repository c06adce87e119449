"""Greedy, decentralised scores of trained teams in a suite of shifted worlds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents import rollout
from drigm.agents.recurrent import RecurrentAgents
from drigm.agents.rollout import Outcome
from drigm.core.types import Array, PyTree, jit, join_trees, map_tree
from drigm.envs.api import Environment, Shift
from drigm.envs.shifts import Grid, default_suite, worlds
from drigm.evaluation.subprocess_play import subprocess_outcomes
from drigm.runtime.devices import use_cores
from drigm.runtime.progress import Progress
from drigm.storage.results import to_json
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
    return evaluate_together([run], shifts or default_shifts(run, perturb), perturb, quiet)[0]


def default_shifts(run: Run, perturb: Grid | None) -> str:
    """Return the suite that is played where none is named."""
    return "nominal" if perturb else default_suite(run.env)


def evaluate_together(runs: Sequence[Run], suite: str, perturb: Grid | None, quiet: bool) -> list[Evaluation]:
    """Evaluate runs with the same networks and environment in one program, as if their seeds were those of one run."""
    use_cores()
    env, tried = worlds(runs[0].env, suite, perturb)
    agents = join_trees(jnp.concatenate, [run.weights().agents for run in runs])
    with Progress(f"{suite}, {len(tried)} worlds", len(tried), quiet=quiet) as progress:
        scores = episode_scores(env, agents, tried, progress.update).mean(axis=-1)  # [W, K of all runs]
    ends = np.cumsum([len(run.seeds) for run in runs])
    return [
        Evaluation(suite, [shift_score(world.name, row) for world, row in zip(tried, part, strict=True)])
        for part in np.split(scores, ends[:-1], axis=1)
    ]


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
        play, parts = _play(env), list[Outcome]()
        for count, world in enumerate(worlds, 1):
            parts.append(map_tree(np.asarray, play(agents, world.params)))  # waits for it
            done(count)
        outcomes = join_trees(np.stack, parts)
    if env.spec.has_wins:
        return np.asarray(outcomes.won, np.float64)
    return np.asarray(env.score(outcomes.episode_return), np.float64)


def _play(env: Environment) -> Callable[[RecurrentAgents, PyTree], Outcome]:
    """Compile one world: ``play(agents, params) -> Outcome`` [K, E], seeds and episodes side by side."""
    episodes = jnp.arange(env.num_eval_episodes, dtype=jnp.int32)

    def one(agents: RecurrentAgents, params: PyTree, index: Array) -> Outcome:
        return rollout.greedy_outcome(env, agents, jax.random.key(index), env.episode(params, index))

    def seed(agents: RecurrentAgents, params: PyTree) -> Outcome:
        return jax.vmap(one, in_axes=(None, None, 0))(agents, params, episodes)

    return jit(jax.vmap(seed, in_axes=(0, None)))


def shift_score(name: str, per_seed: np.ndarray) -> ShiftScore:
    """Return the score of the seeds [K] in the world ``name``."""
    se = float(per_seed.std() / np.sqrt(len(per_seed)))  # the paper's error: population std over seeds
    return ShiftScore(name, float(per_seed.mean()), se, [float(x) for x in per_seed])
