"""check_env: what an environment does that a team could not be trained with, and what is odd about it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from drigm.core.errors import UserError, check
from drigm.envs import make_env
from drigm.envs.api import Environment
from drigm.envs.check_jax import jax_findings
from drigm.envs.subprocess.environment import name_of
from drigm.envs.subprocess.source import located
from drigm.envs.subprocess.vector import STEP_SECONDS, SubprocessSource, ask, refuse_inside
from drigm.envs.subprocess.worker.adapters import KINDS
from drigm.envs.subprocess.worker.check import NoSecondError, findings
from drigm.envs.subprocess.worker.errors import Finding, describe
from drigm.envs.subprocess.worker.parallel_env import ParallelAdapter


def check_env(
    env: str | Environment | Callable[..., Any] | Any,
    *,
    episodes: int = 3,
    limit: int = 10_000,
    python: str = "",
    timeout: float = STEP_SECONDS,
) -> list[Finding]:
    """Play random episodes and return what is wrong as sentences, errors before warnings; empty if nothing is.

    A `Finding` is a text with a ``level``: an ``"error"`` keeps a team from training, or makes results depend on
    what they must not depend on; a ``"warning"`` says that something is odd.

    Args:
        env: an environment in JAX (`drigm.envs.api.Environment`) or the id of one, as in ``python:FILE.py:ATTRIBUTE``;
            ``pettingzoo:package.module:factory``, ``smac:MAP``, ``energyplus:BUILDING/CITY``, a factory, or a
            PettingZoo `ParallelEnv` itself, which is copied to see whether two of them disturb each other.
        episodes: how many to play.
        limit: steps after which an episode counts as endless, or, in JAX, is left.
        python: interpreter that runs a named environment, if not this one.
        timeout: seconds that a step of a named environment may take.

    Raises:
        UserError: ``env`` is nothing that can be checked.
    """
    check(episodes >= 1, "episodes", episodes, "at least 1")
    check(limit >= 1, "limit", limit, "at least 1")
    check(0.0 < timeout < math.inf, "timeout", timeout, "a number of seconds above 0")
    if isinstance(env, Environment):
        return jax_findings(env, episodes=episodes, limit=limit)
    if not isinstance(env, str | type) and (_has(env, "possible_agents") or not callable(env)):
        return findings(_maker(env), episodes=episodes, limit=limit)
    text = located(env if isinstance(env, str) else name_of(env), python)
    kind, _, name = text.partition(":")
    if kind not in KINDS:  # one in JAX
        return jax_findings(make_env(text), episodes=episodes, limit=limit)
    refuse_inside()  # here, where it is no finding
    request = {"do": "check", "episodes": episodes, "limit": limit}
    try:
        found = ask(SubprocessSource(kind, name, python, 1, timeout=timeout), request, "while it was checked")[
            "findings"
        ]
    except UserError as error:  # it took its process with it
        return [Finding(str(error))]
    return [Finding(sentence, level) for level, sentence in found]


def _maker(env: Any) -> Callable[[], ParallelAdapter]:
    """Return what gives ``env`` itself at first, then copies of it."""
    given: list[Any] = []

    def make() -> ParallelAdapter:
        if not given:
            given.append(env)
            return ParallelAdapter(env, "env")
        try:
            other = copy.deepcopy(env)
        except Exception as error:
            raise NoSecondError(f"it cannot be copied ({describe(error)})") from error
        return ParallelAdapter(other, "env")

    return make


def _has(env: Any, name: str) -> bool:
    try:
        return hasattr(env, name)
    except Exception:
        return False
