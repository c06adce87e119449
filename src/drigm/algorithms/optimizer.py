"""The optimisers of agents, mixer and dual network, and one step of them."""

from __future__ import annotations

import functools
from typing import Any

import jax
import optax

from drigm.core.config import TrainConfig
from drigm.core.types import PyTree
from drigm.runtime.sharding import SHARD_AXIS

# RMSprop as PyTorch has it by default, whose users it is there for.
OPTIMIZERS = {"adam": optax.adam, "rmsprop": functools.partial(optax.rmsprop, decay=0.99, eps_in_sqrt=False)}


def make_optimizers(config: TrainConfig) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """Return the optimiser of agents and mixer, and that of the dual network, each with its cosine decay."""
    total = max(1, (config.ticks // config.update_every) * config.updates)
    rate = _cosine(config.learning_rate, config.learning_rate_end, total)
    dual_rate = _cosine(config.dual_learning_rate, config.dual_learning_rate_end, total * config.dual_updates)
    clipped = optax.clip_by_global_norm(config.max_grad_norm)
    return optax.chain(clipped, OPTIMIZERS[config.optimizer](rate)), optax.chain(clipped, optax.adam(dual_rate))


def _cosine(start: float, end: float, steps: int) -> optax.Schedule:
    return optax.cosine_decay_schedule(start, steps, end / start if start > 0 else 0.0)


def start_of(optimizer: optax.GradientTransformation, params: PyTree) -> Any:
    """Return the optimiser's state before the first step."""
    return optimizer.init(params)


def descend(
    optimizer: optax.GradientTransformation, grads: PyTree, opt_state: Any, params: PyTree
) -> tuple[PyTree, Any]:
    """Return ``params`` and the optimiser's state after one step against ``grads``."""
    with jax.numpy_dtype_promotion("standard"):  # Adam raises a Python float to an int32 step count
        changes, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, changes), opt_state


def mean_over_shards(tree: PyTree) -> PyTree:
    """Average over the shares of the batch."""
    return jax.tree.map(lambda x: jax.lax.pmean(x, SHARD_AXIS), tree)
