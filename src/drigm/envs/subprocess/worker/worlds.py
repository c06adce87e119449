"""An environment whose every episode is in one of several worlds, which differ in options of what makes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .errors import EnvError
from .factory import with_options
from .steps import Facts, SubprocessStep

SAME = ("agents", "obs_size", "state_size", "num_actions", "readings")  # facts in which worlds agree


class InWorlds:
    """The environment ``name`` in ``worlds``; the seed of a reset draws one, with equal chances.

    A world's place in the ranges that it was drawn from stands at the end of the global state.

    Args:
        adapt: makes the environment from a name and a seed.
        name: without the worlds' options.
        seed: of the environment.
        worlds: options, and the place.
    """

    def __init__(
        self, adapt: Callable[[str, int], Any], name: str, seed: int, worlds: Sequence[tuple[Any, list[float]]]
    ) -> None:
        self.adapt, self.name, self.seed, self.worlds, self.world = adapt, name, seed, worlds, 0
        self.env = self._made()
        inner: Facts = self.env.facts
        place = len(worlds[0][1])
        self.facts = inner._replace(
            state_size=inner.state_size + place,
            state_low=[*inner.state_low, *[-1.0] * place],
            state_high=[*inner.state_high, *[1.0] * place],
        )

    def reset(self, seed: int) -> SubprocessStep:
        """Start an episode in the world that ``seed`` draws."""
        world = int(np.random.default_rng([seed, 2]).integers(len(self.worlds)))
        if world != self.world:
            self.world, facts = world, self.env.facts
            self.env.close()
            self.env = self._made()
            changed = [name for name in SAME if getattr(self.env.facts, name) != getattr(facts, name)]
            if changed:
                raise EnvError(f"{self._called()} has other {changed[0]} than {self.name}: not a world of it")
        return self._placed(self.env.reset(seed))

    def step(self, action: np.ndarray) -> SubprocessStep:
        """Take the joint action [N]."""
        return self._placed(self.env.step(action))

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _called(self) -> str:
        return with_options(self.name, self.worlds[self.world][0])

    def _made(self) -> Any:
        return self.adapt(self._called(), self.seed)

    def _placed(self, step: SubprocessStep) -> SubprocessStep:
        place = np.array(self.worlds[self.world][1], np.float32)
        return step._replace(state=np.concatenate([step.state, place]))
