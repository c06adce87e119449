"""Compiling the next training programs in the background while one trains.

An accelerator trains a program of the paper's table in seconds and idles while it is compiled, on one core, for half a
minute (benchmarks/NOTES.md). So the programs that a study will need are compiled side by side, on the cores that are
left. Where JAX computes on the processor itself there are none to spare, and everything is compiled when it is needed.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from drigm.core.config import TrainConfig, validate
from drigm.envs.api import Environment
from drigm.runtime.devices import spare_cores
from drigm.training.loop import axes, shared
from drigm.training.programs import Train, compiled
from drigm.training.runs import programs_together
from drigm.training.settings import resolve


class Precompiler:
    """A source of programs for `drigm.training.runs.train_together`, some of which it has had compiled beforehand.

    Use it as a context; what has not begun when the context ends is not compiled. What has begun is compiled to its
    end even then: Python waits for it before it exits. JAX's settings are those of the process, not of a context
    around the call, such as `jax.default_matmul_precision`, which other threads do not see.

    Args:
        threads: how many programs to compile at a time; 0: none ahead. By default what `spare_cores` says.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = spare_cores() if threads is None else threads
        self._pool = ThreadPoolExecutor(self.threads, "compile") if self.threads else None
        self._found: dict[Hashable, Future[Train]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def expect(self, configs: Sequence[TrainConfig]) -> None:
        """Say that ``configs`` will be trained together, from their beginning or a checkpoint of all.

        Raises:
            UserError: see `drigm.training.runs.resolve`.
        """
        if self._pool is None:
            return
        checked = [validate(config) for config in configs]
        _, env = resolve(checked[0])  # here: importing an environment is not for many threads
        if env.subprocess is None and _key(checked) not in self._found:
            self._found[_key(checked)] = self._pool.submit(_compile, checked, env)

    def __call__(self, configs: Sequence[TrainConfig], env: Environment) -> Train:
        """Return the programs that train ``configs`` together, once they are compiled if they were expected."""
        found = self._found.pop(_key(configs), None)
        return programs_together(configs, env) if found is None else found.result()


def _key(configs: Sequence[TrainConfig]) -> Hashable:
    """What a program depends on: the settings that all share, and the number of runs."""
    return shared(configs[0]), sum(config.seeds for config in configs)


def _compile(configs: Sequence[TrainConfig], env: Environment) -> Train:
    return compiled(programs_together(configs, env), *axes(configs))
