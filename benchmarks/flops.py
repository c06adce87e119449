"""Floating-point operations of an update, by formula and counted in the traced program.

Matrix products only, 2 per multiply-and-add: element-wise work, random numbers, replay and the simulator are real work
too, so 100 % of the peak is not to be had.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax

from drigm.algorithms.learner import make_learner
from drigm.algorithms.uncertainty import SETS
from drigm.core.config import TrainConfig
from drigm.core.types import EnvSpec
from drigm.envs.api import Environment
from drigm.runtime.sharding import SHARD_AXIS
from drigm.training.loop import axes
from drigm.training.programs import make_train


class Layers(NamedTuple):
    """Forward operations of the matrix products for one agent and one time-step."""

    encoder: int
    lstm_input: int
    lstm_hidden: int
    head: int

    @property
    def memory(self) -> int:
        return self.encoder + self.lstm_input + self.lstm_hidden


def layers(config: TrainConfig, spec: EnvSpec) -> Layers:
    ordered = make_learner(config, spec).method.ordered
    inputs = spec.obs_size + 2 * ordered + spec.num_agents * config.share_parameters
    outputs = 2 + 2 * config.bowls if ordered else spec.num_actions
    h = config.hidden
    return Layers(2 * inputs * h, 2 * h * 4 * h, 2 * h * 4 * h, 2 * (h + inputs) * outputs)


def act_flops(config: TrainConfig, spec: EnvSpec) -> int:
    """Return the operations behind one joint action: a forward step of every agent."""
    one = layers(config, spec)
    return spec.num_agents * (one.memory + one.head)


def update_flops(config: TrainConfig, spec: EnvSpec) -> int:
    """Return the operations of one update of VDN or QMIX, all shards together.

    Per window and agent, with T transitions of which b are burn-in (so T + 1 time-steps)::

        target network    (T + 1) memory + (T - b) head
        online network    b memory, forward only
                          (T - b) (2 encoder + 3 lstm_input + 3 lstm_hidden + 3 head)

    A layer's backward pass costs its forward pass twice, once for its weights and once for its input; the encoder's
    input needs no gradient. Mixer and dual network, per window and transition, are counted alike; the mixer runs
    once under the target parameters and once with its gradient, the dual network once with its gradient per dual update
    and once to give eta.
    """
    one, steps = layers(config, spec), config.window - config.burn_in
    target = (config.window + 1) * one.memory + steps * one.head
    online = config.burn_in * one.memory
    online += steps * (2 * one.encoder + 3 * (one.lstm_input + one.lstm_hidden + one.head))
    double = target if config.double_q else 0
    agents = spec.num_agents * (target + online + double)
    return config.batch * (agents + steps * (_mixer_flops(config, spec) + _dual_flops(config, spec)))


def _mixer_flops(config: TrainConfig, spec: EnvSpec) -> int:
    """One transition under the target mixer, and one with its gradient."""
    if config.factorization != "qmix":
        return 0
    e, n = config.mixer_embed, spec.num_agents
    from_state = 2 * spec.state_size * (n * e + 3 * e)  # w1, b1, w2 and the hidden layer of v
    inner = 2 * n * e + 2 * e + 2 * e  # q w1, hidden w2, v
    return (from_state + inner) + (2 * from_state + 3 * inner)


def _dual_flops(config: TrainConfig, spec: EnvSpec) -> int:
    if not SETS[config.uncertainty].has_dual:
        return 0
    h = config.dual_hidden
    inputs = spec.state_size + (spec.num_agents if make_learner(config, spec).method.ordered else 0)
    first, rest = 2 * inputs * h, 2 * h * h + 2 * h
    return config.dual_updates * (2 * first + 3 * rest) + first + rest


def counted_update_flops(config: TrainConfig, env: Environment) -> int:
    """Return the operations of the matrix products in the traced update, all shards together; any method."""
    learner = make_learner(config, env.spec)
    state = make_train(config, env).shapes(*axes([config]))

    def per_shard(shape: tuple[int, ...], x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((config.shards, *shape), x.dtype)

    windows = config.window + 1, config.batch // config.shards
    window = jax.tree.map(lambda x: per_shard((*windows, *x.shape[4:]), x), state.ring)  # [shards, runs, C, B, ...]
    learnt, robustness = jax.tree.map(lambda x: per_shard(x.shape[2:], x), (state.learner, state.robustness))
    update = jax.vmap(learner.update, axis_name=SHARD_AXIS)
    return matmul_flops(jax.make_jaxpr(update)(learnt, window, robustness).jaxpr)


def matmul_flops(jaxpr: Any) -> int:
    """Return the operations of every matrix product in ``jaxpr``; of a condition, its dearest branch.

    What is computed twice from the same values counts once, because XLA merges it; what nothing uses does not count.
    """
    total = 0
    used = _used(jaxpr)
    known: dict[Any, list[Any]] = {}
    same: dict[Any, Any] = {}  # variables that are others' copies
    for equation in jaxpr.eqns:
        if not used.intersection(map(id, equation.outvars)):
            continue
        operands = tuple(str(x) if hasattr(x, "val") else same.get(x, x) for x in equation.invars)
        if equation.primitive.name == "custom_vjp_call":  # its other parameters are functions, new ones each time
            settings: Any = str(equation.params["call_jaxpr"])
        else:
            settings = tuple((name, _hashable(value)) for name, value in equation.params.items())
        first = known.setdefault((equation.primitive, operands, settings), equation.outvars)
        if first is not equation.outvars:
            same.update(zip(equation.outvars, (same.get(x, x) for x in first), strict=True))
            continue
        inner = [matmul_flops(sub) for sub in _inside(equation.params)]
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * math.prod(equation.outvars[0].aval.shape) * depth
        elif equation.primitive.name == "cond":
            total += max(inner)
        else:
            total += equation.params.get("length", 1) * sum(inner)  # the length of a scan
    return total


def _used(jaxpr: Any) -> set[int]:
    """Return the variables (by id) that the results of ``jaxpr`` depend on."""
    used = {id(x) for x in jaxpr.outvars}
    for equation in reversed(jaxpr.eqns):
        if used.intersection(map(id, equation.outvars)):
            used.update(map(id, equation.invars))
    return used


def _hashable(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


def _inside(params: dict[str, Any]) -> list[Any]:
    """The programs within an equation."""
    values = [v for value in params.values() for v in (value if isinstance(value, list | tuple) else [value])]
    values = [getattr(value, "jaxpr", value) for value in values]
    return [value for value in values if hasattr(value, "eqns")]
