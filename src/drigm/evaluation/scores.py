"""Scores of whoever plays, world by world, and the records that hold them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents import rollout
from drigm.agents.rollout import Outcome
from drigm.core.errors import UserError
from drigm.core.types import Array, PyTree, jit, join_trees, map_tree
from drigm.envs.api import Environment, Shift
from drigm.evaluation.players import Players
from drigm.evaluation.subprocess_play import subprocess_outcomes
from drigm.runtime import devices
from drigm.storage.results import to_json

MANY = 8  # worlds beyond which an evaluation prints their mean and the worst too


class ShiftScore(NamedTuple):
    """The score in one shifted world; ``se`` is the population standard deviation over seeds / sqrt(seeds).

    One seed says nothing about others: its ``se`` is nan.
    """

    name: str
    mean: float
    se: float
    per_seed: list[float]


class Evaluation(NamedTuple):
    """Scores of a run over a suite; prints as a table.

    Attributes:
        suite: its name.
        scores: of the run, in each world.
        controllers: of controllers that do not learn, in the same worlds, by name.
        seeds: whose scores ``per_seed`` holds, where that is known.
    """

    suite: str
    scores: list[ShiftScore]
    controllers: Mapping[str, list[float]] = MappingProxyType({})
    seeds: tuple[int, ...] = ()

    def to_json(self) -> str:
        """Return one object per world; null where there is no score."""
        rows = [score._asdict() for score in self.scores]
        if self.controllers:
            for i, row in enumerate(rows):
                row["controllers"] = {name: scores[i] for name, scores in self.controllers.items()}
        return to_json(rows)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each world and player: ``suite``, ``world``, ``player``, ``seed`` and ``score``.

        Players are ``team``, once for each seed, and the controllers, whose seed is None.
        """
        found = list[dict[str, Any]]()
        for i, world in enumerate(self.scores):
            seeds = self.seeds or range(len(world.per_seed))
            played = [("team", seed, x) for seed, x in zip(seeds, world.per_seed, strict=True)]
            played += [(name, None, scores[i]) for name, scores in self.controllers.items()]
            found += [
                {"suite": self.suite, "world": world.name, "player": player, "seed": seed, "score": score}
                for player, seed, score in played
            ]
        return found

    def to_dataframe(self) -> Any:
        """Return `rows` as a data frame: pandas', or polars' where only that is installed.

        Raises:
            UserError: neither is installed.
        """
        for package in ("pandas", "polars"):
            try:
                return import_module(package).DataFrame(self.rows())
            except ModuleNotFoundError as error:
                if error.name != package:
                    raise
        raise UserError("to_dataframe: it needs pandas or polars; install one of them, or use rows().")

    def warnings(self) -> list[str]:
        """Return a sentence for doing nothing and for PI, where they are better than the team in some world."""
        found = list[str]()
        for beaten in ({"do_nothing": "doing nothing"}, {"pi_tuned": "tuned PI", "pi": "PI"}):
            name = next((name for name in beaten if name in self.controllers), "")
            scores = self.controllers.get(name, ())
            lost = [s.name for s, other in zip(self.scores, scores) if s.mean < other]  # noqa: B905 (none at all)
            if lost:
                where = "every world" if len(lost) == len(self.scores) else ", ".join(lost[:4])
                more = f" and {len(lost) - 4} more" if len(lost) > 4 and where != "every world" else ""
                found.append(f"the team is worse than {beaten[name]} in {where}{more}.")
        return found

    def __str__(self) -> str:
        width = max(len(score.name) for score in self.scores)
        heads = "".join(f"  {name:>7}" for name in self.controllers)
        lines = [f"{self.suite:<{width}}     score{' ' * 9 + heads if heads else ''}"]
        for i, s in enumerate(self.scores):
            row = [scores[i] for scores in self.controllers.values()]
            error = "-" if math.isnan(s.se) else f"{s.se:.3f}"
            lines.append(f"{s.name:<{width}}  {s.mean:8.3f} +- {error:<5}{self._row(row)}".rstrip())
        if len(self.scores) > MANY or self.suite == "failures":  # too many to take in, or the worst is what is asked
            means = [s.mean for s in self.scores]
            for name, summed in (("mean", np.mean), ("worst", np.min)):
                row = [float(summed(scores)) for scores in self.controllers.values()]
                lines.append(f"{name:<{width}}  {summed(means):8.3f}{' ' * 9}{self._row(row)}")
        return "\n".join(lines)

    def _row(self, scores: Iterable[float]) -> str:
        """Return a line's end: the scores of the controllers, each below its name."""
        return "".join(f"  {x:{max(7, len(name))}.3f}" for name, x in zip(self.controllers, scores, strict=True))


def episode_scores(
    env: Environment,
    players: Players,
    worlds: list[Shift],
    done: Callable[[int], None] = lambda count: None,
) -> np.ndarray:
    """Return the scores [W worlds, K players, E protocol episodes], float64.

    An episode's score is the environment's published score of its return or, where battles are won, 1 or 0.

    Args:
        env: the environment.
        players: who plays; trained teams are `teams` of their weights.
        worlds: the worlds to play in.
        done: called with the number of worlds that have been played.
    """
    if env.subprocess is not None:
        outcomes = subprocess_outcomes(env, players, worlds, done)
    else:
        play, parts = _play(env, players), list[Outcome]()
        for count, world in enumerate(worlds, 1):
            parts.append(map_tree(np.asarray, play(players.weights, world.params)))  # waits for it
            done(count)
        outcomes = join_trees(np.stack, parts)
    if env.spec.has_wins:
        return np.asarray(outcomes.won, np.float64)
    return np.asarray(env.score(outcomes.episode_return), np.float64)


def _play(env: Environment, players: Players) -> Callable[[PyTree, PyTree], Outcome]:
    """Compile one world: ``play(weights, params) -> Outcome`` [K, E], players and episodes in parallel."""
    episodes = jnp.arange(env.num_eval_episodes, dtype=jnp.int32)

    def one(weights: PyTree, params: PyTree, index: Array) -> Outcome:
        policy = players.in_jax(weights)
        return rollout.outcome(env, policy, jax.random.key(index), env.episode(params, index))

    def player(weights: PyTree, params: PyTree) -> Outcome:
        return jax.vmap(one, in_axes=(None, None, 0))(weights, params, episodes)

    return jit(jax.vmap(player, in_axes=(0, None)), devices.compiler_options())


def returns_of(env: Environment, scores: np.ndarray) -> np.ndarray:
    """Return the returns behind published scores, so that a share of costs is one; what is won stays what it is.

    Scores that are no straight line over returns stay what they are too.
    """
    if env.spec.has_wins:
        return scores
    low, middle, high = np.asarray(env.score(np.array([0.0, 5e5, 1e6])), np.float64)  # pyright: ignore[reportArgumentType] (NumPy does as well)
    straight = high != low and abs(2 * middle - low - high) <= 1e-6 * abs(high - low)
    return (scores - low) * (1e6 / (high - low)) if straight else scores


def shift_score(name: str, per_seed: np.ndarray) -> ShiftScore:
    """Return the score of the seeds [K] in the world ``name``."""
    known = len(per_seed) > 1
    se = float(per_seed.std() / np.sqrt(len(per_seed))) if known else math.nan  # the paper's: population std
    return ShiftScore(name, float(per_seed.mean()), se, [float(x) for x in per_seed])
