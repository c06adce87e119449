"""The units that networks see: those an environment declares, or measured ones where random play shows others.

Standardisation comes from the environment's own spec. Where readings have no bounds, or bounds that they leave, or
bounds of which they visit a small part, offset and scale are measured in a while of random play before training begins.
So is the scale of rewards where none is declared, or where discounted returns under the declared one are far from what
a learner is made for. What was measured never changes again: it is part of the run (`scales.json`) and the same for
every seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.scales import Scales
from drigm.core.types import Declared, EnvSpec, TimeStep
from drigm.envs.api import Environment, reset_all
from drigm.envs.episodes import RolloutState, begin, key_pairs, play
from drigm.runtime.progress import Progress

STEPS = 4_000  # of random play, resets included
SEED = 2_000_003  # of its episodes: the same for every run, so that all runs of an environment have the same units
PARALLEL = 16
# The learner's rewards and discounted returns of random play have at most these root mean squares, and one of them has
# its own. Returns alone would make rewards of long episodes too small to tell actions apart: with 30 in place of 150 a
# building's score after 40,000 steps fell from 0.37 to 0.18.
TYPICAL_RETURN, TYPICAL_REWARD = 150.0, 5.0
SENSIBLE_RETURN = (0.2, 2_000.0)  # where a declared scale of rewards stays as it is
FARTHEST = 10.0  # the largest standardised reading that declared bounds may lead to
SHOWN = 6  # agents that a note names
NARROWEST = 0.1  # the smallest half-width of what standardised readings visit of declared bounds


class RandomPlay(NamedTuple):
    """Time-steps of uniformly random play; leading axes [T, B]."""

    obs: np.ndarray  # [T, B, N, O]
    state: np.ndarray  # [T, B, S]
    reward: np.ndarray  # [T, B]
    over: np.ndarray  # [T, B] bool, the last step of an episode
    alive: np.ndarray  # [T, B, N] bool


def calibrated(env: Environment, gamma: float, *, most: int = PARALLEL, quiet: bool = True) -> Environment:
    """Return ``env`` with scales that fit what random play shows, and a note that says what was measured.

    An environment whose scales are known (`EnvSpec.scales_known`) is returned as it is.

    Args:
        env: the environment.
        gamma: the discount of the returns whose size the scale of rewards is chosen by.
        most: how many of an environment in other processes there may be at once.
        quiet: show no progress.

    Raises:
        UserError: an environment in another process failed.
    """
    spec = env.spec
    if spec.scales_known:
        return env
    everything = Declared(np.ones(spec.obs_offset.shape, bool), np.ones(spec.state_size, bool), True)
    declared = spec.declared or everything
    with Progress(f"measuring scales of {spec.name} by random play", STEPS, quiet=quiet) as progress:
        played = random_play(env, most=most, done=progress.update)
    agents, width = spec.obs_offset.shape
    readings = np.ones((agents, width), bool) if spec.readings is None else np.asarray(spec.readings)
    columns = [
        played.obs[played.alive[:, :, n], n, o] if readings[n, o] else np.zeros(0)
        for n in range(agents)
        for o in range(width)
    ]
    obs = _fitted(columns, spec.obs_offset, spec.obs_scale, declared.obs)
    state = _fitted(
        list(played.state.reshape(-1, spec.state_size).T), spec.state_offset, spec.state_scale, declared.state
    )
    size = max(typical_return(played, gamma), TYPICAL_RETURN / TYPICAL_REWARD * _root_mean_square(played.reward))
    scales = Scales(obs.offset, obs.scale, state.offset, state.scale, _reward_scale(spec, size, declared.reward))
    notes = _notes(spec, obs.measured, state.measured, scales.reward_scale)
    return with_scales(env, scales)._replace(notes=(*env.notes, *notes))


def with_scales(env: Environment, scales: Scales) -> Environment:
    """Return ``env`` with ``scales``, which are known from now on."""
    return env._replace(spec=env.spec._replace(**scales._asdict(), scales_known=True))


def typical_return(played: RandomPlay, gamma: float) -> float:
    """Return the root mean square of the discounted returns of ``played``, 0 where nothing was ever paid.

    Returns are summed forward, ``G_t = gamma G_{t-1} + r_t`` from the start of each episode, so that cut ones count.
    """
    total, returns = np.zeros(played.reward.shape[1]), []
    for reward, over in zip(played.reward.astype(np.float64), played.over, strict=True):
        total = gamma * total + reward
        returns.append(total)
        total = np.where(over, 0.0, total)
    return _root_mean_square(np.array(returns))


def _root_mean_square(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x.astype(np.float64) ** 2)))


def random_play(
    env: Environment, steps: int = STEPS, *, most: int = PARALLEL, done: Callable[[int], None] = lambda steps: None
) -> RandomPlay:
    """Return ``steps`` steps of uniformly random play in the nominal world; raises `UserError` as `calibrated` does.

    ``most`` is as for `calibrated`; ``done`` is called with the number of steps that have been played.
    """
    if env.subprocess is not None:
        return _random_play_subprocess(env, steps, most, done)
    played = _random_play_jax(env, steps)
    done(steps)
    return played


def _random_play_jax(env: Environment, steps: int) -> RandomPlay:
    envs, agents = PARALLEL, env.spec.num_agents

    def act(carry: RolloutState, key: jax.Array) -> tuple[None, jax.Array, None]:
        allowed = jnp.where(carry.timestep.avail_actions, 0.0, -jnp.inf)
        return None, jax.random.categorical(key, allowed).astype(jnp.int32), None

    @jax.jit
    def played() -> TimeStep:
        k_reset, k_steps = jax.random.split(jax.random.key(SEED))
        k_act, k_env = key_pairs(k_steps, -(-steps // envs))
        return play(env, act, begin(None, *reset_all(env, k_reset, envs)), k_env, k_act)[1].before

    shown = jax.tree.map(np.asarray, played())
    alive = np.ones((*shown.reward.shape, agents), bool) if shown.alive is None else shown.alive
    return RandomPlay(shown.obs, shown.state, shown.reward, shown.terminated | shown.truncated, alive)


def _random_play_subprocess(env: Environment, steps: int, most: int, done: Callable[[int], None]) -> RandomPlay:
    assert env.subprocess is not None
    draw, shown = np.random.default_rng(SEED), []
    vector = env.subprocess.open([SEED + k for k in range(min(PARALLEL, most, env.subprocess.most))])
    try:
        now = vector.reset()
        for tick in range(-(-steps // vector.size)):
            done(min(tick * vector.size, steps))
            over = now.terminated | now.truncated
            shown.append(RandomPlay(now.obs, now.state, now.reward, over, now.alive))
            chances = np.where(now.avail_actions, draw.random(now.avail_actions.shape), -1.0)
            vector.send(np.argmax(chances, axis=-1).astype(np.int32))
            now = vector.receive()
        done(steps)
    finally:
        vector.close()
    return RandomPlay(*(np.stack(column) for column in zip(*shown, strict=True)))


class Fit(NamedTuple):
    """Offsets and scales, and which of them were measured."""

    offset: np.ndarray
    scale: np.ndarray
    measured: np.ndarray


def _fitted(columns: list[np.ndarray], offset: np.ndarray, scale: np.ndarray, declared: np.ndarray) -> Fit:
    """Return offset and scale, of any shape, of as many columns of readings: the declared ones where they fit."""
    fit = Fit(np.array(offset, np.float32), np.array(scale, np.float32), np.zeros(np.shape(offset), bool))
    for x, at in zip(columns, np.ndindex(fit.offset.shape), strict=True):
        if x.size and not (declared[at] and _fits(x, float(offset[at]), float(scale[at]))):
            mean, spread = float(x.mean(dtype=np.float64)), float(x.std(dtype=np.float64))
            if spread <= np.spacing(np.float32(abs(mean))):  # nothing varied but rounding: its own size
                spread = abs(mean) or 1.0
            fit.offset[at], fit.scale[at] = mean, spread
            fit.measured[at] = True
    return fit


def _fits(x: np.ndarray, offset: float, scale: float) -> bool:
    """Return whether readings stay near [-1, 1] and use a good part of it; one that never varied says nothing."""
    low, high = (float(x.min()) - offset) / scale, (float(x.max()) - offset) / scale
    return max(-low, high) <= FARTHEST and (low == high or (high - low) / 2.0 >= NARROWEST)


def _reward_scale(spec: EnvSpec, size: float, declared: bool) -> float:
    if size == 0.0 or not np.isfinite(size):
        return spec.reward_scale
    low, high = SENSIBLE_RETURN
    if declared and low <= size * spec.reward_scale <= high:
        return spec.reward_scale
    return TYPICAL_RETURN / size


def _notes(spec: EnvSpec, obs: np.ndarray, state: np.ndarray, reward_scale: float) -> Iterator[str]:
    """Yield what was measured, in sentences; ``obs`` [N, O] and ``state`` [S] say where."""
    of_agents = [f"{agent} ({int(row.sum())})" for agent, row in zip(spec.agents, obs, strict=True) if row.any()]
    if of_agents:
        more = "" if len(of_agents) <= SHOWN else f" and {len(of_agents) - SHOWN} more agents"
        yield f"readings without useful bounds are scaled by random play: {', '.join(of_agents[:SHOWN])}{more}"
    if state.any():
        count = f"{int(state.sum())} of {state.size}"
        yield f"numbers of the state without useful bounds are scaled by random play: {count}"
    if reward_scale != spec.reward_scale:
        yield f"rewards are scaled by {reward_scale:.3g}, as the rewards and discounted returns of random play ask for"
