"""Persistent worlds: a finite set of them is drawn from ranges, and every episode has one from its reset to its end.

A range is written ``name=low:high``, for a physical parameter of the environment or a perturbation, and with ``@3h``
where the environment draws it anew within an episode, after three hours on average (``@4w``: four weeks)::

    capacity=0.7:2.5,power=0.7:1.3,gains=-0.3:0.3@3h,action_delay=0:1

Against a fault that stays it pays to find out what it is; against a nature that chooses anew at every step it never
does. With equal chances this is domain randomization (Tobin et al. 2017); `drigm.algorithms.worst_world` weighs the
worlds by how badly the team does in them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

from drigm.core.errors import UserError, check, choose, shown
from drigm.core.types import Array, PyTree, TimeStep
from drigm.envs.api import Environment, Held, Parameter, PersistentSet, Strength
from drigm.envs.perturbations import PERTURBATIONS, check_strength, perturbed, unperturbed

RANGE = re.compile(r"(\w+)=([^:@]+):([^:@]+?)(?:@([^:@]+)([hw]))?")
HOURS = {"h": 1.0, "w": 168.0}
TRAINING_SEED, EVALUATION_SEED = 5, 1_000_003  # a team is tried in other worlds than those of its training
NOTHING: Mapping[str, float] = MappingProxyType({})


class Range(NamedTuple):
    """Where a parameter may lie."""

    name: str
    low: float
    high: float
    hours: float | None = None  # it is drawn anew within an episode, after that long on average


def parse_ranges(text: str) -> list[Range]:
    """Return the ranges that ``name=low:high,name=low:high@3h`` names; `UserError` where it cannot be read."""
    ranges = [_parse(part) for part in re.split(r"[,\s]+", text.strip()) if part]
    names = [found.name for found in ranges]
    check(len(set(names)) == len(names), "worlds", text, "give each name once")
    return ranges


def _parse(part: str) -> Range:
    match, numbers = RANGE.fullmatch(part), []
    if match is not None:
        name, *texts, unit = match.groups()
        try:
            numbers = [None if number is None else float(number) for number in texts]
            numbers[2] = None if numbers[2] is None else numbers[2] * HOURS[unit]
        except ValueError:
            numbers = []
        if numbers and all(number is None or np.isfinite(number) for number in numbers):
            found = Range(name, *numbers)  # pyright: ignore[reportArgumentType] (low and high always match)
            check(found.low <= found.high, f"worlds {name}", part, "give low:high")
            check(found.hours is None or found.hours > 0, f"worlds {name}", part, "it is held for more than 0 hours")
            return found
    raise UserError(
        f"worlds: {shown(part)} is not allowed; give name=low:high, or name=low:high@HOURSh (see drigm list)."
    )


def check_ranges(env: Environment, ranges: Sequence[Range]) -> None:
    """Raise `UserError` unless ``env`` has all that ``ranges`` name, and takes their ends."""
    # Elsewhere a perturbation is this process's, of all episodes at once; worlds are other processes' business.
    names = [*PERTURBATIONS, *env.parameters] if env.subprocess is None else list(env.parameters)
    check(bool(names), "worlds", env.spec.name, "an environment with parameters or options that are numbers")
    for found in ranges:
        choose("worlds", found.name, names)
        parameter = env.parameters.get(found.name, Parameter(""))
        check(
            found.hours is None or parameter.held, f"worlds {found.name}", f"@{found.hours}h", "leave out @, it stays"
        )
        for end in (found.low, found.high):
            check_strength(env, found.name, end)
    _check_corners(env, ranges)


def _check_corners(env: Environment, ranges: Sequence[Range]) -> None:
    """Raise the environment's `UserError` where it cannot have all that is varied at its lowest, or at its highest."""
    if env.subprocess is not None or env.vary is None:
        return
    varied = [one for one in ranges if one.name in env.parameters]
    for side in ("low", "high") if varied else ():
        env.vary({one.name: _held(one) if _is_held(env, one) else getattr(one, side) for one in varied})


def draw(env: Environment, ranges: Sequence[Range], count: int, seed: int) -> list[dict[str, Strength]]:
    """Return the strengths of ``count`` worlds, a Latin hypercube over ``ranges`` (McKay et al. 1979).

    Factors are drawn logarithmically, whole strengths are rounded; what may be held within an episode is drawn there.
    """
    sizes = [0 if _is_held(env, found) else env.parameters.get(found.name, Parameter("")).size for found in ranges]
    shares = qmc.LatinHypercube(max(1, sum(sizes)), rng=np.random.default_rng(seed)).random(count)
    columns = np.split(shares, np.cumsum(sizes)[:-1], axis=1)
    return [{found.name: _strength(env, found, part[k]) for found, part in zip(ranges, columns)} for k in range(count)]  # noqa: B905 (one column too many where all are held)


def _is_held(env: Environment, found: Range) -> bool:
    return found.name in env.parameters and env.parameters[found.name].held


def _held(found: Range) -> Held:
    return Held(found.low, found.high, found.hours or 0.0)


def _strength(env: Environment, found: Range, share: np.ndarray) -> Strength:
    if _is_held(env, found):
        return _held(found)
    if found.name in env.parameters and env.parameters[found.name].factor:
        value = np.exp(np.log(found.low) + share * np.log(found.high / found.low))
    elif found.name in PERTURBATIONS and PERTURBATIONS[found.name].whole:
        value = np.floor(found.low + share * (found.high - found.low + 1.0 - 1e-9))
    else:
        value = found.low + share * (found.high - found.low)
    return float(value[0]) if value.size == 1 else value


def world_points(env: Environment, text: str, count: int) -> list[tuple[str, dict[str, Strength]]]:
    """Return names and strengths of ``count`` worlds drawn from the ranges ``text``, others than training draws."""
    ranges = parse_ranges(text)
    check_ranges(env, ranges)
    return [(_title(k, point), point) for k, point in enumerate(draw(env, ranges, count, EVALUATION_SEED), 1)]


def _title(number: int, point: Mapping[str, Strength]) -> str:
    parts = [f"{name}={np.mean(value):.2g}" for name, value in point.items() if not isinstance(value, Held)]
    return " ".join([f"world {number}:", *parts]).rstrip(":")


class WorldParams(NamedTuple):
    """Parameters of the set: what all worlds share, and what of each is its own."""

    first: PyTree  # all parameters of the first world
    own: tuple[Array, ...]  # [K, ...], the leaves in which worlds differ
    weights: Array  # [K] the chance that a reset draws each
    context: Array  # [K, D] where each world lies in its ranges, from -1 to 1


class WorldState(NamedTuple):
    """State of an environment in one of the worlds."""

    world: Array  # [] int32
    state: PyTree


def with_context(env: Environment, size: int) -> Environment:
    """Return ``env`` whose global state, which only training sees, has room for a world's place in ``size`` ranges.

    It is 0 everywhere; `persistent` fills it in.
    """
    spec, empty = env.spec, jnp.zeros(size, jnp.float32)

    def wider(step: TimeStep) -> TimeStep:
        return step._replace(state=jnp.concatenate([step.state, empty]))

    def reset(key: Array, params: PyTree) -> tuple[PyTree, TimeStep]:
        state, step = env.reset(key, params)
        return state, wider(step)

    def step(key: Array, state: PyTree, action: Array, params: PyTree) -> tuple[PyTree, TimeStep]:
        state, step = env.step(key, state, action, params)
        return state, wider(step)

    spec = spec._replace(
        state_size=spec.state_size + size,
        state_offset=np.concatenate([spec.state_offset, np.zeros(size, np.float32)]),
        state_scale=np.concatenate([spec.state_scale, np.ones(size, np.float32)]),
    )
    if spec.declared is not None:
        known = np.concatenate([spec.declared.state, np.ones(size, bool)])
        spec = spec._replace(declared=spec.declared._replace(state=known))
    vary = env.vary
    widened = None if vary is None else lambda strengths: with_context(vary(strengths), size)
    if env.subprocess is not None:  # its workers add it
        source = env.subprocess._replace(worlds=(((), (0.0,) * size),))
        return env._replace(spec=spec, subprocess=source, vary=widened)
    return env._replace(spec=spec, reset=reset, step=step, vary=widened)


def in_subprocess_worlds(env: Environment, ranges: Sequence[Range], count: int) -> Environment:
    """Return ``env``, whose episodes other processes play, in ``count`` worlds as `persistent` has them.

    Options are what worlds differ in, chances are equal, and the place in the ranges is part of the global state.
    """
    assert env.subprocess is not None
    points = draw(env, ranges, count, TRAINING_SEED)
    worlds = [
        (
            tuple((name, float(np.asarray(value).item())) for name, value in point.items()),
            tuple(_place(env, found, point[found.name]) for found in ranges),
        )
        for point in points
    ]
    return env._replace(subprocess=env.subprocess._replace(worlds=tuple(worlds)))


def persistent(
    env: Environment, ranges: Sequence[Range], count: int, strengths: Mapping[str, float] = NOTHING
) -> Environment:
    """Return ``env`` in ``count`` worlds drawn from ``ranges``: each reset draws one, and the episode keeps it.

    The mixer may know the world: its place in the ranges stands at the end of the global state. Agents never see it.

    Args:
        env: in JAX, `with_context` of the number of ranges.
        ranges: checked by `check_ranges`.
        count: K.
        strengths: perturbations of all worlds.
    """
    points = [{**strengths, **point} for point in draw(env, ranges, count, TRAINING_SEED)]
    played = perturbed(env, points[0])
    first, treedef = jax.tree.flatten(played.params)
    worlds = [first, *(_leaves(env, point, first) for point in points[1:])]
    differing = [i for i, same in enumerate(first) if any(world[i] is not same for world in worlds)]
    own = tuple(jnp.stack([world[i] for world in worlds]) for i in differing)
    places = [[_place(env, found, point[found.name]) for found in ranges] for point in points]

    def params_of(params: WorldParams, world: Array) -> PyTree:
        leaves = jax.tree.leaves(params.first)
        for i, table in zip(differing, params.own, strict=True):
            leaves[i] = table[world]
        return jax.tree.unflatten(treedef, leaves)

    def known(step: TimeStep, params: WorldParams, world: Array) -> TimeStep:
        return step._replace(state=step.state.at[-len(ranges) :].set(params.context[world]))

    def reset(key: Array, params: WorldParams) -> tuple[WorldState, TimeStep]:
        share = jax.random.uniform(jax.random.fold_in(key, 2))
        world = jnp.minimum(jnp.searchsorted(jnp.cumsum(params.weights), share), count - 1).astype(jnp.int32)
        state, step = played.reset(key, params_of(params, world))
        return WorldState(world, state), known(step, params, world)

    def step(key: Array, state: WorldState, action: Array, params: WorldParams) -> tuple[WorldState, TimeStep]:
        inner, step = played.step(key, state.state, action, params_of(params, state.world))
        return state._replace(state=inner), known(step, params, state.world)

    def weigh(params: WorldParams, weights: Array) -> WorldParams:
        return params._replace(weights=weights)

    def possible(params: WorldParams) -> Array:
        best = env.possible
        if best is None:
            return jnp.zeros(count, jnp.float32)

        def one(world: Array) -> Array:
            return best(unperturbed(params_of(params, world)))  # perturbations make nothing more possible

        return jax.lax.map(one, jnp.arange(count))  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] (untyped)

    weights = jnp.full(count, 1.0 / count, jnp.float32)
    return env._replace(
        params=WorldParams(played.params, own, weights, jnp.asarray(places, jnp.float32)),
        reset=reset,
        step=step,
        persistent=PersistentSet(lambda state: state.world, weigh, possible),
        shifts={},
        suites={},
        parameters={},
        vary=None,
    )


def _leaves(env: Environment, point: Mapping[str, Strength], first: list[Array]) -> list[Array]:
    """Return the parameters of a world; those equal to the first world's are the same arrays, a year of weather too."""
    found = jax.tree.leaves(perturbed(env, point).params)
    return [same if np.array_equal(x, same) else x for x, same in zip(found, first, strict=True)]


def _place(env: Environment, found: Range, strength: Strength) -> float:
    """Return where the world lies in the range, from -1 to 1; 0 for what is drawn within the episode."""
    if isinstance(strength, Held) or found.high == found.low:
        return 0.0
    low, high, mean = found.low, found.high, np.asarray(strength, np.float64)
    if found.name in env.parameters and env.parameters[found.name].factor:
        low, high, mean = np.log(low), np.log(high), np.log(mean)
    return float(2.0 * (np.mean(mean) - low) / (high - low) - 1.0)
