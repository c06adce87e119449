"""The record that a baseline is: what it changes in a run that is otherwise the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from drigm.algorithms.uncertainty import UncertaintySet
from drigm.core.types import Array, PyTree
from drigm.envs.api import Environment


def same_environment(env: Environment, num_envs: int) -> Environment:
    """Train in the nominal world."""
    del num_envs
    return env


class RewardModels(NamedTuple):
    """Estimators of the reward, one per source world W, that the targets use in place of the sampled reward."""

    networks: PyTree  # leading axis [W]


class Baseline(NamedTuple):
    """A method to compare with: same learner, optimiser, schedule and team's budget, one thing changed.

    Attributes:
        name: what the command line and config.json call it.
        about: one line for `drigm list`.
        uncertainty: replaces the run's uncertainty set (the run's must then be nominal; its rho is this one's).
        environment: ``environment(env, num_envs) -> env`` that the team trains in; it is scored in the nominal one.
        reward_models: ``reward_models(env, leaky, steps, seeds [K]) -> RewardModels`` with a leading seed axis, fitted
            before training.
        needs_sources: it cannot do without the environment's suite ``sources``.
        private: each agent takes the worst case of its own value instead of the team's.
    """

    name: str
    about: str
    uncertainty: UncertaintySet | None = None
    environment: Callable[[Environment, int], Environment] = same_environment
    reward_models: Callable[[Environment, bool, int, Array], RewardModels] | None = None
    needs_sources: bool = False
    private: bool = False
