"""One update: windows from replay in, better parameters out."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from drigm import devices, targets
from drigm.baselines import BASELINES, RewardModels
from drigm.config import TrainConfig
from drigm.factorizations import FACTORIZATIONS, Team, TeamSizes
from drigm.networks import DualNetwork, make_agents
from drigm.optimization import descend, start_of
from drigm.replay import Row
from drigm.robust_targets import (
    Batch,
    Method,
    Params,
    Robustness,
    cut_batch,
    fit_dual,
    init_dual,
    mean_over_shards,
    next_team,
    next_values,
    robust_target,
    team_of,
    unroll_window,
    value_offset,
)
from drigm.types import Array, EnvSpec
from drigm.uncertainty import SETS


class LearnerState(NamedTuple):
    """Everything an update reads and writes."""

    params: Params
    target: Params
    average: Params  # exponential average over updates: what is evaluated and deployed
    opt_state: Any
    dual: DualNetwork | None
    dual_opt_state: Any
    updates: Array  # [] int32
    reward_models: RewardModels | None = None  # of GroupDR, frozen


class Metrics(NamedTuple):
    """Means over the batch, for the log."""

    loss: Array  # mean squared TD error, and the factorization's consistency loss where it has one
    dual_loss: Array
    value: Array  # mean Q_tot(h, a) of the batch, value offset added back
    grad_norm: Array


class Learner(NamedTuple):
    """The static choices of a learner; see `make_learner`."""

    method: Method
    optimizer: optax.GradientTransformation
    dual_optimizer: optax.GradientTransformation

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
            target=jax.tree.map(jnp.copy, params),
            average=jax.tree.map(jnp.copy, params),
            opt_state=start_of(self.optimizer, params),
            dual=dual,
            dual_opt_state=None if dual is None else start_of(self.dual_optimizer, dual),
            updates=jnp.int32(0),
        )

    @property
    def keeps_target(self) -> bool:
        """Whether a tick's updates share one target network, and nothing newer is in their targets."""
        config = self.method.config
        return config.updates > 1 and config.target_period % config.updates == 0 and not config.double_q

    def following(self, state: LearnerState, window: Row) -> Team:
        """Return the greedy next team [T, B] of ``window`` [T + 1, B] under the target network; see `next_team`.

        Step by step on CPUs, whose caches many rows outgrow; on an accelerator a loop costs more than it saves.
        """
        batch, stepwise = cut_batch(self.method, window), devices.runs_in_turn()
        return next_team(self.method, state.params, state.target, window, batch, stepwise=stepwise)

    def update(
        self,
        state: LearnerState,
        window: Row,
        robustness: Robustness,
        shares: int = 1,
        following: Team | None = None,
    ) -> tuple[LearnerState, Metrics]:
        """Return the state after the dual steps (if the set has a dual) and one TD step on ``window`` [T + 1, B].

        The windows of ``shares`` shards stand side by side in B; others may be on other devices. ``following``: what
        the method of that name returns, where it is known.
        """
        method, config = self.method, self.method.config
        batch = cut_batch(method, window)
        if following is None:
            following = next_team(method, state.params, state.target, window, batch)
        v_t = next_values(method, state.target.mixer, following, robustness)
        dual, dual_opt_state, dual_loss = fit_dual(
            method,
            self.dual_optimizer,
            state.dual,
            state.dual_opt_state,
            batch,
            jax.lax.stop_gradient(v_t),
            robustness.rho,
            shares,
        )
        y_tm1 = robust_target(method, state.target.mixer, following, dual, state.reward_models, batch, robustness)
        (loss, value), grads = jax.value_and_grad(self._loss, has_aux=True)(state.params, window, batch, y_tm1, shares)
        grads = mean_over_shards(grads)
        params, opt_state = descend(self.optimizer, grads, state.opt_state, state.params)
        updates = state.updates + 1
        copy = updates % config.target_period == 0
        target = jax.tree.map(lambda new, old: jnp.where(copy, new, old), params, state.target)
        # The average warms up with the number of updates, so that early weights do not linger in it.
        decay = jnp.minimum(config.average_decay, updates.astype(jnp.float32) / (10.0 + updates.astype(jnp.float32)))
        average = jax.tree.map(lambda new, old: old + (1.0 - decay) * (new - old), params, state.average)
        # The gradients' norm is the same on every shard already.
        loss, dual_loss, value = mean_over_shards((loss, dual_loss, value))
        metrics = Metrics(loss, dual_loss, value + value_offset(method, robustness), optax.tree.norm(grads))
        state = state._replace(
            params=params,
            target=target,
            average=average,
            opt_state=opt_state,
            dual=dual,
            dual_opt_state=dual_opt_state,
            updates=updates,
        )
        return state, metrics

    def _loss(self, params: Params, window: Row, batch: Batch, y_tm1: Array, shares: int) -> tuple[Array, Array]:
        """Return the masked mean squared TD error, with the consistency loss if there is one, and the mean Q_tot."""
        method = self.method
        # The last step only serves as the target's next history: nothing here looks at it.
        taken_in = jax.tree.map(lambda x: x[:-1], window)
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
        return targets.masked_mean(loss, batch.mask, shares), targets.masked_mean(q_tot, batch.mask, shares)


def make_learner(config: TrainConfig, spec: EnvSpec) -> Learner:
    """Return the learner of ``config`` for an environment with ``spec``."""
    total = max(1, (config.ticks // config.update_every) * config.updates)
    rate = _cosine(config.learning_rate, config.learning_rate_end, total)
    dual_rate = _cosine(config.dual_learning_rate, config.dual_learning_rate_end, total * config.dual_updates)
    baseline = BASELINES[config.baseline]
    method = Method(
        config=config,
        spec=spec,
        factorization=FACTORIZATIONS[config.factorization],
        uncertainty=baseline.uncertainty or SETS[config.uncertainty],
        baseline=baseline,
        ordered=config.head == "ordered" or (config.head == "auto" and spec.action_values is not None),
    )
    return Learner(
        method=method,
        optimizer=optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.adam(rate)),
        dual_optimizer=optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.adam(dual_rate)),
    )


def _cosine(start: float, end: float, steps: int) -> optax.Schedule:
    return optax.cosine_decay_schedule(start, steps, end / start if start > 0 else 0.0)


def make_robustness(config: TrainConfig, spec: EnvSpec, rho: Array) -> Robustness:
    """Return the traced radius with its fail value."""
    automatic = targets.auto_fail_value(spec, config.gamma)
    automatic = automatic if math.isfinite(automatic) else 0.0  # rewards without a bound: a set that fails asks for it
    fail_value = automatic if config.fail_value == "auto" else float(config.fail_value) * spec.reward_scale
    return Robustness(rho=rho, fail_value=jnp.full_like(rho, fail_value))
