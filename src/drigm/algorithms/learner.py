"""One update: windows from replay in, better parameters out.

`Learner.update` reads like the paper: the greedy next team under the target network, its value V', the dual network,
the robust target, the TD loss, one step of the optimiser.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from drigm.agents.recurrent import make_agents
from drigm.algorithms.baselines import RewardModels
from drigm.algorithms.factorizations import TeamSizes
from drigm.algorithms.fit_dual import FittedDual, fit_dual, init_dual
from drigm.algorithms.method import Method, make_method
from drigm.algorithms.optimizer import Optimizer, descend, gradient_norm, make_optimizers, mean_over_shards, start_of
from drigm.algorithms.robust_target import NextTeam, Params, next_team, next_values, robust_target, with_traces
from drigm.algorithms.samples import transitions_ahead
from drigm.algorithms.td_target import masked_mean
from drigm.algorithms.value_bounds import Robustness, nature_of
from drigm.algorithms.windows import Batch, cut_batch, team_of, unroll_window
from drigm.core.config import TrainConfig
from drigm.core.metrics import Metrics
from drigm.core.types import Array, EnvSpec, StoredStep, map_tree, value_and_grad
from drigm.runtime import devices


class LearnerState(NamedTuple):
    """Everything an update reads and writes."""

    params: Params
    target: Params
    average: Params  # exponential average over updates: what is evaluated and deployed
    opt_state: Any
    dual: FittedDual
    updates: Array  # [] int32
    reward_models: RewardModels | None = None  # of GroupDR, frozen


class Learner(NamedTuple):
    """The static choices of a learner; see `make_learner`."""

    method: Method
    optimizer: Optimizer
    dual_optimizer: Optimizer

    def init(self, key: Array) -> LearnerState:
        """Return the state before the first update."""
        config, spec, ordered = self.method.config, self.method.spec, self.method.ordered
        k_agents, k_mixer, k_dual = jax.random.split(key, 3)
        agents = make_agents(
            k_agents,
            spec,
            config.hidden,
            share_parameters=config.share_parameters,
            ordered=ordered,
            bowls=config.bowls,
            encoder=config.encoder,
            velocity=config.head == "velocity",
            changes=config.inputs == "changes",
        )
        sizes = TeamSizes(
            spec.num_agents,
            spec.num_actions,
            spec.state_size,
            agents.feature_size,
            config.mixer_embed,
            spec.action_values if ordered else None,
        )
        params = Params(agents, self.method.factorization.init(k_mixer, sizes))
        dual = init_dual(self.method, k_dual)
        return LearnerState(
            params=params,
            target=map_tree(jnp.copy, params),
            average=map_tree(jnp.copy, params),
            opt_state=start_of(self.optimizer, params),
            dual=FittedDual(dual, None if dual is None else start_of(self.dual_optimizer, dual)),
            updates=jnp.int32(0),
        )

    @property
    def keeps_target(self) -> bool:
        """Whether a tick's updates share one target network, and nothing newer is in their targets."""
        config = self.method.config
        newest = config.double_q or config.samples > 0  # the next steps drawn are too many for one go
        return config.updates > 1 and config.target_period % config.updates == 0 and not newest

    def following(self, state: LearnerState, window: StoredStep) -> NextTeam:
        """Return the greedy next team [T, B] of ``window`` [T + 1, B] under the target network; see `next_team`.

        Step by step on CPUs, whose caches many rows outgrow; on an accelerator a loop costs more than it saves.
        """
        batch, stepwise = cut_batch(self.method, window), devices.runs_in_turn()
        return next_team(self.method, state.params, state.target, window, batch, stepwise=stepwise)

    def update(
        self,
        state: LearnerState,
        window: StoredStep,
        robustness: Robustness,
        shares: int = 1,
        following: NextTeam | None = None,
    ) -> tuple[LearnerState, Metrics]:
        """Return the state after the dual steps (if the set has a dual) and one TD step on ``window`` [T + 1, B].

        The windows of ``shares`` shards lie next to each other in B; others may be on other devices. ``following``:
        what the method of that name returns, where it is known.
        """
        method = self.method
        nature = nature_of(method, robustness)
        batch = cut_batch(method, window)
        ahead = transitions_ahead(method, window, batch) if method.config.samples else batch
        if following is None:
            following = next_team(method, state.params, state.target, window, ahead)
        v_t = next_values(method, state.target.mixer, following, nature, ahead.alive_t)
        dual, dual_loss = fit_dual(method, self.dual_optimizer, state.dual, batch, v_t, nature.rho, shares)
        y_tm1 = robust_target(method, v_t, dual.network, ahead, nature, state.reward_models)
        y_tm1 = with_traces(method, y_tm1, state.target.mixer, following, batch, nature)
        (loss, value), grads = value_and_grad(td_loss, has_aux=True)(state.params, method, window, batch, y_tm1, shares)
        grads = mean_over_shards(grads)
        params, opt_state = descend(self.optimizer, grads, state.opt_state, state.params)
        # The gradients' norm is the same on every shard already.
        loss, dual_loss, value = mean_over_shards((loss, dual_loss, value))
        metrics = Metrics(loss, dual_loss, value + nature.offset, gradient_norm(grads))
        return follow(method.config, state._replace(params=params, opt_state=opt_state, dual=dual)), metrics


def make_learner(config: TrainConfig, spec: EnvSpec) -> Learner:
    """Return the learner of ``config`` for an environment with ``spec``."""
    return Learner(make_method(config, spec), *make_optimizers(config))


def td_loss(
    params: Params, method: Method, window: StoredStep, batch: Batch, y_tm1: Array, shares: int = 1
) -> tuple[Array, Array]:
    """Return the masked mean squared TD error, with the consistency loss if there is one, and the mean Q_tot."""
    # The last step only serves as the target's next history: nothing here looks at it.
    taken_in = map_tree(lambda x: x[:-1], window)
    features = unroll_window(params.agents, taken_in, method.config.burn_in)
    taken = team_of(params.agents, features, batch.action_tm1, batch.state_tm1, batch.alive_tm1)
    q_tot = method.factorization.joint_value(params.mixer, taken)
    loss = jnp.square(q_tot - y_tm1)
    if method.factorization.consistency is not None:
        greedy_action = params.agents.greedy(features, batch.avail_tm1)
        greedy = team_of(params.agents, features, greedy_action, batch.state_tm1, batch.alive_tm1)
        q = params.agents.q_values(features)
        if batch.alive_tm1 is not None:
            q = jnp.where(batch.alive_tm1[..., None], q, 0.0)
        if batch.avail_tm1 is not None:
            q = jnp.where(batch.avail_tm1, q, -jnp.inf)
        weights = (method.config.lambda_opt, method.config.lambda_nopt)
        loss = loss + method.factorization.consistency(params.mixer, taken, greedy, q, weights)
    return masked_mean(loss, batch.mask, shares), masked_mean(q_tot, batch.mask, shares)


def follow(config: TrainConfig, state: LearnerState) -> LearnerState:
    """Count an update: every ``target_period`` the target becomes a copy, and the average moves a little.

    The average warms up with the number of updates, so that early weights do not linger in it.
    """
    updates = state.updates + 1
    copy = updates % config.target_period == 0
    decay = jnp.minimum(config.average_decay, updates.astype(jnp.float32) / (10.0 + updates.astype(jnp.float32)))
    return state._replace(
        target=map_tree(lambda new, old: jnp.where(copy, new, old), state.params, state.target),
        average=map_tree(lambda new, old: old + (1.0 - decay) * (new - old), state.params, state.average),
        updates=updates,
    )
