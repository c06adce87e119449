"""What a PettingZoo `ParallelEnv` has to do so that a team can be trained in it, each violation in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .faults import EnvError, describe


class Rules(NamedTuple):
    """What an environment declared, and has to keep to."""

    agents: list[Any]
    spaces: dict[Any, Any]  # of observations, without the mask
    obs_sizes: dict[Any, int]
    shapes: dict[Any, tuple[int, ...]]  # of observations
    actions: dict[Any, int]
    first_action: dict[Any, int]
    reward_range: tuple[float, float]  # of one agent


def check_spaces(env: Any) -> Rules:
    """Return what ``env`` declares; raises `EnvError` if a team cannot be trained with it."""
    if callable(getattr(env, "agent_iter", None)):
        raise EnvError("it is an AECEnv, where agents take turns; a ParallelEnv is needed (see aec_to_parallel)")
    for method in ("reset", "step", "observation_space", "action_space"):
        if not callable(getattr(env, method, None)):
            raise EnvError(f"it has no method {method}(); a ParallelEnv is needed")
    agents = list(getattr(env, "possible_agents", None) or [])
    if not agents:
        raise EnvError("possible_agents is missing or empty")
    if len({str(agent) for agent in agents}) != len(agents):
        raise EnvError(f"possible_agents are not distinct: {agents}")
    spaces, sizes, actions, first = {}, {}, {}, {}
    for agent in agents:
        spaces[agent] = box = _box(_space(env, "observation_space", agent), agent)
        sizes[agent] = int(np.prod(box.shape))
        discrete = _space(env, "action_space", agent)
        if np.ndim(getattr(discrete, "n", None) or [0]) or tuple(getattr(discrete, "shape", ())):
            raise EnvError(f"its action space is {discrete}, but only Discrete ones can be trained", agent=agent)
        actions[agent], first[agent] = int(discrete.n), int(getattr(discrete, "start", 0))
    own = getattr(env, "unwrapped", env)
    low, high = getattr(own, "reward_range", None) or (-np.inf, np.inf)
    shapes = {agent: tuple(box.shape) for agent, box in spaces.items()}
    return Rules(agents, spaces, sizes, shapes, actions, first, (float(low), float(high)))


def _space(env: Any, method: str, agent: Any) -> Any:
    try:
        space = getattr(env, method)(agent)
        again = getattr(env, method)(agent)
    except Exception as error:
        raise EnvError(f"{method}(agent) raised {describe(error)}", agent=agent) from error
    if space is not again and space != again:  # comparing two Boxes compares their bounds
        raise EnvError(f"{method}(agent) changes from call to call ({space}, then {again})", agent=agent)
    return space


def _box(space: Any, agent: Any) -> Any:
    """The part of an observation space that networks read: a Box, alone or beside an action mask."""
    inner = getattr(space, "spaces", None)
    if isinstance(inner, dict):
        if "observation" not in inner:
            raise EnvError("its observation space is a Dict without 'observation'", agent=agent)
        space = inner["observation"]
    if not (hasattr(space, "low") and hasattr(space, "high") and getattr(space, "shape", None)):
        raise EnvError(f"its observation space is {space}, but a Box is needed (flatten it first)", agent=agent)
    return space


def check_reset(env: Any, rules: Rules, returned: Any) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Return the observations and infos of a reset."""
    if not (isinstance(returned, tuple) and len(returned) == 2):
        raise EnvError("reset must return (observations, infos)", step=0)
    obs, infos = _columns(("observations", "infos"), (returned[0], returned[1] or {}), 0)
    _known(_living(env, 0), rules, 0)
    if not env.agents:
        raise EnvError("no agent is left after reset", step=0)
    _observations(rules, obs, infos, list(env.agents), set(), 0)
    return obs, infos


def _columns(names: tuple[str, ...], columns: tuple[Any, ...], step: int) -> tuple[dict[Any, Any], ...]:
    for name, column in zip(names, columns, strict=True):
        if not isinstance(column, dict):
            raise EnvError(f"{name} are {type(column).__name__}; a dict by agent is needed", step=step)
    return columns


def _living(env: Any, step: int) -> list[Any]:
    if not isinstance(getattr(env, "agents", None), list | tuple):
        raise EnvError("env.agents is not a list of the agents that are left", step=step)
    return list(env.agents)


def check_step(env: Any, rules: Rules, living: list[Any], step: int, returned: Any) -> tuple[dict[Any, Any], ...]:
    """Return what a step returned; ``living`` acted in it."""
    if not (isinstance(returned, tuple) and len(returned) == 5):
        raise EnvError("step must return (observations, rewards, terminations, truncations, infos)", step=step)
    names = ("observations", "rewards", "terminations", "truncations", "infos")
    obs, rewards, terminations, truncations, infos = _columns(names, (*returned[:4], returned[4] or {}), step)
    for name, column in (("rewards", rewards), ("terminations", terminations), ("truncations", truncations)):
        for agent in living:
            if agent not in column:
                raise EnvError(f"it acted but is missing in {name}", agent=agent, step=step)
    for agent, reward in rewards.items():
        _check_reward(rules, agent, reward, step)
    left = _living(env, step)
    _known(left, rules, step)
    for agent in left:
        if agent not in living:
            raise EnvError("it came back after it had left; agents may only leave", agent=agent, step=step)
        if terminations[agent] or truncations[agent]:
            raise EnvError("it ended but is still in env.agents", agent=agent, step=step)
    # Whose last value is bootstrapped has to be observed once more.
    cut = set() if left else {agent for agent in living if truncations[agent]}
    _observations(rules, obs, infos, left, cut, step)
    return obs, rewards, terminations, truncations, infos


def _check_reward(rules: Rules, agent: Any, reward: Any, step: int) -> None:
    try:
        value = float(reward)
    except (TypeError, ValueError):
        value = np.nan
    if not np.isfinite(value):
        raise EnvError(f"its reward is {reward!r}; a finite number is needed", agent=agent, step=step)
    low, high = rules.reward_range
    slack = 1e-6 * max(1.0, abs(value))
    if not low - slack <= value <= high + slack:
        raise EnvError(f"its reward {value:g} is outside the reward_range {low:g} to {high:g}", agent=agent, step=step)


def check_state(env: Any, size: int | None, step: int) -> np.ndarray | None:
    """Return the global state, None where the environment has none; ``size``: how many numbers it has to have."""
    if not callable(getattr(env, "state", None)):
        return None
    try:
        state = np.asarray(env.state(), np.float32)
    except NotImplementedError:
        return None
    except Exception as error:
        raise EnvError(f"state() raised {describe(error)}", step=step) from error
    if size is not None and state.size != size:
        raise EnvError(f"state() has {state.size} numbers, {size} before", step=step)
    return state


def _known(agents: list[Any], rules: Rules, step: int) -> None:
    for agent in agents:
        if agent not in rules.spaces:
            raise EnvError(f"it is not one of possible_agents ({rules.agents})", agent=agent, step=step)


def _observations(rules: Rules, obs: Any, infos: Any, living: list[Any], cut: set[Any], step: int) -> None:
    """``living`` go on; ``cut`` were ended by the time limit in this step."""
    for agent in (*living, *cut):
        if agent not in obs:
            last = " (the last one: a cut episode is bootstrapped from it)" if agent in cut else ""
            raise EnvError(f"it is missing in the observations{last}", agent=agent, step=step)
    for agent, seen in obs.items():
        if agent not in rules.spaces:
            raise EnvError(f"observed, but not one of possible_agents ({rules.agents})", agent=agent, step=step)
        if isinstance(seen, dict) and "observation" not in seen:
            raise EnvError("its observation is a dict without 'observation'", agent=agent, step=step)
        flat = np.asarray(seen["observation"] if isinstance(seen, dict) else seen)
        expected = rules.shapes[agent]
        if flat.shape != expected:
            raise EnvError(f"its observation has shape {flat.shape}, its space {expected}", agent=agent, step=step)
        if flat.dtype.kind not in "fiub":
            raise EnvError(f"its observation has type {flat.dtype}; numbers are needed", agent=agent, step=step)
        if agent in living or agent in cut:
            _check_mask(rules, seen, infos.get(agent, {}), agent, step, empty=agent in cut)


def check_finite(rules: Rules, obs: dict[Any, Any], rows: np.ndarray, state: np.ndarray, step: int) -> None:
    """Raise `EnvError` unless ``rows``, the observations of all that are left, and ``state`` are finite numbers."""
    if np.isfinite(rows).all() and np.isfinite(state).all():
        return
    for agent, seen in obs.items():
        if agent in rules.spaces and not np.isfinite(seen["observation"] if isinstance(seen, dict) else seen).all():
            raise EnvError("its observation holds a value that is not finite", agent=agent, step=step)
    raise EnvError("state() holds a value that is not finite", step=step)


def _check_mask(rules: Rules, seen: Any, info: Any, agent: Any, step: int, *, empty: bool) -> None:
    mask = info.get("action_mask") if isinstance(info, dict) else None
    mask = seen.get("action_mask") if mask is None and isinstance(seen, dict) else mask
    if mask is None:
        return
    mask = np.asarray(mask)
    if mask.shape != (rules.actions[agent],):
        raise EnvError(
            f"its action mask has shape {mask.shape}, ({rules.actions[agent]},) needed", agent=agent, step=step
        )
    if not empty and not mask.astype(bool).any():  # after the end many environments allow nothing
        raise EnvError("its action mask allows nothing", agent=agent, step=step)


def violations(make: Callable[[], Any], *, episodes: int, limit: int, seed: int = 0) -> Iterator[str]:
    """Yield what goes wrong in ``episodes`` of random play, the first violation of each episode.

    Beyond the rules it is checked that a seed repeats itself and that episodes end within ``limit`` steps.

    Args:
        make: makes the environment as arrays (see `adapters.adapt`).
        episodes: how many to play.
        limit: steps after which an episode counts as endless.
        seed: of the first episode and of the actions.
    """
    random = np.random.default_rng(seed)
    try:
        env = make()
        first, again = env.reset(seed), env.reset(seed)
    except EnvError as error:
        yield str(error)
        return
    repeats = np.array_equal(again.obs, first.obs) and np.array_equal(again.state, first.state)
    if getattr(env, "seeded", True) and not repeats:
        yield "reset(seed) does not repeat itself: two resets on one seed show different observations"
    for episode in range(episodes):
        try:
            shown = env.reset(seed + episode)
            for _ in range(limit):
                action = [random.choice(np.flatnonzero(mask)) for mask in shown.avail_actions]
                shown = env.step(np.array(action, np.int32))
                if shown.over:
                    break
            else:
                yield f"an episode of random play has not ended after {limit} steps; it must terminate or truncate"
                return
        except EnvError as error:
            yield str(error)
