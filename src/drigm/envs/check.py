"""check_env: what an environment does that a team could not be trained with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drigm.envs.host.conformance import violations
from drigm.envs.host.parallel_env import ParallelAdapter
from drigm.envs.host_vector import HostSource, ask
from drigm.envs.hosted import name_of
from drigm.envs.origin import located
from drigm.errors import UserError, check

HOUR = 3600.0


def check_env(
    env: str | Callable[..., Any] | Any, *, episodes: int = 3, limit: int = 10_000, python: str = ""
) -> list[str]:
    """Play random episodes and return every violation of the contract as a sentence; empty if there is none.

    Args:
        env: ``pettingzoo:package.module:factory``, ``smac:MAP``, a factory, or a PettingZoo `ParallelEnv` itself.
        episodes: how many to play.
        limit: steps after which an episode counts as endless.
        python: interpreter that runs a named environment, if not this one.

    Raises:
        UserError: ``env`` is nothing that can be checked.
    """
    if hasattr(env, "possible_agents") and not isinstance(env, type):
        return list(dict.fromkeys(violations(lambda: ParallelAdapter(env, "env"), episodes=episodes, limit=limit)))
    text = located(env if isinstance(env, str) else name_of(env))
    kind, colon, name = text.partition(":")
    ok = bool(colon) and kind in ("pettingzoo", "smac")
    check(ok, "env", text, "give pettingzoo:package.module:factory or smac:MAP; drigm's own are checked by its tests")
    request = {"do": "check", "episodes": episodes, "limit": limit}
    try:
        return ask(HostSource(kind, name, python, 1), request, "while it was checked", HOUR)["violations"]
    except UserError as error:  # it took its process with it
        return [str(error)]
