"""Samples instead of a dual network: K next steps of every state and joint action, and nature's worst case among them.

With ``y_k = r_k + gamma (1 - terminated_k) V(h'_k)`` of the team, h'_k being its history and the k-th next step, the
target is the worst mean of y_1..y_K that the set around equal chances allows: one model of the team's value, of reward
and end too, found exactly. It is optimistic in expectation, the more the smaller K: what K samples have missed, nature
cannot choose (docs/mathematics.md). A dual network, which errs on the other side, has to be learnt first.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from drigm.agents.recurrent import AgentInputs, RecurrentAgents
from drigm.algorithms.method import Method
from drigm.algorithms.td_target import shifted_target
from drigm.algorithms.uncertainty import Dual, UncertaintySet
from drigm.algorithms.value_bounds import Nature
from drigm.algorithms.windows import Batch, memory_before
from drigm.core.types import Array, StoredStep, map_tree, standardise


def transitions_ahead(method: Method, window: StoredStep, batch: Batch) -> Batch:
    """Return the transitions [T, B * K] of the next steps that were drawn; ``batch``: those [T, B] that happened."""
    ahead, spec, count = window.ahead, method.spec, method.config.samples
    assert ahead is not None
    ahead = map_tree(lambda x: x[method.config.burn_in : -1], ahead)
    ahead = map_tree(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), ahead)
    return map_tree(lambda x: jnp.repeat(x, count, axis=1), batch)._replace(
        state_t=standardise(ahead.state, spec.state_offset, spec.state_scale),
        avail_t=ahead.avail_actions,
        reward_t=ahead.reward * spec.reward_scale,
        terminated_t=ahead.terminated,
        alive_t=ahead.alive,
    )


def unroll_ahead(agents: RecurrentAgents, window: StoredStep, burn_in: int, count: int) -> Array:
    """Return the head's features [T, G, rows of B * K, F] of the histories h'_k: one step more from each memory.

    No gradient is taken here.
    """
    assert window.ahead is not None
    inputs = map_tree(lambda x: x[:-1], AgentInputs(window.obs, window.last_action, window.first))
    memories = agents.memories(memory_before(agents, window), inputs)
    memories = map_tree(lambda x: x[burn_in:], memories)
    obs = window.ahead.obs[burn_in:-1]
    obs = obs.reshape(obs.shape[0], -1, *obs.shape[3:])
    last_action = jnp.repeat(window.last_action[burn_in + 1 :], count, axis=1)
    return agents.branch(memories, AgentInputs(obs, last_action, jnp.zeros(obs.shape[:2], bool)))


def sampled_target(method: Method, v_t: Array, ahead: Batch, nature: Nature) -> Array:
    """Return the robust TD target [T, B] of the next values ``v_t`` [T, B * K], in the learner's shifted values.

    A fail state, where the set has one, is one more outcome: the samples' mean reward, and m from there on. Sets
    without dual variables act on each next value alone, and the target is the mean.
    """
    gamma, uncertainty, alone = jnp.float32(method.config.gamma), method.uncertainty, Dual(*jnp.zeros(2))

    def by_sample(bootstrap_t: Array, terminated_t: Array) -> Array:
        y = shifted_target(ahead.reward_t, terminated_t, bootstrap_t, gamma, nature.offset)
        return y.reshape(y.shape[0], -1, method.config.samples)

    if not uncertainty.has_dual:
        robust = uncertainty.bootstrap(v_t, alone, nature.rho, nature.fail_value)
        return jax.lax.stop_gradient(jnp.mean(by_sample(robust, ahead.terminated_t), axis=-1))
    failed = by_sample(jnp.full_like(v_t, 0.0) + nature.fail_value, jnp.zeros_like(ahead.terminated_t))
    y = by_sample(v_t, ahead.terminated_t)
    return jax.lax.stop_gradient(worst_of(uncertainty, y, nature.rho, jnp.mean(failed, axis=-1)))


def worst_of(uncertainty: UncertaintySet, y: Array, rho: Array, failed: Array) -> Array:
    """Return the worst mean [...] of K equally likely outcomes ``y`` [..., K] within the set.

    A dual with eta alone is piecewise linear with kinks at the outcomes (total variation, CVaR), so its maximum is the
    largest of its K values there. Sets with a scale too have `UncertaintySet.worst_of`.

    Args:
        uncertainty: has a dual.
        y: outcomes.
        rho: radius [].
        failed: [...] the outcome of a failure, where the set has one.
    """
    if uncertainty.worst_of is not None:
        return uncertainty.worst_of(y, rho)
    at = Dual(y[..., :, None], jnp.ones((1,) * (y.ndim + 1), jnp.float32))
    dual = jnp.mean(uncertainty.bootstrap(y[..., None, :], at, rho, failed[..., None, None]), axis=-1)
    return jnp.max(dual, axis=-1)
