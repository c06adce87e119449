"""Perturbations of any environment: what an agent sees is not what is, what it orders is not what happens.

==================  ==================================================================================
``obs_noise``       Gaussian noise on every reading; strength: standard deviation in units of its ``obs_scale``
``obs_dropout``     an agent's whole observation is lost for a step; strength: chance per agent and step
``frozen_sensors``  a reading stays at its first value; strength: chance per agent, reading and episode
``action_noise``    an action is replaced by a random available one; strength: chance per agent and step
``action_delay``    actions take effect late; strength: whole steps
``obs_bias``        every reading is off by its own amount for an episode; strength: its standard deviation, in the same
                    units
``obs_drift``       every reading walks away at random; strength: standard deviation after 100 steps, in the same units
``agent_failure``   an agent stops for good at a random moment of an episode, in the first quarter of the time limit: it
                    idles; strength: the agent's number, from 1; 0: none
``agent_stuck``     the same, but that it repeats its last action
``agent_erratic``   the same, but that it takes random actions
``agent_faults``    in a step one agent, drawn from those alive, idles; strength: chance per step
==================  ==================================================================================

Each is a record of pure functions of one time-step, so that environments in other processes are perturbed by the same
code. At strength 0 nothing changes, bit for bit: the environment's own random keys are passed on untouched. The global
state, which only training sees, stays true; agents that are not alive are left alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.errors import check, choose
from drigm.core.plugins import load_plugins
from drigm.core.types import Array, EnvSpec, PyTree, TimeStep
from drigm.envs.api import Environment, Held, Strength
from drigm.envs.failures import (
    Failure,
    acts_at_random,
    failure,
    failure_start,
    faults_act,
    faults_show,
    faults_start,
    idles,
    possible,
    repeats,
)

MAX_DELAY = 16  # steps
MAX_AGENTS = 1e6


class Perturbation(NamedTuple):
    """One way in which agents see or move the world wrongly; ``strength`` is a traced scalar.

    Attributes:
        about: what a strength means.
        highest: the largest strength.
        start: ``start(key, spec, strength) -> memory`` at every reset.
        act: ``act(key, spec, strength, memory, action [N], avail [N, A]) -> (memory, action)``.
        show: ``show(key, spec, strength, memory, time_step, first) -> (memory, time_step)``; ``first``: a reset.
        whole: strengths are whole numbers.
    """

    about: str
    highest: float
    start: Callable[..., PyTree] = lambda key, spec, strength: ()
    act: Callable[..., tuple[PyTree, Array]] = lambda key, spec, strength, memory, action, avail: (memory, action)
    show: Callable[..., tuple[PyTree, TimeStep]] = lambda key, spec, strength, memory, step, first: (memory, step)
    whole: bool = False
    agents: bool = False  # strengths number the agents


def _lost(spec: EnvSpec, step: TimeStep, wrong: Array, instead: Array) -> TimeStep:
    """Show ``instead`` [N, O] where ``wrong`` [N, O] or [N, 1]; not to agents that are not alive, nor in padding."""
    alive = jnp.bool_(True) if step.alive is None else step.alive[:, None]
    where = jnp.broadcast_to(wrong & alive, step.obs.shape)
    where = where if spec.readings is None else where & jnp.asarray(spec.readings)
    return step._replace(obs=jnp.where(where, instead, step.obs))


def _obs_noise(key: Array, spec: EnvSpec, strength: Array, memory: PyTree, step: TimeStep, first: bool):
    del first
    scale = jnp.broadcast_to(jnp.asarray(spec.obs_scale), step.obs.shape)
    noise = jax.random.normal(key, step.obs.shape, jnp.float32)
    return memory, _lost(spec, step, jnp.ones(step.obs.shape, bool), step.obs + strength * scale * noise)


def _obs_dropout(key: Array, spec: EnvSpec, strength: Array, memory: PyTree, step: TimeStep, first: bool):
    """A lost observation shows the middle of the spec's range, which networks see as zeros."""
    del first
    lost = jax.random.uniform(key, (spec.num_agents, 1)) < strength
    return memory, _lost(spec, step, lost, jnp.broadcast_to(jnp.asarray(spec.obs_offset), step.obs.shape))


def _bias_start(key: Array, spec: EnvSpec, strength: Array) -> Array:
    """Return how far each reading is off, [N, O] of its scales."""
    return strength * jax.random.normal(key, (spec.num_agents, spec.obs_size), jnp.float32)


def _off_by(spec: EnvSpec, memory: Array, step: TimeStep) -> TimeStep:
    """Show each reading off by ``memory`` [N, O] of its scales; bit for bit as it is where that is 0."""
    off = memory * jnp.broadcast_to(jnp.asarray(spec.obs_scale), step.obs.shape)
    return _lost(spec, step, memory != 0.0, step.obs + off)


def _bias_show(key: Array, spec: EnvSpec, strength: Array, memory: Array, step: TimeStep, first: bool):
    del key, strength, first
    return memory, _off_by(spec, memory, step)


def _drift_start(key: Array, spec: EnvSpec, strength: Array) -> Array:
    del key, strength
    return jnp.zeros((spec.num_agents, spec.obs_size), jnp.float32)


def _drift_show(key: Array, spec: EnvSpec, strength: Array, memory: Array, step: TimeStep, first: bool):
    """A random walk: 100 steps of a tenth of the strength each."""
    walked = memory + 0.1 * strength * jax.random.normal(key, memory.shape, jnp.float32)
    memory = memory if first else walked
    return memory, _off_by(spec, memory, step)


class Frozen(NamedTuple):
    """The sensors that are stuck in this episode, and where."""

    stuck: Array  # [N, O] bool
    value: Array  # [N, O]


def _frozen_start(key: Array, spec: EnvSpec, strength: Array) -> Frozen:
    shape = (spec.num_agents, spec.obs_size)
    return Frozen(jax.random.uniform(key, shape) < strength, jnp.zeros(shape, jnp.float32))


def _frozen_show(key: Array, spec: EnvSpec, strength: Array, memory: Frozen, step: TimeStep, first: bool):
    del key, strength
    memory = memory._replace(value=step.obs) if first else memory
    return memory, _lost(spec, step, memory.stuck, memory.value)


def _action_noise(key: Array, spec: EnvSpec, strength: Array, memory: PyTree, action: Array, avail: Array):
    key_coin, key_action = jax.random.split(key)
    other = jax.random.categorical(key_action, jnp.where(avail, 0.0, -jnp.inf)).astype(action.dtype)
    return memory, jnp.where(jax.random.uniform(key_coin, action.shape) < strength, other, action)


def _delay_start(key: Array, spec: EnvSpec, strength: Array) -> Array:
    """The last orders [MAX_DELAY, N], the newest first."""
    del key, strength
    return jnp.full((MAX_DELAY, spec.num_agents), spec.idle_action, jnp.int32)


def _delay_act(key: Array, spec: EnvSpec, strength: Array, memory: Array, action: Array, avail: Array):
    """An order that has become impossible is replaced by the idle action, or by the first available one."""
    del key
    orders = jnp.concatenate([action[None], memory])
    late = orders[jnp.round(strength).astype(jnp.int32)]
    return orders[:-1], possible(late, avail, spec.idle_action)


def _fails(about: str, instead: Callable[[Array, EnvSpec, Failure, Array, Array], Array]) -> Perturbation:
    about = f"number of the agent that {about} from a random moment, or failure_time, on"
    return Perturbation(about, MAX_AGENTS, start=failure_start, act=failure(instead), whole=True, agents=True)


PERTURBATIONS: dict[str, Perturbation] = {
    "obs_noise": Perturbation("standard deviation of Gaussian noise, in units of the scale", 1e6, show=_obs_noise),
    "obs_dropout": Perturbation("chance that an agent's observation is lost for a step", 1.0, show=_obs_dropout),
    "frozen_sensors": Perturbation(
        "chance that a reading is stuck for an episode", 1.0, start=_frozen_start, show=_frozen_show
    ),
    "action_noise": Perturbation("chance that an action is replaced by a random one", 1.0, act=_action_noise),
    "action_delay": Perturbation(
        "steps until an action takes effect", MAX_DELAY, start=_delay_start, act=_delay_act, whole=True
    ),
    # What is new stands at the end: a name's place is part of its random keys.
    "obs_bias": Perturbation(
        "standard deviation of what a reading is off by for an episode, in units of the scale",
        1e6,
        start=_bias_start,
        show=_bias_show,
    ),
    "obs_drift": Perturbation(
        "standard deviation of a reading's random walk after 100 steps, in units of the scale",
        1e6,
        start=_drift_start,
        show=_drift_show,
    ),
    "agent_failure": _fails("idles", idles),
    "agent_stuck": _fails("repeats its last action", repeats),
    "agent_erratic": _fails("acts at random", acts_at_random),
    "agent_faults": Perturbation(
        "chance that some agent, any of those alive, idles for a step",
        1.0,
        start=faults_start,
        act=faults_act,
        show=faults_show,
    ),
    "failure_time": Perturbation(
        "share of the time limit after which the agent fails that fails for good (0: at random)", 1.0
    ),
}
BUILT_IN = tuple(PERTURBATIONS)  # those from outside: `drigm.envs.register_perturbation`


class Perturbed(NamedTuple):
    """Parameters of a perturbed environment: the world, and the strength of each perturbation."""

    world: PyTree
    strengths: dict[str, Array]


def unperturbed(params: PyTree) -> PyTree:
    """Return the parameters of a world without what perturbs it."""
    return params.world if isinstance(params, Perturbed) else params


class PerturbedState(NamedTuple):
    """State of a perturbed environment."""

    world: PyTree
    memory: dict[str, PyTree]
    avail: Array  # [N, A] what can be done now


def begin(spec: EnvSpec, key: Array, strengths: Mapping[str, Array]) -> dict[str, PyTree]:
    """Return the memories of ``strengths``' perturbations at the start of an episode."""
    found = {name: PERTURBATIONS[name].start(_key(key, name, 0), spec, s) for name, s in strengths.items()}
    if "failure_time" in strengths:  # at 0 it changes nothing, as every strength does
        share = strengths["failure_time"]
        moment = jnp.round(share * spec.episode_limit).astype(jnp.int32)
        failing = {name: told for name, told in found.items() if isinstance(told, Failure)}
        found |= {n: m._replace(moment=jnp.where(share > 0.0, moment, m.moment)) for n, m in failing.items()}
    return found


def act(
    spec: EnvSpec, key: Array, strengths: Mapping[str, Array], memory: dict[str, PyTree], action: Array, avail: Array
) -> tuple[dict[str, PyTree], Array]:
    """Return the memories and the joint action [N] that really happens."""
    memory = dict(memory)
    for name in _ordered(strengths):
        memory[name], action = PERTURBATIONS[name].act(
            _key(key, name, 1), spec, strengths[name], memory[name], action, avail
        )
    return memory, action


def show(
    spec: EnvSpec, key: Array, strengths: Mapping[str, Array], memory: dict[str, PyTree], step: TimeStep, *, first: bool
) -> tuple[dict[str, PyTree], TimeStep]:
    """Return the memories and the time-step as the agents see it; ``first``: it starts an episode."""
    memory = dict(memory)
    for name in _ordered(strengths):
        memory[name], step = PERTURBATIONS[name].show(
            _key(key, name, 2), spec, strengths[name], memory[name], step, first
        )
    return memory, step


def wrap(env: Environment, strengths: Mapping[str, float]) -> Environment:
    """Return ``env`` with the perturbations of ``strengths``, which become part of its params.

    The suites of ``env`` are left out: their params have another structure; see `drigm.envs.shifts.worlds`.
    """
    if not strengths:
        return env
    spec = env.spec

    def reset(key: Array, params: Perturbed) -> tuple[PerturbedState, TimeStep]:
        world, step = env.reset(key, params.world)
        avail, memory = step.avail_actions, begin(spec, key, params.strengths)
        memory, step = show(spec, key, params.strengths, memory, step, first=True)
        return PerturbedState(world, memory, avail), step

    def step(
        key: Array, state: PerturbedState, joint_action: Array, params: Perturbed
    ) -> tuple[PerturbedState, TimeStep]:
        memory, action = act(spec, key, params.strengths, state.memory, joint_action, state.avail)
        world, step = env.step(key, state.world, action, params.world)
        avail = step.avail_actions
        memory, step = show(spec, key, params.strengths, memory, step, first=False)
        return PerturbedState(world, memory, avail), step

    per_env = jax.tree.leaves(env.params)[0].shape[:1] if env.world_per_env else ()
    values = {name: jnp.full(per_env, strength, jnp.float32) for name, strength in strengths.items()}
    return env._replace(
        params=Perturbed(env.params, values),
        reset=reset if env.subprocess is None else env.reset,
        step=step if env.subprocess is None else env.step,
        episode=lambda params, i: params._replace(world=env.episode(params.world, i)),
        shifts={},
        suites={},
        parameters={},
        vary=None,
    )


def _ordered(strengths: Mapping[str, Any]) -> list[str]:
    """Return the names in one order, whatever a pytree gave: drigm's own, then the others by name."""
    return [name for name in (*BUILT_IN, *sorted(PERTURBATIONS.keys() - set(BUILT_IN))) if name in strengths]


def _key(key: Array, name: str, use: int) -> Array:
    """A key of its own for every perturbation and use; the environment keeps ``key`` itself."""
    place = BUILT_IN.index(name) if name in BUILT_IN else 1_000 + (zlib.crc32(name.encode()) >> 3)  # below 2**30
    return jax.random.fold_in(key, 1_000_003 + 3 * place + use)


def check_strength(env: Environment, name: str, strength: Strength) -> None:
    """Raise `UserError` unless ``env`` can be perturbed by ``name`` with ``strength``."""
    if name not in PERTURBATIONS and name not in env.parameters:
        load_plugins()
    choose("perturb", name, [*PERTURBATIONS, *env.parameters])
    if name in env.parameters:
        low, high = env.parameters[name].lowest, env.parameters[name].highest
        ends = np.asarray(strength[:2] if isinstance(strength, Held) else strength)
        reached = round(low, 6) - low  # a bound that is allowed itself is declared a billionth lower
        allowed = f"a number from {round(low, 6) + 0.0:g}" if 0.0 < reached < 1e-8 else f"a number above {low:g}"
        allowed += f", at most {high:g}" if high < np.inf else ""
        check(bool(np.all((ends > low) & (ends <= high))), f"perturb {name}", strength, allowed)
        return
    kind = PERTURBATIONS[name]
    number = strength if isinstance(strength, float | int) else -1.0  # nothing else is a strength of a perturbation
    highest = env.spec.num_agents if kind.agents else kind.highest
    ok = 0.0 <= number <= highest and (not kind.whole or float(number).is_integer())
    whole = "a whole number" if kind.whole else "a number"
    check(ok, f"perturb {name}", strength, f"{whole} from 0 to {highest:g}")


def split(env: Environment, strengths: Mapping[str, Strength]) -> tuple[Environment, dict[str, Any]]:
    """Return ``env`` with the physical parameters among ``strengths`` changed, and the others, for `wrap`.

    Raises:
        UserError: a name is unknown, or a strength out of range.
    """
    for name, strength in strengths.items():
        check_strength(env, name, strength)
    physical = {name: strength for name, strength in strengths.items() if name in env.parameters}
    observed = {name: strength for name, strength in strengths.items() if name in PERTURBATIONS}
    return (env.vary(physical) if physical and env.vary is not None else env), observed


def perturbed(env: Environment, strengths: Mapping[str, Strength]) -> Environment:
    """Return ``env`` under all of ``strengths``: physical parameters changed first, then wrapped; see `split`."""
    return wrap(*split(env, strengths))
