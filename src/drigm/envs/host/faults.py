"""What an environment did wrong, in one sentence."""

from __future__ import annotations

from typing import Any


class EnvError(Exception):
    """A violation of the environment's contract; ``where`` is a part of it, ``agent`` and ``step`` say when."""

    def __init__(self, sentence: str, *, agent: Any = None, step: int | None = None) -> None:
        super().__init__(sentence)
        self.sentence, self.agent, self.step = sentence, agent, step

    def __str__(self) -> str:
        agent = "" if self.agent is None else f"agent {self.agent!r}, "
        when = {None: "", 0: "at reset: "}.get(self.step, f"at step {self.step}: ")
        return f"{agent}{when}{self.sentence}"


def describe(error: BaseException) -> str:
    """Return the type and message of an exception in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
