"""check_env for environments in JAX: what keeps one from training, and what is odd about it.

Its spec is held against itself, its functions against the spec, traced, under jit and vmap, and in random play.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.types import Array, PyTree, TimeStep
from drigm.envs.api import Environment
from drigm.envs.check_play import of_play
from drigm.envs.check_spec import of_numbers, of_params, of_spec
from drigm.envs.subprocess.worker.errors import Finding, describe

COMPARED = 1  # steps that are played in every way
CLOSE = 1e-3  # of the largest number: what compiling may change by rounding


def jax_findings(env: Environment, *, episodes: int, limit: int, seed: int = 0) -> list[Finding]:
    """Return what is wrong with ``env``, errors before warnings; empty if nothing is. It never raises.

    Args:
        env: the environment.
        episodes: how many to play at random.
        limit: steps after which an episode is left.
        seed: of the keys.
    """
    found: dict[str, Finding] = {}
    key = jax.random.key(seed)
    parts: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("spec", lambda: of_spec(env.spec)),
        ("spec", lambda: of_numbers(env.spec)),
        ("params", lambda: of_params(env)),
        ("a trace", lambda: _shapes(env, key)),
        ("params", lambda: _worlds(env)),
        ("the same key", lambda: _purity(env, key)),
        ("params under jax.vmap", lambda: _vmapped_params(env, key)),
        ("random play", lambda: of_play(env, key, episodes, limit)),
    )
    for what, part in parts:
        try:
            for one in part():
                found.setdefault(str(one), one)
        except Exception as error:
            one = Finding(f"{what}: {describe(error)}")
            found.setdefault(str(one), one)
        if any(one.level == "error" for one in found.values()):
            break  # what comes later would only repeat it
    return sorted(found.values(), key=lambda one: one.level != "error")


def _shapes(env: Environment, key: Array) -> Iterator[Finding]:
    """Hold what reset and step return against the spec, without computing anything."""
    spec = env.spec
    action = jax.ShapeDtypeStruct((spec.num_agents,), jnp.int32)
    made: dict[str, tuple[PyTree, TimeStep]] = {}
    for name, call in (
        ("reset", lambda: jax.eval_shape(env.reset, key, env.params)),
        ("step", lambda: jax.eval_shape(env.step, key, made["reset"][0], action, env.params)),
    ):
        try:
            returned: Any = call()
        except Exception as error:
            yield Finding(f"{name} cannot be compiled by JAX ({describe(error)})")
            return
        if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], TimeStep)):
            yield Finding(f"{name} returns {type(returned).__name__}; (env_state, TimeStep) is needed")
            return
        made[name] = returned
        yield from _time_step(env, name, returned[1])
    if difference := _difference(made["reset"][0], made["step"][0]):
        yield Finding(f"step returns another state than reset: {difference}; both must have one structure")


def _time_step(env: Environment, name: str, step: TimeStep) -> Iterator[Finding]:
    spec = env.spec
    agents, flag = spec.num_agents, ((), "bool")
    wanted = {
        "obs": ((agents, spec.obs_size), "float32"),
        "state": ((spec.state_size,), "float32"),
        "avail_actions": ((agents, spec.num_actions), "bool"),
        "reward": ((), "float32"),
        "terminated": flag,
        "truncated": flag,
        "alive": ((agents,), "bool") if spec.agents_die else None,
        "won": flag if spec.has_wins else None,
    }
    declared = {"alive": "agents_die", "won": "has_wins"}
    for field, kind in wanted.items():
        value = getattr(step, field)
        found = None if value is None else (getattr(value, "shape", ()), str(getattr(value, "dtype", type(value))))
        if found == kind:
            continue
        said = "nothing" if found is None else _text(found)
        needed = f"None, as spec.{declared[field]} says" if kind is None else _text(kind)
        yield Finding(f"{name}: {field} is {said}; {needed} is needed")


def _text(kind: Any) -> str:
    return f"{kind[1]}{list(kind[0])}"


def _worlds(env: Environment) -> Iterator[Finding]:
    """Hold the params of every world that the environment knows against its own, and its scores against numbers."""

    def of(what: str, params: Callable[[], PyTree]) -> Iterator[Finding]:
        try:
            if difference := _difference(env.params, params()):
                yield Finding(f"{what} has other params: {difference}; all worlds must have the structure of params")
        except Exception as error:
            yield Finding(f"{what}: {describe(error)}")

    index = jax.ShapeDtypeStruct((), jnp.int32)
    jax.eval_shape(env.episode, env.params, index)
    for suite, worlds in env.shifts.items():
        try:
            found = worlds()
        except Exception as error:
            yield Finding(f"the suite {suite}: {describe(error)}")
            continue
        for shift in found:
            yield from of(f"the world {shift.name!r} of the suite {suite}", lambda shift=shift: shift.params)
    vary = env.vary
    if env.parameters and vary is None:
        yield Finding("it has parameters but no vary, which changes them")
    elif vary is not None:
        for name, parameter in env.parameters.items():
            for value in parameter.values:
                changed = {name: float(value)}
                yield from of(f"vary({name}={value:g})", lambda changed=changed: vary(changed).params)
    number = jax.ShapeDtypeStruct((), jnp.float32)
    scores = [("score", lambda: jax.eval_shape(env.score, number))]
    if (possible := env.possible) is not None:
        scores.append(("possible", lambda: jax.eval_shape(possible, env.params)))
    for what, call in scores:
        value = call()
        if getattr(value, "shape", None) != ():
            yield Finding(f"{what} returns {value}; one number is needed")


def _purity(env: Environment, key: Array) -> Iterator[Finding]:
    """Play the same few steps plainly, again, compiled, and beside another episode."""

    def reset(key: Array) -> Any:
        return env.reset(key, env.params)

    def step(key: Array, state: PyTree, action: Array) -> Any:
        return env.step(key, state, action, env.params)

    other = jax.random.fold_in(key, 1)
    plain = _played(reset, step, key)
    ways: dict[str, Callable[[], list[Any]]] = {
        "called twice with the same key": lambda: _played(reset, step, key),
        "under jax.jit": lambda: _played(jax.jit(reset), jax.jit(step), key),
        "under jax.vmap": lambda: [
            jax.tree.map(lambda x: x[0], one)
            for one in _played(jax.jit(jax.vmap(reset)), jax.jit(jax.vmap(step)), jnp.stack([key, other]), batched=True)
        ],
    }
    for way, play in ways.items():
        exact = way.startswith("called")
        more = "all chance must come from the key, all memory from the state" if exact else "it must be a pure function"
        for when, (one, two) in enumerate(zip(plain, play(), strict=True)):
            if name := _differing(one, two, exact=exact):
                where = "reset" if when == 0 else "step"
                yield Finding(f"{where}, {way}, shows another {name}; {more}")
                break


def _played(reset: Callable[..., Any], step: Callable[..., Any], key: Array, *, batched: bool = False) -> list[Any]:
    """Return what reset and a few steps return, each agent doing the first thing that it can."""
    returned = [reset(key)]
    for count in range(1, COMPARED + 1):
        state, shown = returned[-1]
        action = jnp.argmax(shown.avail_actions, axis=-1).astype(jnp.int32)
        fold = jax.vmap(jax.random.fold_in, in_axes=(0, None)) if batched else jax.random.fold_in
        returned.append(step(fold(key, count), state, action))
        if np.asarray(returned[-1][1].terminated | returned[-1][1].truncated).flat[0]:
            break
    return returned


def _vmapped_params(env: Environment, key: Array) -> Iterator[Finding]:
    """Play two equal worlds at once: suites and training in many worlds stack params on a leading axis."""
    if not jax.tree.leaves(env.params):  # there is nothing to stack
        return
    stacked = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * 2), env.params)
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    state, shown = reset(key, env.params)
    action = jnp.argmax(shown.avail_actions, axis=-1).astype(jnp.int32)
    alone = step(key, state, action, env.params)
    states, _ = jax.jit(jax.vmap(env.reset, in_axes=(None, 0)))(key, stacked)
    both = jax.jit(jax.vmap(env.step, in_axes=(None, 0, None, 0)))(key, states, action, stacked)
    if name := _differing(alone, jax.tree.map(lambda x: x[0], both), exact=False):
        yield Finding(f"step with params under jax.vmap shows another {name}; it must be a pure function")


def _differing(one: Any, two: Any, *, exact: bool) -> str:
    """Return the name of the first thing that differs; "" if nothing does."""
    named = {**one[1]._asdict(), "state of the environment": one[0]}
    others = {**two[1]._asdict(), "state of the environment": two[0]}
    for name, value in named.items():
        for a, b in zip(jax.tree.leaves(value), jax.tree.leaves(others[name]), strict=True):
            if jnp.issubdtype(getattr(a, "dtype", jnp.float32), jax.dtypes.prng_key):
                a, b = jax.random.key_data(a), jax.random.key_data(b)
            x, y = np.asarray(a), np.asarray(b)
            if x.dtype.kind != "f" or exact:
                same = np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
            else:
                size = float(np.max(np.abs(x), initial=0.0, where=np.isfinite(x)))
                same = np.allclose(x, y, rtol=0.0, atol=CLOSE * size + 1e-5, equal_nan=True)
            if not same:
                return name
    return ""


def _difference(one: PyTree, other: PyTree) -> str:
    """Return how the structure, shapes or types of two trees differ; "" if they do not."""
    if (a := jax.tree.structure(one)) != (b := jax.tree.structure(other)):
        return f"{_cut(a)} is not {_cut(b)}"
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True):
        kinds = [(tuple(np.shape(leaf)), str(jnp.result_type(leaf))) for leaf in (x, y)]
        if kinds[0] != kinds[1]:
            return f"{jax.tree_util.keystr(path) or 'it'} is {_text(kinds[1])} and not {_text(kinds[0])}"
    return ""


def _cut(tree: Any) -> str:
    text = " ".join(str(tree).removeprefix("PyTreeDef").split())
    return text if len(text) < 80 else f"{text[:77]}..."
