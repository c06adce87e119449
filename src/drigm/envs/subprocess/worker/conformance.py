"""What a PettingZoo `ParallelEnv` has to do so that a team can be trained in it, each violation in a sentence."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .declarations import reward_range_of
from .errors import EnvError, describe

COLUMNS = ("observations", "rewards", "terminations", "truncations", "infos")


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
    agents = _possible_agents(env)
    spaces, sizes, actions, first = {}, {}, {}, {}
    for agent in agents:
        spaces[agent] = box = _box(_space(env, "observation_space", agent), agent)
        sizes[agent] = int(np.prod(box.shape))
        discrete = _space(env, "action_space", agent)
        if np.ndim(getattr(discrete, "n", None) or [0]) or tuple(getattr(discrete, "shape", ())):
            raise EnvError(f"its action space is {discrete}, but only Discrete ones can be trained", agent=agent)
        actions[agent], first[agent] = int(discrete.n), int(getattr(discrete, "start", 0))
    shapes = {agent: tuple(box.shape) for agent, box in spaces.items()}
    return Rules(agents, spaces, sizes, shapes, actions, first, reward_range_of(env).value)


def _possible_agents(env: Any) -> list[Any]:
    try:
        agents = list(getattr(env, "possible_agents", None) or [])
        distinct = len({str(agent) for agent in agents}) == len(set(agents)) == len(agents)
    except Exception as error:
        raise EnvError(f"possible_agents cannot be read ({describe(error)})") from error
    if not agents:
        raise EnvError("possible_agents is missing or empty")
    if not distinct:
        raise EnvError(f"possible_agents are not distinct: {agents}")
    return agents


def _space(env: Any, method: str, agent: Any) -> Any:
    try:
        space = getattr(env, method)(agent)
        again = getattr(env, method)(agent)
        changes = space is not again and space != again  # comparing two Boxes compares their bounds
    except Exception as error:
        raise EnvError(f"{method}(agent) raised {describe(error)}", agent=agent) from error
    if changes:
        raise EnvError(f"{method}(agent) changes from call to call ({space}, then {again})", agent=agent)
    return space


def _box(space: Any, agent: Any) -> Any:
    """The part of an observation space that networks read: a Box, alone or beside an action mask."""
    inner: Any = getattr(space, "spaces", None)
    if hasattr(inner, "keys"):
        if "observation" not in inner:
            raise EnvError("its observation space is a Dict without 'observation'", agent=agent)
        space = inner["observation"]
    if not (hasattr(space, "low") and hasattr(space, "high") and getattr(space, "shape", None) is not None):
        raise EnvError(f"its observation space is {space}, but a Box is needed (flatten it first)", agent=agent)
    return space


def check_reset(env: Any, rules: Rules, returned: Any) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Return the observations and infos of a reset."""
    if not (isinstance(returned, tuple) and len(returned) == 2):
        raise EnvError("reset must return (observations, infos)", step=0)
    obs, infos = _columns(("observations", "infos"), (returned[0], returned[1] or {}), 0)
    living = _living(env, 0)
    _known(living, rules, 0)
    if not living:
        raise EnvError("no agent is left after reset", step=0)
    _observations(rules, obs, infos, living, set(), 0)
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


class Taken(NamedTuple):
    """What a step returned, after it was checked."""

    obs: dict[Any, Any]
    reward: float  # of the team
    truncated: set[Any]  # of the agents that acted
    infos: dict[Any, Any]


def check_step(env: Any, rules: Rules, living: list[Any], step: int, returned: Any) -> Taken:
    """Return what a step returned; ``living`` acted in it."""
    if not (isinstance(returned, tuple) and len(returned) == 5):
        raise EnvError("step must return (observations, rewards, terminations, truncations, infos)", step=step)
    obs, rewards, *flags, infos = _columns(COLUMNS, (*returned[:4], returned[4] or {}), step)
    for name, column in zip(COLUMNS[1:4], (rewards, *flags), strict=True):
        for agent in living:
            if agent not in column:
                raise EnvError(f"it acted but is missing in {name}", agent=agent, step=step)
    reward = _team_reward(rules, rewards, living, step)
    left = _living(env, step)
    _known(left, rules, step)
    terminated, truncated = (
        {agent for agent in living if _flag(column[agent], name, agent, step)}
        for name, column in zip(("termination", "truncation"), flags, strict=True)
    )
    _check_leaving(living, left, terminated | truncated, step)
    # Whose last value is bootstrapped has to be observed once more.
    _observations(rules, obs, infos, left, set() if left else truncated, step)
    return Taken(obs, reward, truncated, infos)


def _flag(value: Any, name: str, agent: Any, step: int) -> bool:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if number not in (0.0, 1.0):
        raise EnvError(f"its {name} is {value!r}; True or False is needed", agent=agent, step=step)
    return number == 1.0


def _check_leaving(living: list[Any], left: list[Any], ended: set[Any], step: int) -> None:
    for agent in left:
        if agent not in living:
            raise EnvError("it came after reset or came back; agents may only leave", agent=agent, step=step)
        if agent in ended:
            raise EnvError("it ended but is still in env.agents", agent=agent, step=step)
    for agent in living:
        if agent not in left and agent not in ended:
            raise EnvError(
                "it left env.agents with neither its termination nor its truncation set; set the one that holds (after "
                "a termination nothing more is earned, after a truncation the team would have gone on)",
                agent=agent,
                step=step,
            )


def _team_reward(rules: Rules, rewards: dict[Any, Any], living: list[Any], step: int) -> float:
    """Return the sum over agents, those that left before included as far as they are paid a number."""
    acted, total = set(living), 0.0
    for agent, reward in rewards.items():
        if agent in acted or (agent in rules.spaces and math.isfinite(_number(reward))):
            total += _reward(rules, agent, reward, step)
    if abs(total) > FLOAT32:
        raise EnvError(
            f"the team's reward, the sum over its agents, is {total:g}, which is too large for float32", step=step
        )
    return total


FLOAT32 = float(np.finfo(np.float32).max)


def _number(value: Any) -> float:
    """Return ``value`` as a number, NaN where it is none."""
    if type(value) is float:
        return value
    try:
        return np.nan if isinstance(value, str | bytes) else float(np.asarray(value).item())
    except (TypeError, ValueError, OverflowError):
        return np.nan


def _reward(rules: Rules, agent: Any, reward: Any, step: int) -> float:
    value = _number(reward)
    if not math.isfinite(value):
        raise EnvError(f"its reward is {reward!r}; a finite number is needed", agent=agent, step=step)
    if abs(value) > FLOAT32:
        raise EnvError(f"its reward is {value:g}, which is too large for float32", agent=agent, step=step)
    low, high = rules.reward_range
    slack = 1e-6 * max(1.0, abs(value))
    if not low - slack <= value <= high + slack:
        raise EnvError(f"its reward {value:g} is outside the reward_range {low:g} to {high:g}", agent=agent, step=step)
    return value


def check_state(env: Any, size: int | None, step: int) -> np.ndarray | None:
    """Return the global state [S], None where the environment has none; ``size``: how many numbers it has to have."""
    if not callable(getattr(env, "state", None)):
        return None
    try:
        state = np.asarray(env.state()).ravel()
    except NotImplementedError:
        if size is None:
            return None
        raise EnvError("state() raised NotImplementedError, but returned a state before", step=step) from None
    except Exception as error:
        raise EnvError(f"state() raised {describe(error)}", step=step) from error
    if state.dtype.kind not in "fiub":
        raise EnvError(f"state() has type {state.dtype}; numbers are needed", step=step)
    if size is not None and state.size != size:
        raise EnvError(f"state() has {state.size} numbers, {size} before", step=step)
    return to_float32(state, "state() holds", None, step)


def to_float32(values: np.ndarray, holds: str, agent: Any, step: int) -> np.ndarray:
    """Return ``values`` as float32; raises `EnvError`, which begins with ``holds``, if one is not finite there."""
    with np.errstate(over="ignore"):
        cast = values.astype(np.float32)
    if not np.isfinite(cast).all():
        worst = values.ravel()[np.flatnonzero(~np.isfinite(cast.ravel()))[0]]
        if math.isfinite(worst):
            raise EnvError(f"{holds} a value that is too large for float32: {worst:g}", agent=agent, step=step)
        raise EnvError(f"{holds} a value that is not finite: {worst:g}", agent=agent, step=step)
    return cast


def _known(agents: list[Any], rules: Rules, step: int) -> None:
    for agent in agents:
        if agent not in rules.spaces:
            raise EnvError(f"it is not one of possible_agents ({rules.agents})", agent=agent, step=step)


def _observations(rules: Rules, obs: Any, infos: Any, living: list[Any], cut: set[Any], step: int) -> None:
    """``living`` go on; ``cut`` were ended by the time limit in this step. What others see does not matter."""
    for agent in (*living, *cut):
        if agent not in obs:
            last = " (the last one: a cut episode is bootstrapped from it)" if agent in cut else ""
            raise EnvError(f"it is missing in the observations{last}", agent=agent, step=step)
        seen = obs[agent]
        if isinstance(seen, dict) and "observation" not in seen:
            raise EnvError("its observation is a dict without 'observation'", agent=agent, step=step)
        try:
            flat = reading_of(seen)
        except ValueError as error:
            raise EnvError(f"its observation is no array ({describe(error)})", agent=agent, step=step) from error
        expected = rules.shapes[agent]
        if flat.shape != expected:
            raise EnvError(f"its observation has shape {flat.shape}, its space {expected}", agent=agent, step=step)
        if flat.dtype.kind not in "fiub":
            raise EnvError(f"its observation has type {flat.dtype}; numbers are needed", agent=agent, step=step)
        _check_mask(rules, mask_of(seen, infos.get(agent)), agent, step, empty=agent in cut)


def reading_of(seen: Any) -> np.ndarray:
    """Return an agent's observation without the mask."""
    return np.asarray(seen["observation"] if isinstance(seen, dict) else seen)


def mask_of(seen: Any, info: Any) -> Any:
    """Return the mask in the info, or in the observation, or None."""
    mask = info.get("action_mask") if isinstance(info, dict) else None
    return seen.get("action_mask") if mask is None and isinstance(seen, dict) else mask


def _check_mask(rules: Rules, mask: Any, agent: Any, step: int, *, empty: bool) -> None:
    if mask is None:
        return
    try:
        mask = np.asarray(mask).astype(bool)
    except (TypeError, ValueError) as error:
        raise EnvError(f"its action mask is no array ({describe(error)})", agent=agent, step=step) from error
    needed = (rules.actions[agent],)
    if mask.shape != needed:
        raise EnvError(f"its action mask has shape {mask.shape}, {needed} needed", agent=agent, step=step)
    if not empty and not mask.any():  # after the end many environments allow nothing
        raise EnvError("its action mask allows nothing", agent=agent, step=step)
