"""What is odd about a PettingZoo `ParallelEnv`: a team can be trained in it, but something is not as it was said.

`drigm.envs.subprocess.worker.conformance` has what keeps a team from training. Together they find what PettingZoo's own
`parallel_api_test` finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .conformance import COLUMNS, Rules, reading_of
from .declarations import UNBOUNDED
from .errors import EnvError, describe

TOLD_APART = 256  # values of a reading, at least, that float32 should tell apart
CONVERSIONS = (
    "aec_to_parallel_wrapper",
    "parallel_to_aec_wrapper",
    "turn_based_aec_to_parallel_wrapper",
    "BaseWrapper",
)

Oddity = tuple[str, EnvError]  # its kind, of which one is enough, and a sentence


def of_environment(env: Any, rules: Rules) -> Iterator[Oddity]:
    """Yield what is odd about an environment that is not played: its methods and its spaces."""
    try:
        bases = {base.__name__ for base in type(env.unwrapped).__mro__}
    except Exception as error:
        yield "unwrapped", EnvError(f"env.unwrapped raised {describe(error)}")
        bases = set()
    if bases.intersection(CONVERSIONS):
        yield "unwrapped", EnvError(f"env.unwrapped is a {type(env.unwrapped).__name__}, which is a wrapper itself")
    for arguments in ({"seed": 0, "options": {"options": 1}}, {}):
        try:
            env.reset(**arguments)
        except (Exception, SystemExit) as error:
            pattern = ", ".join(arguments)
            yield (
                "arguments",
                EnvError(f"reset({pattern}) raised {describe(error)}; seed and options are both optional"),
            )
    for agent in rules.agents:
        for method in ("observation_space", "action_space"):
            if getattr(env, method)(agent) is not getattr(env, method)(agent):
                pattern = f"{method}(agent) returns another object at each call, which forgets the seed of its samples"
                yield method, EnvError(f"{pattern}; make it once", agent=agent)
        yield from _of_box(rules.spaces[agent], agent)


def _of_box(box: Any, agent: Any) -> Iterator[Oddity]:
    low, high = (np.asarray(side, np.float64).ravel() for side in (box.low, box.high))
    for i in np.flatnonzero(low > high)[:1]:
        yield "bounds", EnvError(f"its Box has no values: reading {i} is from {low[i]:g} to {high[i]:g}", agent=agent)
    far = np.maximum(np.abs(low), np.abs(high))
    bounded = (far <= UNBOUNDED) & (low < high)
    apart = np.spacing(np.where(bounded, far, 1.0).astype(np.float32)).astype(np.float64)
    for i in np.flatnonzero(bounded & (np.where(bounded, high - low, np.inf) < TOLD_APART * apart))[:1]:
        pattern = f"its reading {i} is from {low[i]:.10g} to {high[i]:.10g}, of which float32 tells few values apart"
        yield "precision", EnvError(f"{pattern}; subtract what does not change", agent=agent)


def of_reset(env: Any, rules: Rules, returned: Any) -> Iterator[Oddity]:
    """Yield what is odd about what a reset returned."""
    obs, infos = returned
    living = list(env.agents)
    for agent in rules.agents:
        if agent not in living:
            pattern = "it is one of possible_agents but not there after reset; it counts as dead"
            yield "absent", EnvError(pattern, agent=agent, step=0)
    yield from _of_keys(rules, ("observations", "infos"), (obs, infos), living, 0)
    yield from _of_observations(rules, obs, living, 0)


def of_step(rules: Rules, returned: Any, living: list[Any], step: int) -> Iterator[Oddity]:
    """Yield what is odd about what a step returned; ``living`` acted in it."""
    obs, rewards, terminations, truncations, _ = returned
    yield from _of_keys(rules, COLUMNS, returned, living, step)
    yield from _of_observations(rules, obs, living, step)
    for agent in living:
        for name, flag in (("termination", terminations[agent]), ("truncation", truncations[agent])):
            if not isinstance(flag, bool | np.bool_):
                pattern = f"its {name} is {flag!r}, a {type(flag).__name__}; True or False is meant"
                yield name, EnvError(pattern, agent=agent, step=step)
        if np.ndim(rewards[agent]):
            pattern = f"its reward is an array of shape {np.shape(rewards[agent])}; a number is meant"
            yield "reward", EnvError(pattern, agent=agent, step=step)


def of_state(box: Any, state: Any, step: int) -> Iterator[Oddity]:
    """Yield what is odd about a state, where its space ``box`` is a Box."""
    if hasattr(box, "low") and np.size(box.low) == np.size(state):
        yield from _of_values("state", "number {} of the state is {:g}, outside state_space", box, state, None, step)


def _of_keys(
    rules: Rules, names: tuple[str, ...], columns: tuple[Any, ...], living: list[Any], step: int
) -> Iterator[Oddity]:
    for name, column in zip(names, columns, strict=True):
        if not isinstance(column, dict):
            yield f"no {name}", EnvError(f"{name} are {column!r}; a dict by agent is meant", step=step)
            continue
        for agent in living:
            if agent not in column:
                yield f"no {name}", EnvError(f"it is missing in {name}", agent=agent, step=step)
        for agent in column:
            if agent not in rules.spaces:
                pattern = f"{name} have the key {agent!r}, which is none of possible_agents; it is not used"
                yield f"unknown {name}", EnvError(pattern, step=step)
            elif agent not in living:
                yield f"more {name}", EnvError(f"it is in {name} but had left before", agent=agent, step=step)


def _of_observations(rules: Rules, obs: dict[Any, Any], living: list[Any], step: int) -> Iterator[Oddity]:
    for agent in living:
        if agent not in obs:
            continue
        seen, box = obs[agent], rules.spaces[agent]
        inner = seen["observation"] if isinstance(seen, dict) else seen
        values, meant = reading_of(seen), getattr(box, "dtype", None)
        if not isinstance(inner, np.ndarray | np.generic):
            pattern = f"its observation is a {type(inner).__name__}; a NumPy array is meant"
            yield "type", EnvError(pattern, agent=agent, step=step)
        elif meant is not None and values.dtype != meant:
            yield "dtype", EnvError(f"its observation is {values.dtype}, its Box {meant}", agent=agent, step=step)
        yield from _of_values("box", "its reading {} is {:g}, outside its Box", box, values, agent, step)
        if isinstance(seen, dict) and (mask := seen.get("action_mask")) is not None:
            yield from _of_mask(mask, agent, step)


def _of_values(kind: str, pattern: str, box: Any, values: Any, agent: Any, step: int) -> Iterator[Oddity]:
    """Yield the first of ``values`` that is not in ``box``, rounding apart; what is not finite is an error anyway."""
    low, high, x = (np.asarray(side, np.float64).ravel() for side in (box.low, box.high, values))
    with np.errstate(invalid="ignore"):
        slack = 1e-6 * np.maximum(1.0, np.minimum(np.abs(x), UNBOUNDED))
        outside = np.isfinite(x) & ((x < low - slack) | (x > high + slack))
    for i in np.flatnonzero(outside)[:1]:
        yield kind, EnvError(f"{pattern.format(i, x[i])} of {low[i]:g} to {high[i]:g}", agent=agent, step=step)


def _of_mask(mask: Any, agent: Any, step: int) -> Iterator[Oddity]:
    array = np.asarray(mask)
    if not isinstance(mask, np.ndarray) or array.dtype != np.int8:
        pattern = f"its action mask is {array.dtype if isinstance(mask, np.ndarray) else type(mask).__name__}"
        yield "mask", EnvError(f"{pattern}; gymnasium's samples need an int8 array", agent=agent, step=step)
    elif not np.isin(array, (0, 1)).all():
        yield "mask", EnvError(f"its action mask {array.tolist()} is not 0 or 1", agent=agent, step=step)
