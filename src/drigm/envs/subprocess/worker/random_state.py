"""The generators that all environments of a process share, Python's `random` and NumPy's `numpy.random`.

An environment that draws from them, or seeds them, would change what the others in its process draw. So each has a
state of its own, put in place before it is called.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

NUMPY: Any = np.random
# NumPy 1.24 and later swap the generator itself in a fraction of a microsecond. That forgets the second of each pair of
# normals, so it is done at every call: what an environment draws must not depend on who was called before.
SWAPS = hasattr(NUMPY, "set_bit_generator")
SHARED: random.Random = random._inst  # type: ignore[attr-defined] (what the functions of `random` belong to)
STATES = 2**32


class Chance:
    """The state of the shared generators as one environment sees it."""

    owner: ClassVar[Chance | None] = None  # whose state is in place
    delegated: ClassVar[bool] = False

    def __init__(self, seed: int) -> None:
        self.python = random.Random(seed)
        self.numpy: Any = NUMPY.MT19937(seed % STATES) if SWAPS else NUMPY.RandomState(seed % STATES).get_state()

    def use(self) -> None:
        """Put this state in place, and keep that of the one before."""
        before = Chance.owner
        if before is not None:
            before.numpy = _numpy()
        if before is not self and not Chance.delegated:
            if before is not None:
                before.python.setstate(SHARED.getstate())
            SHARED.setstate(self.python.getstate())
        _put(self.numpy)
        Chance.owner = self

    def seed(self, seed: int) -> None:
        """Put a fresh state in place."""
        fresh = Chance(seed)
        self.use()
        self.python, self.numpy = fresh.python, fresh.numpy
        if not Chance.delegated:
            SHARED.setstate(self.python.getstate())
        _put(self.numpy)


def delegate() -> None:
    """Let the functions of `random` draw from the state in place; to be called before an environment imports them.

    Copying the state of that module takes as long as a step of a small environment.
    """
    for name, function in list(vars(random).items()):
        if getattr(function, "__self__", None) is SHARED:
            setattr(random, name, _delegating(name))
    Chance.delegated = True


def _delegating(name: str) -> Callable[..., Any]:
    def drawn(*args: Any, **kwargs: Any) -> Any:
        source = SHARED if Chance.owner is None else Chance.owner.python
        return getattr(source, name)(*args, **kwargs)

    drawn.__name__ = name
    return drawn


def _numpy() -> Any:
    return NUMPY.get_bit_generator() if SWAPS else NUMPY.get_state()


def _put(state: Any) -> None:
    if SWAPS:
        NUMPY.set_bit_generator(state)
    else:
        NUMPY.set_state(state)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Put the shared generators back as they were, whoever has drawn from them meanwhile."""
    python, generator, state = SHARED.getstate(), _numpy(), NUMPY.get_state()
    try:
        yield
    finally:
        Chance.owner = None
        SHARED.setstate(python)
        _put(generator)
        NUMPY.set_state(state)  # the normals that were drawn ahead too
