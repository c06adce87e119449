"""What an environment did wrong, in one sentence."""

from __future__ import annotations

from typing import Any

LONGEST = 500  # characters of what an environment says that get into a message


class EnvError(Exception):
    """A violation of the environment's contract; ``agent`` and ``step`` say whose and when."""

    def __init__(self, sentence: str, *, agent: Any = None, step: int | None = None) -> None:
        super().__init__(sentence)
        self.sentence, self.agent, self.step = sentence, agent, step

    def __str__(self) -> str:
        agent = "" if self.agent is None else f"agent {self.agent!r}, "
        when = {None: "", 0: "at reset: "}.get(self.step, f"at step {self.step}: ")
        return shorten(f"{agent}{when}{self.sentence}")


class Finding(str):
    """A sentence about an environment with its ``level``: an "error" keeps it from training, a "warning" is odd."""

    __slots__ = ("level",)

    level: str

    def __new__(cls, sentence: str, level: str = "error") -> Finding:
        found = super().__new__(cls, sentence)
        found.level = level
        return found


def shorten(text: str, most: int = LONGEST) -> str:
    """Return ``text`` in one line of at most ``most`` characters."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def describe(error: BaseException) -> str:
    """Return the type and message of an exception in one line."""
    try:
        text = shorten(str(error))
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
