"""The robust TD target: the greedy next team, its value V', and nature's bootstrap of V'."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from drigm.agents.recurrent import RecurrentAgents
from drigm.algorithms.agent_wise import agent_wise_value, faulty_team
from drigm.algorithms.baselines import RewardModels
from drigm.algorithms.baselines.groupdr import lowest_reward
from drigm.algorithms.dual_network import DualNetwork
from drigm.algorithms.factorizations import Team
from drigm.algorithms.fit_dual import dual_variables
from drigm.algorithms.method import Method
from drigm.algorithms.samples import sampled_target, unroll_ahead
from drigm.algorithms.td_target import shifted_target
from drigm.algorithms.traces import traced_target
from drigm.algorithms.uncertainty import Dual
from drigm.algorithms.value_bounds import Nature
from drigm.algorithms.windows import Batch, cut_batch, team_of, unroll_window
from drigm.core.types import Array, PyTree, StoredStep


class Params(NamedTuple):
    """What the TD loss trains."""

    agents: RecurrentAgents
    mixer: PyTree


class NextTeam(NamedTuple):
    """The next joint history with the greedy joint action, and with every agent's fault; [T, B]."""

    greedy: Team
    faulty: Team | None = None  # where the agent-wise set has a radius
    along: Team | None = None  # the greedy team of the window itself, where there are traces and B stands for B * K


def next_team(
    method: Method, params: Params, target: Params, window: StoredStep, batch: Batch, *, stepwise: bool = False
) -> NextTeam:
    """Return (h', a_bar') [T, B] under the target network, a_bar'_i = argmax Q_i(h'_i, .) over available actions.

    ``stepwise``: see `unroll_window`. With samples ``batch`` is `transitions_ahead`, and B stands for B * K.
    """
    config, burn_in = method.config, method.config.burn_in

    def along_window(agents: RecurrentAgents, *, stepwise: bool = False) -> Array:
        return unroll_window(agents, window, burn_in, stepwise=stepwise)[1:]

    def next_features(agents: RecurrentAgents, *, stepwise: bool = False) -> Array:
        if config.samples:
            return unroll_ahead(agents, window, burn_in, config.samples)
        return along_window(agents, stepwise=stepwise)

    def greedy_team(features: Array, unroll: Callable[[RecurrentAgents], Array], batch: Batch) -> Team:
        if config.double_q:
            greedy = params.agents.greedy(unroll(params.agents), batch.avail_t)
        else:
            greedy = target.agents.greedy(features, batch.avail_t)
        return team_of(target.agents, features, greedy, batch.state_t, batch.alive_t)

    features = next_features(target.agents, stepwise=stepwise)
    team, faulty, along = greedy_team(features, next_features, batch), None, None
    if config.agent_rho:
        faulty = faulty_team(target.agents, features, team, batch, config.agent_fault, method.spec)
    if config.td_lambda and config.samples:
        along = greedy_team(along_window(target.agents), along_window, cut_batch(method, window))
    return jax.lax.stop_gradient(NextTeam(team, faulty, along))


def next_values(
    method: Method, mixer: PyTree, following: NextTeam, nature: Nature, alive: Array | None = None
) -> Array:
    """Return what nature's bootstrap acts on: V' [T, B], or every agent's own share of it [T, B, N] (private).

    V' is held within what any value can be. A mixing network may overestimate and bootstrap from what it overestimated;
    without the bound QMIX can diverge in battles. ``alive`` [T, B, N]: who can fail (`drigm.algorithms.agent_wise`).
    """
    if method.baseline.private:
        return following.greedy.q

    def value_of(team: Team) -> Array:
        return bounded_value(method, mixer, team, nature)

    if following.faulty is None:
        return value_of(following.greedy)
    return agent_wise_value(value_of, following.greedy, following.faulty, method.config.agent_rho, alive)


def bounded_value(method: Method, mixer: PyTree, team: Team, nature: Nature) -> Array:
    """Return Q_tot of ``team`` [T, B], held within what any value can be."""
    return jnp.clip(method.factorization.joint_value(mixer, team), nature.lowest, nature.highest)


def robust_target(
    method: Method,
    v_t: Array,
    dual: DualNetwork | None,
    batch: Batch,
    nature: Nature,
    reward_models: RewardModels | None = None,
) -> Array:
    """Return the robust TD target [T, B] of the `next_values` ``v_t``, in the learner's shifted values, Q - b.

    With samples ``v_t`` and ``batch`` are of B * K next steps. For b see
    `drigm.algorithms.value_bounds.value_offset`; ``reward_models`` replace the sampled reward (GroupDR).
    """
    if method.config.samples:
        return sampled_target(method, v_t, batch, nature)
    variables = dual_variables(method, dual, batch)
    reward = batch.reward_t
    if reward_models is not None:
        reward = lowest_reward(reward_models, batch.state_tm1, batch.action_tm1)
    if method.baseline.private:
        bootstrap, shares = _private_bootstrap(method, v_t, variables, batch, nature)
    else:
        variables = _in_range(method, variables, nature)
        bootstrap, shares = method.uncertainty.bootstrap(v_t, variables, nature.rho, nature.fail_value), None
    gamma = jnp.float32(method.config.gamma)
    y_tm1 = shifted_target(reward, batch.terminated_t, bootstrap, gamma, nature.offset, shares)
    return jax.lax.stop_gradient(y_tm1)


def with_traces(
    method: Method, y_tm1: Array, mixer: PyTree, following: NextTeam, batch: Batch, nature: Nature
) -> Array:
    """Return the one-step targets [T, B] with the later TD errors of the window, see `drigm.algorithms.traces`."""
    config = method.config
    if not config.td_lambda:
        return y_tm1
    team = following.greedy if following.along is None else following.along
    v_t = bounded_value(method, mixer, team, nature)
    discount = config.gamma * (1.0 - nature.rho) if method.uncertainty.discounts else jnp.float32(config.gamma)
    return traced_target(y_tm1, v_t, batch.mask, discount * config.td_lambda)


def _in_range(method: Method, variables: Dual, nature: Nature) -> Dual:
    """Return the dual variables with eta in [m, max V], which is where the TV dual is exact; divergences have no range.

    A fail value above min V (the paper's 0) does not cut eta: its range is that of the values.
    """
    if not (method.uncertainty.has_dual and method.uncertainty.can_fail):
        return variables
    return variables._replace(eta=jnp.clip(variables.eta, nature.lowest, nature.highest))


def _private_bootstrap(
    method: Method, q_t: Array, variables: Dual, batch: Batch, nature: Nature
) -> tuple[Array, tuple[Array, Array] | None]:
    """Return the sum [T, B] of every agent's own bootstrap, and the shares of b that the living hold, now and after.

    Every living agent represents its own value less b / N; the dead represent nothing, and nature has no hold on them.
    """
    share = nature.fail_value / method.spec.num_agents
    robust = method.uncertainty.bootstrap(q_t, variables, nature.rho, share)
    if batch.alive_tm1 is None or batch.alive_t is None:
        return jnp.sum(robust, axis=-1), None
    living = jnp.mean(batch.alive_tm1, axis=-1), jnp.mean(batch.alive_t, axis=-1)
    return jnp.sum(jnp.where(batch.alive_t, robust, 0.0), axis=-1), living
