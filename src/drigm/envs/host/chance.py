"""The generators that all environments of a process share, Python's `random` and NumPy's `numpy.random`.

An environment that draws from them, or seeds them, would change what the others in its process draw. So each has a
state of its own, put in place before it is called.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

# NumPy 1.24 and later swap the generator itself in a fraction of a microsecond. That forgets the second of each pair of
# normals, so it is done at every call: what an environment draws must not depend on who was called before.
SWAPS = hasattr(np.random, "set_bit_generator")
STATES = 2**32


class Chance:
    """The state of the shared generators as one environment sees it.

    Two of them in turns take some 10 us a call, all of it for Python's `random`; one alone in its process takes
    nothing.
    """

    owner: ClassVar[Chance | None] = None  # whose state is in place

    def __init__(self, seed: int) -> None:
        self._python: Any = random.Random(seed).getstate()
        self._numpy: Any = np.random.MT19937(seed % STATES) if SWAPS else _seeded(seed)

    def use(self) -> None:
        """Put this state in place, and keep that of the one before."""
        before = Chance.owner
        if before is not None:
            before._numpy = _numpy()
            if before is not self:
                before._python = random.getstate()
        if before is not self:
            random.setstate(self._python)
        _put(self._numpy)
        Chance.owner = self

    def seed(self, seed: int) -> None:
        """Put a fresh state in place."""
        fresh = Chance(seed)
        self.use()
        self._python, self._numpy = fresh._python, fresh._numpy
        random.setstate(self._python)
        _put(self._numpy)


def _numpy() -> Any:
    return np.random.get_bit_generator() if SWAPS else np.random.get_state()  # noqa: NPY002


def _put(state: Any) -> None:
    if SWAPS:
        np.random.set_bit_generator(state)
    else:
        np.random.set_state(state)  # noqa: NPY002


def _seeded(seed: int) -> Any:
    return np.random.RandomState(seed % STATES).get_state()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Put the shared generators back as they were, whoever has drawn from them meanwhile."""
    python, numpy, whole = random.getstate(), _numpy(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        Chance.owner = None
        random.setstate(python)
        _put(numpy)
        np.random.set_state(whole)  # noqa: NPY002 (its normals too)
