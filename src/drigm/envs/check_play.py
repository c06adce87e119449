"""Random play in a JAX environment: whether what it shows is what its spec declares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.types import Array, EnvSpec, TimeStep
from drigm.envs.api import Environment
from drigm.envs.subprocess.worker.errors import Finding

FARTHEST = 10.0  # the largest standardised number that a declared scale may lead to
ROUNDING = 1e-4  # of the size of a bound


def of_play(env: Environment, key: Array, episodes: int, limit: int) -> Iterator[Finding]:
    """Play ``episodes`` at random, all at once, for at most ``limit`` steps, and yield what does not fit the spec."""
    length = min(limit, env.spec.episode_limit)
    played = jax.tree.map(np.asarray, _random_play(env, key, episodes, length))  # [T + 1, B, ...]
    over = played.terminated | played.truncated
    # What comes after an end is undefined. [T + 1, B]: no end has come before.
    shown = np.cumsum(over, axis=0) - over == 0
    for part in (_numbers, _rewards, _masks, _ends, _alive):
        yield from part(env.spec, played, shown)
    yield from _lengths(env.spec, played, shown, length)


def _random_play(env: Environment, key: Array, episodes: int, length: int) -> TimeStep:
    """Return the time-steps [T + 1, B] of the protocol's first episodes under random available actions."""
    key_reset, key_play = jax.random.split(key)
    count = jnp.arange(episodes, dtype=jnp.int32) % env.num_eval_episodes
    params = jax.vmap(lambda i: env.episode(jax.tree.map(jnp.asarray, env.params), i))(count)
    has_params = bool(jax.tree.leaves(params))
    worlds = 0 if has_params else None

    def advance(carry: tuple[Any, TimeStep], key: Array) -> tuple[tuple[Any, TimeStep], TimeStep]:
        state, shown = carry
        key_act, key_step = jax.random.split(key)
        possible = jnp.any(shown.avail_actions, axis=-1, keepdims=True)
        logits = jnp.where(shown.avail_actions | ~possible, 0.0, -jnp.inf)
        action = jax.random.categorical(key_act, logits).astype(jnp.int32)
        keys = jax.random.split(key_step, episodes)
        after = jax.vmap(env.step, in_axes=(0, 0, 0, worlds))(keys, state, action, params)
        return after, after[1]

    def run() -> TimeStep:
        begun = jax.vmap(env.reset, in_axes=(0, worlds))(jax.random.split(key_reset, episodes), params)
        _, later = jax.lax.scan(advance, begun, jax.random.split(key_play, length))
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), begun[1], later)

    return jax.jit(run)()


def _when(where: np.ndarray) -> str:
    """Return ``at reset`` or ``at step 3`` of the first True in [T + 1, B, ...]."""
    step = int(np.argwhere(where)[0][0])
    return "at reset" if step == 0 else f"at step {step}"


def _numbers(spec: EnvSpec, played: TimeStep, shown: np.ndarray) -> Iterator[Finding]:
    """Readings and the state are finite, inside their bounds, and of a size that their scale fits."""
    readings = np.ones((spec.num_agents, spec.obs_size), bool) if spec.readings is None else np.asarray(spec.readings)
    at = shown[:, :, None, None] & readings
    if played.alive is not None:
        at = at & np.asarray(played.alive)[..., None]
    obs, state = np.asarray(played.obs, np.float64), np.asarray(played.state, np.float64)
    wrong = [(shown[:, :, None, None] & ~np.isfinite(obs), obs), (shown[:, :, None] & ~np.isfinite(state), state)]
    for where, values in wrong:
        if where.any():
            place = tuple(np.argwhere(where)[0])
            whose = f"agent {spec.agents[place[2]]!r}, {_when(where)}: its reading" if values is obs else ""
            whose = whose or f"{_when(where)}: the state's number"
            yield Finding(f"{whose} {place[-1]} is {values[place]}; a finite number is needed")
    if any(where.any() for where, _ in wrong):
        return
    yield from _bounds(spec, obs, at)
    known = (True, True) if spec.declared is None else (spec.declared.obs, spec.declared.state)
    yield from _far("reading", obs, (obs - spec.obs_offset) / spec.obs_scale, at & known[0])
    standardised = (state - spec.state_offset) / spec.state_scale
    yield from _far("number of the state", state, standardised, shown[:, :, None] & known[1])


def _far(name: str, values: np.ndarray, standardised: np.ndarray, at: np.ndarray) -> Iterator[Finding]:
    far = at & (np.abs(standardised) > FARTHEST)
    if far.any():
        place = tuple(np.argwhere(far)[0])
        message = (
            f"{_when(far)}: {name} {place[-1]} is {values[place]:g}, which networks see as {standardised[place]:.3g}"
        )
        yield Finding(f"{message}; its offset and scale do not fit", "warning")


def _bounds(spec: EnvSpec, obs: np.ndarray, at: np.ndarray) -> Iterator[Finding]:
    if spec.described is None or spec.described.low is None or spec.described.high is None:
        return
    low, high = (np.asarray(x, np.float64) for x in (spec.described.low, spec.described.high))
    outside = at & ((obs < low - ROUNDING * np.abs(low)) | (obs > high + ROUNDING * np.abs(high)))
    if outside.any():
        place = tuple(np.argwhere(outside)[0])
        ends = f"{low[place[2:]]:g} to {high[place[2:]]:g}"
        who = f"agent {spec.agents[place[2]]!r}, {_when(outside)}"
        yield Finding(f"{who}: its reading {place[3]} is {obs[place]:g}, outside the declared {ends}", "warning")


def _rewards(spec: EnvSpec, played: TimeStep, shown: np.ndarray) -> Iterator[Finding]:
    reward = np.asarray(played.reward, np.float64)
    if (wrong := shown & ~np.isfinite(reward)).any():
        yield Finding(f"{_when(wrong)}: the reward is {reward[tuple(np.argwhere(wrong)[0])]}")
        return
    low, high = spec.reward_range
    slack = ROUNDING * max((abs(x) for x in (low, high) if np.isfinite(x)), default=0.0)
    after = np.arange(len(reward))[:, None] > 0  # a reset's reward is no step's
    if (wrong := shown & after & ((reward < low - slack) | (reward > high + slack))).any():
        value = reward[tuple(np.argwhere(wrong)[0])]
        yield Finding(
            f"{_when(wrong)}: the reward is {value:g}, outside spec.reward_range of {low:g} to {high:g}, which bounds "
            "every value"
        )
    if np.any(reward[0] != 0.0):
        yield Finding(
            f"at reset: the reward is {reward[0][reward[0] != 0.0][0]:g}; no transition led there, so 0 is needed"
        )


def _masks(spec: EnvSpec, played: TimeStep, shown: np.ndarray) -> Iterator[Finding]:
    avail = np.asarray(played.avail_actions)
    acting = shown & ~(played.terminated | played.truncated)
    needs = acting[:, :, None] if played.alive is None else acting[:, :, None] & np.asarray(played.alive)
    if (none := needs & ~avail.any(axis=-1)).any():
        who = spec.agents[np.argwhere(none)[0][2]]
        yield Finding(f"agent {who!r}, {_when(none)}: no action is available; at least one must be")
    masked = shown[:, :, None, None] & ~avail
    if not spec.masks_actions and masked.any():
        yield Finding(
            f"{_when(masked)}: an action is not available, but spec.masks_actions is False: it would be taken"
        )
    if spec.masks_actions and not masked.any():
        yield Finding("spec.masks_actions is True, but every action was always available", "warning")


def _ends(spec: EnvSpec, played: TimeStep, shown: np.ndarray) -> Iterator[Finding]:
    terminated, truncated = shown & played.terminated, shown & played.truncated
    if terminated[0].any() or truncated[0].any():
        yield Finding("at reset: the episode has ended already; terminated and truncated must be False")
    if terminated.any() and not spec.terminates:
        yield Finding(f"{_when(terminated)}: an episode terminated, but spec.terminates is False")
    if (both := terminated & truncated).any():
        message = (
            "termination wins, so its future is worth 0: leave truncated False there, or terminated at a time limit"
        )
        yield Finding(f"{_when(both)}: an episode both terminated and was truncated; {message}", "warning")


def _alive(spec: EnvSpec, played: TimeStep, shown: np.ndarray) -> Iterator[Finding]:
    if played.alive is None:
        return
    alive = np.asarray(played.alive)
    back = shown[1:, :, None] & alive[1:] & ~alive[:-1]
    if back.any():
        place = np.argwhere(back)[0]
        yield Finding(f"agent {spec.agents[place[2]]!r}, at step {place[0] + 1}: it came back to life", "warning")


def _lengths(spec: EnvSpec, played: TimeStep, shown: np.ndarray, length: int) -> Iterator[Finding]:
    over = shown & (played.terminated | played.truncated)
    if not over.any(axis=0).all():
        if length < spec.episode_limit:
            message = f"an episode went on after the {length} steps of the check; its limit is {spec.episode_limit}"
            yield Finding(message, "warning")
        else:
            yield Finding(f"an episode has not ended after {length} steps, its spec.episode_limit: truncate it there")
    early = shown & played.truncated & ~played.terminated
    early[spec.episode_limit :] = False
    if early.any():
        message = f"an episode was truncated, before its spec.episode_limit of {spec.episode_limit} steps"
        yield Finding(f"{_when(early)}: {message}", "warning")
