"""One update: windows from replay in, better parameters out."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from drigm import targets
from drigm.config import TrainConfig
from drigm.factorizations import FACTORIZATIONS, Factorization
from drigm.networks import AgentInputs, DualNetwork, RecurrentAgents, make_agents, make_dual
from drigm.replay import Row
from drigm.types import Array, EnvSpec, PyTree
from drigm.uncertainty import SETS, UncertaintySet

SHARD_AXIS = "shard"


class Params(NamedTuple):
    """What the TD loss trains."""

    agents: RecurrentAgents
    mixer: PyTree


class LearnerState(NamedTuple):
    """Everything an update reads and writes."""

    params: Params
    target: Params
    average: Params  # exponential average over updates: what is evaluated and deployed
    opt_state: Any
    dual: DualNetwork | None
    dual_opt_state: Any
    updates: Array  # [] int32


class Metrics(NamedTuple):
    """Means over the batch, for the log."""

    loss: Array  # mean squared TD error
    dual_loss: Array
    value: Array  # mean Q_tot(h, a) of the batch, value offset added back
    grad_norm: Array


class Robustness(NamedTuple):
    """The radius and its fail value, traced so that several radii are one `vmap` axis."""

    rho: Array  # []
    fail_value: Array  # []


class Learner(NamedTuple):
    """The static choices of a learner; see `make_learner`."""

    config: TrainConfig
    spec: EnvSpec
    factorization: Factorization
    uncertainty: UncertaintySet
    optimizer: optax.GradientTransformation
    dual_optimizer: optax.GradientTransformation
    ordered: bool

    def init(self, key: Array) -> LearnerState:
        """Return the state before the first update."""
        config, spec = self.config, self.spec
        k_agents, k_mixer, k_dual = jax.random.split(key, 3)
        agents = make_agents(
            k_agents,
            spec,
            config.hidden,
            share_parameters=config.share_parameters,
            ordered=self.ordered,
            bowls=config.bowls,
        )
        mixer = self.factorization.init(k_mixer, spec.num_agents, spec.state_size, config.mixer_embed)
        params = Params(agents, mixer)
        has_dual = self.uncertainty.dual_loss is not None
        dual = make_dual(k_dual, spec, config.dual_hidden, ordered=self.ordered) if has_dual else None
        return LearnerState(
            params=params,
            target=jax.tree.map(jnp.copy, params),
            average=jax.tree.map(jnp.copy, params),
            opt_state=self.optimizer.init(_optax_params(params)),
            dual=dual,
            dual_opt_state=self.dual_optimizer.init(_optax_params(dual)) if has_dual else None,
            updates=jnp.int32(0),
        )

    def update(self, state: LearnerState, window: Row, robustness: Robustness) -> tuple[LearnerState, Metrics]:
        """Return the state after one dual step (if the set has a dual) and one TD step on ``window`` [T + 1, B]."""
        batch = self._batch(window)
        v_t = jax.lax.stop_gradient(self._next_values(state, window, batch))
        dual, dual_opt_state, dual_loss = self._dual_steps(state, batch, v_t, robustness)
        y_tm1 = self._targets(dual, batch, v_t, robustness)
        (loss, value), grads = jax.value_and_grad(self._td_loss, has_aux=True)(state.params, window, batch, y_tm1)
        grads = _mean_over_shards(grads)
        params, opt_state = _descend(self.optimizer, grads, state.opt_state, state.params)
        updates = state.updates + 1
        copy = updates % self.config.target_period == 0
        target = jax.tree.map(lambda new, old: jnp.where(copy, new, old), params, state.target)
        # The average warms up with the number of updates, so that early weights do not linger in it.
        decay = jnp.minimum(
            self.config.average_decay, updates.astype(jnp.float32) / (10.0 + updates.astype(jnp.float32))
        )
        average = jax.tree.map(lambda new, old: old + (1.0 - decay) * (new - old), params, state.average)
        offset = targets.value_offset(robustness.rho, self.config.gamma, robustness.fail_value)
        metrics = Metrics(loss, dual_loss, value + offset, optax.tree.norm(grads))
        return LearnerState(params, target, average, opt_state, dual, dual_opt_state, updates), _mean_over_shards(
            metrics
        )

    def _batch(self, window: Row) -> _Batch:
        """Cut the training transitions out of a window: everything after the burn-in."""
        burn_in = self.config.burn_in
        row_tm1 = jax.tree.map(lambda x: x[burn_in:-1], window)
        row_t = jax.tree.map(lambda x: x[burn_in + 1 :], window)
        return _Batch(
            state_tm1=standardise_state(self.spec, row_tm1.state),
            state_t=standardise_state(self.spec, row_t.state),
            action_tm1=jnp.maximum(row_t.last_action, 0),  # reset rows hold NO_ACTION; the mask hides them
            reward_t=row_t.reward * self.spec.reward_scale,
            terminated_t=row_t.terminated,
            mask=targets.valid_transitions(row_tm1.terminated, row_tm1.truncated),
        )

    def _next_values(self, state: LearnerState, window: Row, batch: _Batch) -> Array:
        """Return V' = Q_tot(h', a_bar') under the target network, [T, B]."""
        features = unroll_window(state.target.agents, window, self.config.burn_in)[1:]
        avail = None if window.avail_actions is None else window.avail_actions[self.config.burn_in + 1 :]
        if self.config.double_q:
            online = unroll_window(state.params.agents, window, self.config.burn_in)[1:]
            greedy = state.params.agents.greedy(online, avail)
        else:
            greedy = state.target.agents.greedy(features, avail)
        chosen = state.target.agents.q_of(features, greedy)
        return self.factorization.joint_value(state.target.mixer, chosen, batch.state_t)

    def _dual_steps(
        self, state: LearnerState, batch: _Batch, v_t: Array, robustness: Robustness
    ) -> tuple[Any, Any, Array]:
        """Fit eta(s, a) on the linear dual loss of this batch."""
        dual_loss = self.uncertainty.dual_loss
        if dual_loss is None or state.dual is None:
            return state.dual, state.dual_opt_state, jnp.float32(0.0)

        def loss_of(dual: DualNetwork) -> Array:
            eta = dual(batch.state_tm1, batch.action_tm1)
            # Nature cannot move a termination: the target ignores eta there, so eta must not be fitted to it.
            return targets.masked_mean(dual_loss(eta, v_t, robustness.rho), batch.mask & ~batch.terminated_t)

        dual, opt_state, loss = state.dual, state.dual_opt_state, jnp.float32(0.0)
        for _ in range(self.config.dual_updates):
            loss, grads = jax.value_and_grad(loss_of)(dual)
            dual, opt_state = _descend(self.dual_optimizer, _mean_over_shards(grads), opt_state, dual)
        return dual, opt_state, loss

    def _targets(self, dual: DualNetwork | None, batch: _Batch, v_t: Array, robustness: Robustness) -> Array:
        """Return the robust TD target [T, B] in the learner's shifted values, Q - b (see `targets.value_offset`)."""
        gamma, rho = self.config.gamma, robustness.rho
        offset = targets.value_offset(rho, gamma, robustness.fail_value)
        fail_value = robustness.fail_value - offset
        eta = jnp.zeros_like(v_t)
        if dual is not None:
            highest = targets.max_value(self.spec, gamma) - offset
            # A fail value above min V (the paper's 0) must not cut eta: its range is that of the values.
            lowest = jnp.minimum(robustness.fail_value, targets.auto_fail_value(self.spec, gamma)) - offset
            eta = jnp.clip(dual(batch.state_tm1, batch.action_tm1), lowest, highest)
        bootstrap = self.uncertainty.bootstrap(v_t, eta, rho, fail_value)
        discount = gamma * (1.0 - batch.terminated_t.astype(jnp.float32))
        y = targets.td_target(batch.reward_t, batch.terminated_t, bootstrap, jnp.float32(gamma))
        return jax.lax.stop_gradient(y - (1.0 - discount) * offset)

    def _td_loss(self, params: Params, window: Row, batch: _Batch, y_tm1: Array) -> tuple[Array, Array]:
        """Return the masked mean squared TD error and the mean Q_tot."""
        features = unroll_window(params.agents, window, self.config.burn_in)[:-1]
        q = params.agents.q_of(features, batch.action_tm1)
        q_tot = self.factorization.joint_value(params.mixer, q, batch.state_tm1)
        return targets.masked_mean(jnp.square(q_tot - y_tm1), batch.mask), targets.masked_mean(q_tot, batch.mask)


class _Batch(NamedTuple):
    """The training transitions of a window, [T - burn_in, B]."""

    state_tm1: Array
    state_t: Array
    action_tm1: Array
    reward_t: Array
    terminated_t: Array
    mask: Array


def make_learner(config: TrainConfig, spec: EnvSpec) -> Learner:
    """Return the learner of ``config`` for an environment with ``spec``."""
    total = max(1, (config.ticks // config.update_every) * config.updates)
    final = config.learning_rate_end / config.learning_rate if config.learning_rate > 0 else 0.0
    rate = optax.cosine_decay_schedule(config.learning_rate, total, final)
    return Learner(
        config=config,
        spec=spec,
        factorization=FACTORIZATIONS[config.factorization],
        uncertainty=SETS[config.uncertainty],
        optimizer=optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.adam(rate)),
        dual_optimizer=optax.chain(
            optax.clip_by_global_norm(config.max_grad_norm), optax.adam(config.dual_learning_rate)
        ),
        ordered=config.head == "ordered" or (config.head == "auto" and spec.action_values is not None),
    )


def make_robustness(config: TrainConfig, spec: EnvSpec, rho: Array) -> Robustness:
    """Return the traced radius with its fail value."""
    automatic = targets.auto_fail_value(spec, config.gamma)
    fail_value = automatic if config.fail_value == "auto" else float(config.fail_value)
    return Robustness(rho=rho, fail_value=jnp.full_like(rho, fail_value))


def unroll_window(agents: RecurrentAgents, window: Row, burn_in: int) -> Array:
    """Return the head's features [T + 1 - burn_in, G, rows, F] of a window.

    The first ``burn_in`` steps only warm the LSTM state: no gradient passes through them (Kapturowski et al. 2019).
    """
    inputs = AgentInputs(window.obs, window.last_action, window.first)
    memory = agents.initial_memory(window.first.shape[1])
    if burn_in:
        warm = jax.tree.map(lambda x: x[:burn_in], inputs)
        memory, _ = jax.lax.stop_gradient(agents).unroll(memory, warm)
        memory = jax.lax.stop_gradient(memory)
    _, features = agents.unroll(memory, jax.tree.map(lambda x: x[burn_in:], inputs))
    return features


def standardise_state(spec: EnvSpec, state: Array) -> Array:
    """Return the global state [..., S] as networks see it."""
    offset = jnp.broadcast_to(jnp.asarray(spec.state_offset, jnp.float32), state.shape)
    scale = jnp.broadcast_to(jnp.asarray(spec.state_scale, jnp.float32), state.shape)
    return (state - offset) / scale


def _descend(
    optimizer: optax.GradientTransformation, grads: PyTree, opt_state: Any, params: PyTree
) -> tuple[PyTree, Any]:
    with jax.numpy_dtype_promotion("standard"):  # Adam raises a Python float to an int32 step count
        changes, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, changes), opt_state


def _optax_params(tree: PyTree) -> Any:
    return tree  # optax types its pytrees more narrowly than what it takes


def _mean_over_shards(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jax.lax.pmean(x, SHARD_AXIS), tree)
