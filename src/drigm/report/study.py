"""What a report is about: runs pooled into methods, and their scores in every world."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np

from drigm.core.config import FIELDS, RUNNING, TrainConfig
from drigm.core.errors import UserError
from drigm.core.naming import method_name
from drigm.envs.api import Environment
from drigm.envs.persistent import parse_ranges
from drigm.envs.shifts import Grid, worlds
from drigm.evaluation.cache import cached_controllers, cached_evaluation
from drigm.evaluation.scores import Evaluation
from drigm.report.figures.style import score_axis
from drigm.training.runs import Run
from drigm.training.settings import settle

# What a method is called by, and what can differ without making it another one.
AGENT_WISE = ("agent_rho", "agent_fault")
NAMED = ("env", "factorization", "uncertainty", "rho", "samples", *AGENT_WISE, "baseline", "seeds", "first_seed")
# A team without robustness that differs in these alone is the non-robust team of another.
DUAL = ("dual_hidden", "dual_learning_rate", "dual_learning_rate_end", "dual_updates")
# The preset paper updates as often with TV as without, but four times in a row.
IN_A_ROW = ("update_every", "updates")
ROBUST = ("uncertainty", "rho", "fail_value", *AGENT_WISE, "baseline", "preset", "seeds", "first_seed", *RUNNING, *DUAL)


class Method(NamedTuple):
    """Runs with the same settings, seeds apart, as one method: K seeds, W worlds."""

    label: str
    config: TrainConfig
    runs: list[Run]
    scores: np.ndarray  # [K, W]
    nominal: np.ndarray  # [K] where nothing shifts

    @property
    def seeds(self) -> list[int]:
        return [seed for run in self.runs for seed in run.seeds]

    @property
    def robust(self) -> bool:
        return self.config.uncertainty != "nominal"

    @property
    def median_seed(self) -> tuple[Run, int]:
        """The seed that is shown where only one can be: its run, and its place among the run's seeds."""
        place = int(np.argsort(self.scores.mean(axis=1), kind="stable")[(len(self.scores) - 1) // 2])
        for run in self.runs:
            if place < len(run.seeds):
                return run, place
            place -= len(run.seeds)
        raise AssertionError("more scores than seeds")


class Study(NamedTuple):
    """All methods of one environment."""

    env: Environment
    name: str
    suite: str
    worlds: list[str]
    nominal: str  # its name among the worlds, or "nominal" where it is none of them
    methods: list[Method]
    controllers: Mapping[str, list[float]] = MappingProxyType({})  # what those that do not learn score in each world
    trimmed: Sequence[Method] = ()  # the methods once more, each with a trim, where that was asked for

    @property
    def score_name(self) -> str:
        return "Win rate" if self.env.spec.has_wins else "Score"

    @property
    def score_axis(self) -> str:
        """`score_name` with what its numbers mean."""
        return score_axis(self.name, self.env.spec.has_wins)

    @property
    def episodes(self) -> int:
        """How many episodes each world was played for."""
        return len(self.env.eval_seeds) or self.env.num_eval_episodes

    @property
    def fewest(self) -> int:
        """The seeds of the method that has fewest."""
        return min(len(method.seeds) for method in self.methods)

    def baseline_of(self, method: Method) -> Method | None:
        """The non-robust method with the same settings otherwise, or None."""
        if _is_plain(method.config):
            return None
        same = _but_robustness(method.config)
        return next((m for m in self.methods if _is_plain(m.config) and _but_robustness(m.config) == same), None)


def pooled(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs in lists of equal settings, seeds apart, in the order in which they were given.

    Raises:
        UserError: two runs of the same settings share a seed.
    """
    pools: dict[str, list[Run]] = {}
    for run in runs:
        pools.setdefault(_without(run.config, *RUNNING, "seeds", "first_seed"), []).append(run)
    for pool in pools.values():
        owner: dict[int, Run] = {}
        for run in pool:
            for seed in run.seeds:
                other = owner.setdefault(seed, run)
                if other is not run:
                    both = f"seed {seed} is also in {str(other.path)!r} with the same settings"
                    raise UserError(f"run: {str(run.path)!r} cannot be pooled, {both}; give each seed once.")
    return list(pools.values())


def labels(configs: Sequence[TrainConfig]) -> list[str]:
    """Return a name for each method: ``QMIX-TV 0.2``, and the settings in which it differs where that is not enough.

    Of those only what is not the default of its environment is told.
    """
    parts = [_without_named(config) for config in configs]
    differing = [name for name in parts[0] if any(p[name] != parts[0][name] for p in parts)] if parts else []
    return [", ".join([method_name(c), *_told(c, differing)]) for c in configs]


def changed(config: TrainConfig, but: Sequence[str] = NAMED) -> dict[str, object]:
    """Return the settings that are not the default of the environment, without those named in ``but``."""
    default = settle({"env": config.env})
    return {n: getattr(config, n) for n in FIELDS if n not in but and getattr(config, n) != getattr(default, n)}


def collect(
    runs: Sequence[Run], shifts: str | None = None, trim: float = 0.0, perturb: Grid | None = None
) -> list[Study]:
    """Return one study per environment, every method scored in the worlds of the suite ``shifts``.

    Args:
        runs: finished runs.
        shifts: a suite; by default that of `evaluate`.
        trim: score every team once more with a trim of this gain, where its environment says what it holds.
        perturb: strengths that every world is played under, as in `evaluate`.

    Raises:
        UserError: there are no runs, one is unfinished or cannot be pooled, or an environment has no such suite.
    """
    if not runs:
        raise UserError("runs: none given; name at least one run directory.")
    # A run that was ended early is another method than those with all their steps.
    runs = [run._replace(config=run.config.replace(steps=run.steps_trained)) for run in runs]
    by_env: dict[str, list[list[Run]]] = {}
    for pool in pooled(runs):
        by_env.setdefault(pool[0].config.env, []).append(pool)
    return [_study(name, ordered(pools), shifts, trim, perturb or {}) for name, pools in by_env.items()]


def ordered(pools: Sequence[list[Run]]) -> list[list[Run]]:
    """Return the pools by factorization as they came; within one, teams without robustness first, then by radius."""
    factorizations = list(dict.fromkeys(pool[0].config.factorization for pool in pools))

    def place(pool: list[Run]) -> tuple:
        config = pool[0].config
        plain = not _is_plain(config)
        return factorizations.index(config.factorization), plain, config.baseline, config.uncertainty, config.rho

    return sorted(pools, key=place)


def family(config: TrainConfig) -> str:
    """Return a text that configs have in common when they differ in nothing but their radius."""
    return _without(config, *RUNNING, "seeds", "first_seed", "rho")


def _study(name: str, pools: list[list[Run]], shifts: str | None, trim: float, perturb: Grid) -> Study:
    env = pools[0][0].env
    found = [[cached_evaluation(run, shifts, perturb) for run in pool] for pool in pools]
    suite = found[0][0].suite
    names = [score.name for score in found[0][0].scores]
    nominal = nominal_world(env, suite, perturb)
    titles = labels([pool[0].config for pool in pools])
    methods = []
    for title, pool, evaluations in zip(titles, pools, found, strict=True):
        scores = np.concatenate([_scores(e) for e in evaluations])
        unshifted = scores[:, names.index(nominal)] if nominal in names else _unshifted(pool)
        methods.append(Method(title, pool[0].config, pool, scores, unshifted))
    controllers = cached_controllers(pools[0][0], suite, perturb)
    trimmed = (
        [_trimmed(method, suite, trim, perturb) for method in methods]
        if trim and env.spec.regulated is not None
        else []
    )
    return Study(env, name, suite, names, nominal or "nominal", methods, controllers, trimmed)


def _trimmed(method: Method, suite: str, trim: float, perturb: Grid) -> Method:
    found = [_scores(cached_evaluation(run, suite, perturb, trim=trim)) for run in method.runs]
    return method._replace(label=f"{method.label} + trim", scores=np.concatenate(found))


def nominal_world(env: Environment, suite: str, perturb: Grid | None = None) -> str | None:
    """Return the name of the world of ``suite`` where nothing shifts, or None where it has none."""
    played, shifts = worlds(env, suite, perturb)

    def same(params: object) -> bool:
        leaves, nominal = jax.tree.leaves(params), jax.tree.leaves(played.params)
        if len(leaves) != len(nominal):  # another environment in another process
            return False
        return all(np.array_equal(x, y) for x, y in zip(leaves, nominal, strict=True))

    return next((shift.name for shift in shifts if same(shift.params)), None)


def _unshifted(pool: list[Run]) -> np.ndarray:
    return np.concatenate([_scores(cached_evaluation(run, "nominal"))[:, 0] for run in pool])


def _scores(evaluation: Evaluation) -> np.ndarray:
    return np.array([score.per_seed for score in evaluation.scores]).T  # [K, W]


def _told(config: TrainConfig, names: Sequence[str]) -> list[str]:
    of_env = changed(config)
    names = [name for name in names if name in of_env and not _follows(name, config)]
    return [_setting(name, of_env[name]) for name in names]


def _setting(name: str, value: object) -> str:
    if name == "steps":
        return f"{_steps(int(str(value)))} steps"
    if name == "worlds":  # the table of runs has the ranges
        return f"worlds by {', '.join(found.name for found in parse_ranges(str(value)))}"
    return f"{name} {_plain(value)}"


def _follows(name: str, config: TrainConfig) -> bool:
    """Whether a setting says nothing of its own about this method, as the dual network of one without."""
    return not config.rho and name in DUAL


def _steps(steps: int) -> str:
    return f"{steps / 1e6:g}M" if steps >= 1e6 else f"{steps / 1e3:g}k" if steps >= 1e4 else str(steps)


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _without_named(config: TrainConfig) -> Mapping[str, object]:
    return {n: v for n, v in vars(config).items() if n not in (*NAMED, *RUNNING)}


def _is_plain(config: TrainConfig) -> bool:
    return config.uncertainty == "nominal" and not config.agent_rho and config.baseline == "none"


def _but_robustness(config: TrainConfig) -> str:
    return _without(config, *ROBUST, *(IN_A_ROW if config.preset == "paper" else ()))


def _without(config: TrainConfig, *names: str) -> str:
    """The config as text with ``names`` at their defaults: equal for configs that differ in nothing else."""
    return dataclasses.replace(config, **{name: FIELDS[name].default for name in names}).to_json()
