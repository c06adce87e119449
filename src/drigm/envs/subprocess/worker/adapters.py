"""The kinds of environments that a worker can hold."""

from __future__ import annotations

from typing import Any

from .factory import factory
from .faults import EnvError, describe
from .parallel_env import ParallelAdapter
from .smac_env import SmacAdapter, make_smac

KINDS = ("pettingzoo", "smac")


def load(kind: str, name: str) -> None:
    """Import what makes the environment; raises `EnvError`."""
    if kind == "pettingzoo":
        factory(name)


def adapt(kind: str, name: str, seed: int = 0) -> Any:
    """Return a new environment with ``facts``, ``reset(seed)``, ``step(action)`` and ``close()``; raises `EnvError`.

    StarCraft takes ``seed`` when it is made, the others at each reset.
    """
    if kind == "smac":
        return SmacAdapter(make_smac(name, seed), name)
    make = factory(name)
    try:
        env = make()
    except EnvError:
        raise
    except (Exception, SystemExit) as error:
        raise EnvError(f"{name} cannot be made ({describe(error)})") from error
    return ParallelAdapter(env, name)
