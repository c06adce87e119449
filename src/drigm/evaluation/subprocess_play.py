"""Greedy episodes in environments that live in other processes."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import numpy as np

from drigm.agents.rollout import Outcome
from drigm.agents.subprocess_acting import Perturber
from drigm.agents.subprocess_episodes import episode_seeds, play
from drigm.core.types import join_trees, map_tree
from drigm.envs.api import Environment, Shift
from drigm.envs.perturbations import unperturbed
from drigm.envs.subprocess.vector import SubprocessSource, SubprocessWorld
from drigm.evaluation.players import Players


def source_of(env: Environment, world: Shift) -> SubprocessSource:
    """Return how ``world`` of ``env`` is made: it may be another environment of the same kind."""
    assert env.subprocess is not None
    params = unperturbed(world.params)
    return env.subprocess._replace(name=params.name) if isinstance(params, SubprocessWorld) else env.subprocess


def subprocess_outcomes(
    env: Environment, players: Players, worlds: list[Shift], done: Callable[[int], None] = lambda count: None
) -> Outcome:
    """Return the outcomes [W worlds, K seeds, E episodes] of greedy episodes.

    Episode e starts from the same seed in every world and for every team.

    Args:
        env: an environment with a ``subprocess``, perturbed or not.
        players: who plays.
        worlds: strengths of the perturbations (see `drigm.envs.perturbations.Perturbed`), and environments in the place
            of ``env`` (see `drigm.envs.subprocess.vector.SubprocessWorld`).
        done: called with the number of worlds that have been played.

    Raises:
        UserError: an environment failed.
    """
    assert env.subprocess is not None
    seeds = list(env.eval_seeds) or list(itertools.islice(episode_seeds(env), env.num_eval_episodes))
    size = min(env.subprocess.most, len(seeds))
    padded = seeds + seeds[: -len(seeds) % size]  # every environment plays in every round; what is too much is cut
    rounds = [padded[k : k + size] for k in range(0, len(padded), size)]
    runs = jax.tree.leaves(players.weights)[0].shape[0]
    weights = map_tree(np.asarray, players.weights)
    teams = [players.in_numpy(map_tree(lambda x: x[k : k + 1], weights)) for k in range(runs)]  # noqa: B023 (at once)
    vector = source_of(env, worlds[0]).open(rounds[0])
    try:
        perturber, played = Perturber(env.spec), list[Outcome]()
        for count, world in enumerate(worlds, 1):
            if vector.source != source_of(env, world):
                vector.turn_to(source_of(env, world))
            strengths = getattr(world.params, "strengths", {})
            for team in teams:
                parts = [play(env, vector, perturber, team, strengths, some) for some in rounds]
                played.append(map_tree(lambda x: x[: len(seeds)], join_trees(np.concatenate, parts)))
            done(count)
    finally:
        vector.close()
    return map_tree(lambda x: x.reshape(len(worlds), len(teams), -1), join_trees(np.stack, played))
