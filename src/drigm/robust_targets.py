"""From a window of replay to the robust TD target: the greedy next team, the dual network, nature's bootstrap."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from drigm import targets
from drigm.baselines import Baseline, RewardModels
from drigm.baselines.groupdr import lowest_reward
from drigm.config import TrainConfig
from drigm.factorizations import Factorization, Team
from drigm.networks import AgentInputs, DualNetwork, RecurrentAgents, make_dual
from drigm.optimization import descend
from drigm.replay import Row
from drigm.types import Array, EnvSpec, PyTree
from drigm.uncertainty import Dual, UncertaintySet, dual_loss

SHARD_AXIS = "shard"


class Params(NamedTuple):
    """What the TD loss trains."""

    agents: RecurrentAgents
    mixer: PyTree


class Robustness(NamedTuple):
    """The radius and its fail value, traced so that several radii are one program."""

    rho: Array  # []
    fail_value: Array  # []


class Batch(NamedTuple):
    """The training transitions of a window, [T - burn_in, B]."""

    obs_tm1: Array  # [..., N, O] standardised
    state_tm1: Array
    state_t: Array
    action_tm1: Array
    avail_tm1: Array | None  # [..., N, A]
    avail_t: Array | None
    reward_t: Array
    terminated_t: Array
    mask: Array
    alive_tm1: Array | None = None  # [..., N]
    alive_t: Array | None = None


class Method(NamedTuple):
    """The static choices of a run that its targets depend on."""

    config: TrainConfig
    spec: EnvSpec
    factorization: Factorization
    uncertainty: UncertaintySet
    baseline: Baseline
    ordered: bool


def cut_batch(method: Method, window: Row) -> Batch:
    """Cut the training transitions out of a window [T + 1, B]: everything after the burn-in."""
    burn_in, spec = method.config.burn_in, method.spec
    row_tm1 = jax.tree.map(lambda x: x[burn_in:-1], window)
    row_t = jax.tree.map(lambda x: x[burn_in + 1 :], window)
    return Batch(
        obs_tm1=targets.standardise(row_tm1.obs, spec.obs_offset, spec.obs_scale),
        state_tm1=targets.standardise(row_tm1.state, spec.state_offset, spec.state_scale),
        state_t=targets.standardise(row_t.state, spec.state_offset, spec.state_scale),
        action_tm1=jnp.maximum(row_t.last_action, 0),  # reset rows hold NO_ACTION; the mask hides them
        avail_tm1=row_tm1.avail_actions,
        avail_t=row_t.avail_actions,
        reward_t=row_t.reward * spec.reward_scale,
        terminated_t=row_t.terminated,
        mask=targets.valid_transitions(row_tm1.terminated, row_tm1.truncated, row_t.first),
        alive_tm1=row_tm1.alive,
        alive_t=row_t.alive,
    )


def unroll_window(agents: RecurrentAgents, window: Row, burn_in: int, *, stepwise: bool = False) -> Array:
    """Return the head's features [T + 1 - burn_in, G, rows, F] of a window.

    The first ``burn_in`` steps only warm the LSTM state: no gradient passes through them (Kapturowski et al. 2019).
    ``stepwise``: the rest by `RecurrentAgents.unroll_stepwise`, where no gradient is taken.
    """
    inputs = AgentInputs(window.obs, window.last_action, window.first)
    memory = agents.initial_memory(window.first.shape[1])
    if burn_in:
        warm = jax.tree.map(lambda x: x[:burn_in], inputs)
        memory, _ = jax.lax.stop_gradient(agents).unroll(memory, warm)
        memory = jax.lax.stop_gradient(memory)
    unroll = agents.unroll_stepwise if stepwise else agents.unroll
    _, features = unroll(memory, jax.tree.map(lambda x: x[burn_in:], inputs))
    return features


def team_of(agents: RecurrentAgents, features: Array, action: Array, state: Array, alive: Array | None) -> Team:
    """Return the factorization's view of features [T, G, rows, F] and a joint action [T, B, N].

    Agents that are not ``alive`` [T, B, N] have no part in it: their values and features are 0.
    """
    return of_the_living(Team(agents.q_of(features, action), action, agents.by_agent(features), state), alive)


def of_the_living(team: Team, alive: Array | None) -> Team:
    """Return ``team`` with the values and features of agents that are not ``alive`` [..., N] set to 0."""
    if alive is None:
        return team
    return team._replace(q=jnp.where(alive, team.q, 0.0), features=jnp.where(alive[..., None], team.features, 0.0))


def next_team(
    method: Method, params: Params, target: Params, window: Row, batch: Batch, *, stepwise: bool = False
) -> Team:
    """Return (h', a_bar') [T, B] under the target network, a_bar'_i = argmax Q_i(h'_i, .) over available actions.

    ``stepwise``: see `unroll_window`.
    """
    burn_in = method.config.burn_in
    features = unroll_window(target.agents, window, burn_in, stepwise=stepwise)[1:]
    if method.config.double_q:
        online = unroll_window(params.agents, window, burn_in)[1:]
        greedy = params.agents.greedy(online, batch.avail_t)
    else:
        greedy = target.agents.greedy(features, batch.avail_t)
    return jax.lax.stop_gradient(team_of(target.agents, features, greedy, batch.state_t, batch.alive_t))


def next_values(method: Method, mixer: PyTree, following: Team, robustness: Robustness) -> Array:
    """Return what nature's bootstrap acts on: V' [T, B], or every agent's own share of it [T, B, N] (private).

    V' is held within what any value can be. A mixing network may overestimate and bootstrap from what it overestimated;
    without the bound QMIX can diverge in battles.
    """
    if method.baseline.private:
        return following.q
    return jnp.clip(method.factorization.joint_value(mixer, following), *value_bounds(method, robustness))


def value_bounds(method: Method, robustness: Robustness) -> tuple[Array, Array]:
    """Return the lowest and the highest value that a robust team can have, as the learner represents it: less b."""
    offset = value_offset(method, robustness)
    rho = _failing(method, robustness)
    lowest, highest = targets.value_bounds(method.spec, method.config.gamma, rho, robustness.fail_value)
    return lowest - offset, highest - offset


def init_dual(method: Method, key: Array) -> DualNetwork | None:
    """Return the dual network of the method's set, None without one; private duals have a leading agent axis [N]."""
    config, spec, uncertainty = method.config, method.spec, method.uncertainty
    if not uncertainty.has_dual:
        return None
    if method.baseline.private:
        alone = spec._replace(agents=spec.agents[:1], state_size=spec.obs_size)
        keys = jax.random.split(key, spec.num_agents)
        return jax.vmap(
            lambda k: make_dual(k, alone, config.dual_hidden, ordered=method.ordered, scale=uncertainty.has_scale)
        )(keys)
    return make_dual(key, spec, config.dual_hidden, ordered=method.ordered, scale=uncertainty.has_scale)


def dual_variables(method: Method, dual: DualNetwork | None, batch: Batch) -> Dual:
    """Return eta and the scale of every (s, a), [T, B]; of every agent's (o_i, a_i), [T, B, N], where private."""
    if dual is None:
        zero = jnp.zeros_like(batch.reward_t)
        return Dual(zero[..., None] if method.baseline.private else zero, jnp.ones((), jnp.float32))
    if method.baseline.private:
        each = jax.vmap(lambda d, obs, action: d(obs, action[..., None]), in_axes=(0, 2, 2), out_axes=2)
        return Dual(*each(dual, batch.obs_tm1, batch.action_tm1))
    return Dual(*dual(batch.state_tm1, batch.action_tm1))


def fit_dual(
    method: Method,
    optimizer: optax.GradientTransformation,
    dual: DualNetwork | None,
    opt_state: Any,
    batch: Batch,
    v_t: Array,
    rho: Array,
    shares: int = 1,
) -> tuple[DualNetwork | None, Any, Array]:
    """Take the dual steps of one update on the linear dual loss of the next values ``v_t``; see `dual_variables`.

    The windows of ``shares`` shards stand side by side in the batch.
    """
    loss = jnp.float32(0.0)
    if dual is None:
        return dual, opt_state, loss
    # Nature cannot move a termination: the target ignores eta there, so eta must not be fitted to it.
    mask = batch.mask & ~batch.terminated_t
    mask = jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (v_t.ndim - 2)), v_t.shape)
    if method.baseline.private and batch.alive_t is not None:
        mask = mask & batch.alive_t

    def loss_of(dual: DualNetwork) -> Array:
        losses = dual_loss(method.uncertainty, dual_variables(method, dual, batch), v_t, rho)
        return targets.masked_mean(losses, mask, shares)

    for _ in range(method.config.dual_updates):
        loss, grads = jax.value_and_grad(loss_of)(dual)
        dual, opt_state = descend(optimizer, mean_over_shards(grads), opt_state, dual)
    return dual, opt_state, loss


def value_offset(method: Method, robustness: Robustness) -> Array:
    """Return b of `targets.value_offset`, 0 for sets that never use the fail value."""
    return targets.value_offset(_failing(method, robustness), method.config.gamma, robustness.fail_value)


def _failing(method: Method, robustness: Robustness) -> Array:
    """Return the share of probability that nature moves to the fail state, 0 for sets that cannot."""
    return robustness.rho if method.uncertainty.can_fail else jnp.zeros_like(robustness.rho)


def robust_target(
    method: Method,
    mixer: PyTree,
    following: Team,
    dual: DualNetwork | None,
    reward_models: RewardModels | None,
    batch: Batch,
    robustness: Robustness,
) -> Array:
    """Return the robust TD target [T, B] in the learner's shifted values, Q - b (see `targets.value_offset`)."""
    variables = _in_range(method, dual_variables(method, dual, batch), robustness)
    bootstrap = _bootstrap(method, mixer, following, variables, batch.alive_t, robustness)
    reward = batch.reward_t
    if reward_models is not None:
        reward = lowest_reward(reward_models, batch.state_tm1, batch.action_tm1)
    gamma, offset = jnp.float32(method.config.gamma), value_offset(method, robustness)
    shares = None
    if method.baseline.private and batch.alive_tm1 is not None and batch.alive_t is not None:
        # Every living agent represents its own value less b / N; the dead represent nothing.
        shares = jnp.mean(batch.alive_tm1, axis=-1), jnp.mean(batch.alive_t, axis=-1)
    y_tm1 = targets.shifted_target(reward, batch.terminated_t, bootstrap, gamma, offset, shares)
    return jax.lax.stop_gradient(y_tm1)


def _in_range(method: Method, variables: Dual, robustness: Robustness) -> Dual:
    """Return the dual variables with eta in [m, max V], which is where the TV dual is exact.

    Divergences have no such range, and one agent's share of a value has none of its own.
    """
    if not (method.uncertainty.has_dual and method.uncertainty.can_fail) or method.baseline.private:
        return variables
    # A fail value above min V (the paper's 0) does not cut eta: its range is that of the values.
    return variables._replace(eta=jnp.clip(variables.eta, *value_bounds(method, robustness)))


def _bootstrap(
    method: Method, mixer: PyTree, following: Team, variables: Dual, alive: Array | None, robustness: Robustness
) -> Array:
    """Return nature's bootstrap of the team's next value, or the sum of every agent's own (private), [T, B]."""
    private = method.baseline.private
    fail_value = robustness.fail_value - value_offset(method, robustness)
    share = fail_value / method.spec.num_agents if private else fail_value
    v_t = next_values(method, mixer, following, robustness)
    robust = method.uncertainty.bootstrap(v_t, variables, robustness.rho, share)
    if private and alive is not None:
        robust = jnp.where(alive, robust, 0.0)  # nature has no hold on the dead
    return method.factorization.joint_value(mixer, following._replace(q=robust)) if private else robust


def mean_over_shards(tree: PyTree) -> PyTree:
    """Average over the shares of the batch."""
    return jax.tree.map(lambda x: jax.lax.pmean(x, SHARD_AXIS), tree)
