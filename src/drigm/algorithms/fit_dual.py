"""The dual network of a robust target: eta(s, a), and how it is fitted."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from drigm.algorithms.dual_network import DualNetwork, make_dual
from drigm.algorithms.method import Method
from drigm.algorithms.optimizer import Optimizer, descend, mean_over_shards
from drigm.algorithms.td_target import masked_mean
from drigm.algorithms.uncertainty import Dual, dual_loss
from drigm.algorithms.windows import Batch
from drigm.core.types import Array, value_and_grad


def init_dual(method: Method, key: Array) -> DualNetwork | None:
    """Return the dual network of the method's set, None without one; private duals have a leading agent axis [N]."""
    config, spec, uncertainty = method.config, method.spec, method.uncertainty
    if not uncertainty.has_dual or config.samples:
        return None
    make = functools.partial(make_dual, hidden=config.dual_hidden, ordered=method.ordered, scale=uncertainty.has_scale)
    if method.baseline.private:
        alone = spec._replace(agents=spec.agents[:1], state_size=spec.obs_size)
        return jax.vmap(functools.partial(make, spec=alone))(jax.random.split(key, spec.num_agents))
    return make(key, spec)


def dual_variables(method: Method, dual: DualNetwork | None, batch: Batch) -> Dual:
    """Return eta and the scale of every (s, a), [T, B]; of every agent's (o_i, a_i), [T, B, N], where private."""
    if dual is None:
        zero = jnp.zeros_like(batch.reward_t)
        return Dual(zero[..., None] if method.baseline.private else zero, jnp.ones((), jnp.float32))
    if method.baseline.private:
        actions = batch.action_tm1[..., None]
        return Dual(*jax.vmap(DualNetwork.__call__, in_axes=(0, 2, 2), out_axes=2)(dual, batch.obs_tm1, actions))
    return Dual(*dual(batch.state_tm1, batch.action_tm1))


class FittedDual(NamedTuple):
    """A dual network (None for sets without one) and its optimiser's state."""

    network: DualNetwork | None
    opt_state: Any


def fit_dual(
    method: Method,
    optimizer: Optimizer,
    dual: FittedDual,
    batch: Batch,
    v_t: Array,
    rho: Array,
    shares: int = 1,
) -> tuple[FittedDual, Array]:
    """Take the dual steps of one update on the linear dual loss of the next values ``v_t``; see `dual_variables`.

    The windows of ``shares`` shards lie next to each other in the batch.

    Returns:
        The dual, and the loss [] before its last step.
    """
    network, opt_state = dual
    loss = jnp.float32(0.0)
    if network is None:
        return dual, loss
    v_t = jax.lax.stop_gradient(v_t)
    # Nature cannot move a termination: the target ignores eta there, so eta must not be fitted to it.
    mask = batch.mask & ~batch.terminated_t
    mask = jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (v_t.ndim - 2)), v_t.shape)
    if method.baseline.private and batch.alive_t is not None:
        mask = mask & batch.alive_t

    def loss_of(network: DualNetwork) -> Array:
        losses = dual_loss(method.uncertainty, dual_variables(method, network, batch), v_t, rho)
        return masked_mean(losses, mask, shares)

    for _ in range(method.config.dual_updates):
        loss, grads = value_and_grad(loss_of)(network)
        network, opt_state = descend(optimizer, mean_over_shards(grads), opt_state, network)
    return FittedDual(network, opt_state), loss
