"""What a family of controllers says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from drigm.agents.policies import Policy
from drigm.envs.api import Environment, Shift

Names = Callable[[Environment, Environment], list[str]]
Scores = Callable[[Environment, list[Shift], Sequence[str], Environment], dict[str, np.ndarray]]
Make = Callable[[str, Environment, Environment], Policy]


class Family(NamedTuple):
    """Controllers of one kind of environment.

    Attributes:
        titles: what they are called in tables, by name.
        names: ``names(env, trained_in) -> names``, those that the environment has; none where it is of another kind.
        scores: ``scores(env, worlds, names, trained_in) -> {name: [W]}``, mean scores over the protocol's episodes.
        policy: ``policy(name, env, trained_in)``, one that sees what agents see, in the world of the environment.
        seeing: the names that ``policy`` takes.
    """

    titles: Mapping[str, str]
    names: Names
    scores: Scores
    policy: Make | None = None
    seeing: tuple[str, ...] = ()
