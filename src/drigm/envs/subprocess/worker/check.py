"""check-env: random play that says what an environment does wrong, and what is odd about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import check_warnings
from .conformance import COLUMNS
from .errors import EnvError, Finding, describe
from .random_state import Chance, undisturbed

COMPARED = 100  # steps of an episode that is played again to see whether it repeats itself
LAST_SEED = 2**31 - 1

Record = list[dict[str, Any]]  # what a reset and the steps after it returned, by its name


def findings(
    make: Callable[[], Any], *, episodes: int, limit: int, seed: int = 0, mark: Callable[[], None] = lambda: None
) -> list[Finding]:
    """Return what goes wrong in ``episodes`` of random play, errors first; never raises.

    Beyond the rules it is checked that a seed repeats itself, beside another environment too, that episodes end, and
    that they do so where the environment says.

    Args:
        make: makes the environment as arrays (see `adapters.SubprocessKind`).
        episodes: how many to play.
        limit: steps after which an episode counts as endless.
        seed: of the first episode and of the actions.
        mark: called before each call of the environment.
    """
    inspection = Inspection(make, limit, seed, mark)
    with undisturbed():
        inspection.run(episodes)
    found = inspection.found.values()
    return [*(one for one in found if one.level == "error"), *(one for one in found if one.level == "warning")]


class NoSecondError(EnvError):
    """There is only one environment to inspect."""


class Inspection:
    """Findings about an environment, one of each kind."""

    def __init__(self, make: Callable[[], Any], limit: int, seed: int, mark: Callable[[], None]) -> None:
        self.make, self.limit, self.seed, self.mark = make, limit, seed, mark
        self.found: dict[str, Finding] = {}
        self.returned: dict[str, Any] = {}  # by the last call

    def run(self, episodes: int) -> None:
        """Make an environment, look at it, play it alone, beside another one, and for whole episodes."""
        made: list[Any] = []
        self._try(lambda: made.append(self._made()))
        if not made:
            return
        env = made[0]
        if getattr(env, "seeded", True):  # else it is no ParallelEnv, and a seed cannot be given
            self._try(lambda: self._look(env))
            self._try(lambda: self._repeat(env))
        for episode in range(episodes):
            if not self._try(lambda at=self.seed + episode: self._play(env, at)):
                self._try(env.close, EnvError)
                return
        self._try(env.close, EnvError)

    def error(self, sentence: str) -> None:
        """Keep an error."""
        self.found.setdefault(sentence, Finding(sentence))

    def warn(self, kind: str, sentence: str) -> None:
        """Keep the first warning of its ``kind``."""
        self.found.setdefault(f"warning {kind}", Finding(sentence, "warning"))

    def _try(self, part: Callable[[], Any], *ignored: type[Exception]) -> bool:
        """Run a part; an exception is an error that was found. Returns False if the rest is not worth trying."""
        try:
            return part() is not False
        except ignored:
            pass
        except EnvError as error:
            self.error(str(error))
        except (Exception, SystemExit) as error:
            self.error(describe(error))
        return True

    def _made(self) -> Any:
        self.mark()
        Chance(self.seed).use()
        env = self.make()
        if hasattr(env, "watch"):
            env.watch = lambda method, orders, returned: self._watch(env, method, orders, returned)
        return env

    def _watch(self, env: Any, method: str, orders: Any, returned: Any) -> None:
        """Take in what a call of the environment returned, before anything is made of it."""
        try:
            if method == "reset":
                self.returned = dict(zip(("observations", "infos"), returned, strict=True))
                self._warn_all(check_warnings.of_reset(env.env, env.rules, returned))
            else:
                self.returned = dict(zip(COLUMNS, returned, strict=True))
                self._warn_all(check_warnings.of_step(env.rules, returned, list(orders), env.steps))
            if env.has_state:
                self.returned["state"] = state = env.env.state()
                self._warn_all(check_warnings.of_state(getattr(env.env, "state_space", None), state, env.steps))
        except Exception:  # not even odd: the rules have a sentence for it
            return

    def _warn_all(self, found: Iterator[check_warnings.Oddity]) -> None:
        for kind, oddity in found:
            self.warn(kind, str(oddity))

    def _look(self, env: Any) -> None:
        for kind, sentence in env.odd.items():
            self.warn(kind, sentence)
        self._warn_all(check_warnings.of_environment(env.env, env.rules))

    def _repeat(self, env: Any) -> None:
        """Compare an episode with the same one, played again alone, and then beside another environment."""
        chance = Chance(self.seed)
        first, again = (Track(self, env, chance, self.seed) for _ in range(2))
        for track in (first, again):
            while track.go(COMPARED):
                pass
        message = "reset(seed) does not repeat itself"
        if difference := differs(first.record, again.record):
            where = "with the same actions, episodes on one seed" if difference[1] else "two resets on one seed"
            self._differs(difference, f"{message}: {where} show different {difference[0]}")
            return
        try:
            other = self._made()
        except NoSecondError as error:
            message = (
                f"{error}, so whether two in one process disturb each other was not seen; give its factory instead"
            )
            self.warn("copy", message)
            return
        try:
            beside = self._in_turns(env, other, apart=True)[0]
            if difference := differs(first.record, beside.record):
                self._differs(difference, f"{DISTURB}: {difference[0]} are not those that one alone shows", DISTURBED)
                return
            if difference := differs(*(track.record for track in self._in_turns(env, other, apart=False))):
                self.warn("generators", f"{SHARED} ({difference[0]} differ{_when(difference)})")
        finally:
            self._try(other.close, EnvError)

    def _in_turns(self, env: Any, other: Any, *, apart: bool) -> list[Track]:
        """Play an episode in ``env`` and, in turns with it, ``other``: with chances and seeds ``apart`` or the same."""
        chances = [Chance(self.seed), Chance(self.seed)] if apart else [Chance(self.seed)] * 2
        seeds = (self.seed, LAST_SEED - self.seed if apart else self.seed)
        tracks = [Track(self, *each, seeded=apart) for each in zip((env, other), chances, seeds, strict=True)]
        while tracks[0].go(COMPARED):
            if not tracks[1].go(COMPARED) and apart:
                tracks[1].begin()
        return tracks

    def _differs(self, difference: tuple[str, int], sentence: str, more: str = "") -> None:
        sentence = f"{sentence}{_when(difference)}{more}"
        if difference[0] == "infos":  # nothing is learnt from them
            self.warn("infos", sentence)
        else:
            self.error(sentence)

    def _play(self, env: Any, seed: int) -> bool:
        """Play an episode to its end; returns False if there is none."""
        track, declared = Track(self, env, Chance(seed), seed), env.limit
        while track.go(self.limit, recorded=False):
            pass
        steps = track.steps
        if declared and declared > self.limit and not track.over:
            self.warn("limit", f"an episode went on after the {steps} steps of the check; it declares {declared}")
        elif not track.over:
            self.error(f"an episode of random play has not ended after {steps} steps; it must terminate or truncate")
        elif declared and (steps > declared or (track.truncated and steps != declared)):
            ended = "was truncated at" if track.truncated else "went on to"
            self.warn("limit", f"it declares {declared} steps an episode, but one {ended} step {steps}")
        return track.over


DISTURB = "two of them in one process disturb each other"
DISTURBED = (
    "; one process holds several of them, in training and in evaluation: keep all state in the instance, none in "
    "attributes of its class or in its module"
)
SHARED = (
    "it draws from the generators that all environments of a process share (random, numpy.random): drigm keeps a state "
    "of them for each environment, other libraries do not; use a generator of its own"
)


def _when(difference: tuple[str, int]) -> str:
    return f" from step {difference[1]} on" if difference[1] else ""


class Track:
    """An episode under way: the same seed leads to the same actions, as far as the same is shown."""

    def __init__(self, inspection: Inspection, env: Any, chance: Chance, seed: int, *, seeded: bool = True) -> None:
        self.inspection, self.env, self.chance, self.seed, self.seeded = inspection, env, chance, seed, seeded
        self.record: Record = []
        self.begin()

    def begin(self) -> None:
        """Leave what was played; the next `go` resets."""
        self.actions, self.steps = np.random.default_rng(self.seed), -1
        self.shown: Any = None
        self.over = self.truncated = False

    def go(self, most: int, *, recorded: bool = True) -> bool:
        """Reset, or take a random step; returns whether the episode goes on, at most for ``most`` steps."""
        if self.over or self.steps >= most:
            return False
        self.inspection.mark()
        if self.shown is None:
            if self.seeded:
                self.chance.seed(self.seed)
            else:
                self.chance.use()
            self.shown = self.env.reset(self.seed)
        else:
            action = [self.actions.choice(np.flatnonzero(mask)) for mask in self.shown.avail_actions]
            self.chance.use()
            self.shown = self.env.step(np.array(action, np.int32))
        self.steps += 1
        self.over, self.truncated = self.shown.over, self.shown.truncated
        if recorded:
            self.record.append(frozen(self.inspection.returned))
        return True


def frozen(value: Any) -> Any:
    """Return a copy of arrays and numbers in dicts and lists; whatever else there is counts as the same."""
    if isinstance(value, dict):
        return {key: frozen(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [frozen(one) for one in value]
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiubc":
        return value.copy()
    return value if isinstance(value, bool | int | float | complex | str | np.generic) else None


def differs(first: Record, other: Record) -> tuple[str, int] | None:
    """Return what first differs and at which step, infos last; None if two records are the same."""
    names = (*COLUMNS[:-1], "state", "infos")
    for name in names:
        for step, (one, two) in enumerate(zip(first, other, strict=False)):
            if not same(one.get(name), two.get(name)):
                return name, step
    return None


def same(one: Any, other: Any) -> bool:
    """Return whether two frozen values are equal; NaN equals NaN."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, str) or isinstance(other, str) or one is None or other is None:
        return one == other
    return bool(np.array_equal(one, other, equal_nan=True))
