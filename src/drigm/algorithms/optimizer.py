"""The optimisers of agents, mixer and dual network, and one step of them."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import jax
import optax  # pyright: ignore[reportMissingTypeStubs] (it has types, but does not say so in a py.typed)

from drigm.agents.heads import CENTRE, OrderedHead
from drigm.core.config import TrainConfig
from drigm.core.types import PyTree, map_tree
from drigm.runtime.sharding import SHARD_AXIS

Optimizer = optax.GradientTransformation
gradient_norm = optax.tree.norm

# RMSprop as PyTorch has it by default, whose users it is there for.
OPTIMIZERS = {"adam": optax.adam, "rmsprop": functools.partial(optax.rmsprop, decay=0.99, eps_in_sqrt=False)}


def make_optimizers(config: TrainConfig) -> tuple[Optimizer, Optimizer]:
    """Return the optimiser of agents and mixer, and that of the dual network, each with its cosine decay."""
    total = max(1, (config.ticks // config.update_every) * config.updates)
    rate = cosine(config.learning_rate, config.learning_rate_end, total)
    dual_rate = cosine(config.dual_learning_rate, config.dual_learning_rate_end, total * config.dual_updates)
    clipped = optax.clip_by_global_norm(config.max_grad_norm)
    steps = [clipped, OPTIMIZERS[config.optimizer](rate)]
    if config.centre_rate != 1.0:
        steps.append(slower_centres(config.centre_rate))
    return optax.chain(*steps), optax.chain(clipped, optax.adam(dual_rate))


def slower_centres(rate: float) -> Optimizer:
    """Scale the changes of ordered heads' best levels by ``rate``; to be used on changes of `Params`.

    Adam moves every weight by about the step size, however little it has been told. Where chance hides what a level is
    worth, levels that move as fast as values do follow the noise.
    """

    def scaled(changes: PyTree, params: PyTree) -> PyTree:
        del params
        agents = changes.agents
        if not isinstance(agents.head, OrderedHead):
            return changes
        weight, bias = (x.at[..., CENTRE].multiply(rate) for x in (agents.head.weight, agents.head.bias))
        head = replace(agents.head, weight=weight, bias=bias)
        return changes._replace(agents=replace(agents, head=head))

    return optax.stateless(scaled)


def cosine(start: float, end: float, steps: int) -> optax.Schedule:
    """Return the step size that decays from ``start`` to ``end`` along half a cosine."""
    return optax.cosine_decay_schedule(start, steps, end / start if start > 0 else 0.0)


def start_of(optimizer: Optimizer, params: PyTree) -> Any:
    """Return the optimiser's state before the first step."""
    return optimizer.init(params)


def descend(optimizer: Optimizer, grads: PyTree, opt_state: Any, params: PyTree) -> tuple[PyTree, Any]:
    """Return ``params`` and the optimiser's state after one step against ``grads``."""
    with jax.numpy_dtype_promotion("standard"):  # Adam raises a Python float to an int32 step count
        changes, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, changes), opt_state


def mean_over_shards(tree: PyTree) -> PyTree:
    """Average over the shares of the batch."""
    return map_tree(lambda x: jax.lax.pmean(x, SHARD_AXIS), tree)  # pyright: ignore[reportUnknownMemberType] (its arguments have no types)
