"""The kinds of environments that live in processes of their own. Adding one is one record in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .errors import EnvError, describe
from .factory import factory
from .parallel_env import ParallelAdapter
from .smac_env import SmacAdapter, make_smac


class SubprocessKind(NamedTuple):
    """How environments of a library are made and evaluated.

    Attributes:
        adapt: ``adapt(name, seed)`` returns a new environment with ``facts``, ``reset(seed)``, ``step(action)`` and
            ``close()``; StarCraft takes the seed when it is made, the others at each reset. Raises `EnvError`.
        eval_episodes: how many episodes an evaluation plays.
        at_once: how many environments it may hold at the same time.
        scales_known: the environments' numbers are standardised already.
        load: ``load(name)`` imports what makes the environment. Raises `EnvError`.
    """

    adapt: Callable[[str, int], Any]
    eval_episodes: int
    at_once: int
    scales_known: bool = False
    load: Callable[[str], object] = lambda name: None


def _pettingzoo(name: str, seed: int) -> ParallelAdapter:
    make = factory(name)
    try:
        env = make()
    except EnvError:
        raise
    except (Exception, SystemExit) as error:
        raise EnvError(f"{name} cannot be made ({describe(error)})") from error
    return ParallelAdapter(env, name, make.floats())


def _energyplus(name: str, seed: int) -> ParallelAdapter:
    place, _, query = name.partition("?")
    building, _, city = place.partition("/")
    make = factory(f"drigm.envs.energyplus:parallel_env?building={building}&city={city}&{query}")
    try:
        env = make()
    except (Exception, SystemExit) as error:
        if type(error).__name__ == "UserError":  # drigm's own, which this process may be without
            raise EnvError(str(error).rstrip(".")) from error
        raise EnvError(f"it cannot be made ({describe(error)})") from error
    return ParallelAdapter(env, name)


KINDS = {
    # Few at once: each has an engine to start and a day to begin before it plays the first.
    "energyplus": SubprocessKind(_energyplus, eval_episodes=20, at_once=4, scales_known=True),
    "pettingzoo": SubprocessKind(_pettingzoo, eval_episodes=64, at_once=64, load=factory),
    # Every StarCraft environment is a game of its own; its readings lie in [-1, 1], its returns in [0, 20].
    "smac": SubprocessKind(
        lambda name, seed: SmacAdapter(make_smac(name, seed), name), eval_episodes=32, at_once=8, scales_known=True
    ),
}
