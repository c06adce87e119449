"""Windows of replay as the targets and the loss take them: standardised transitions, and features of the histories."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from drigm.agents.recurrent import AgentInputs, RecurrentAgents
from drigm.algorithms.factorizations import Team
from drigm.algorithms.method import Method
from drigm.core.types import NO_ACTION, Array, StoredStep, map_tree, standardise


class Batch(NamedTuple):
    """The training transitions of a window; T counts from the end of the burn-in."""

    obs_tm1: Float[Array, "T B N O"]  # standardised, as are the states
    state_tm1: Float[Array, "T B S"]
    state_t: Float[Array, "T B S"]
    action_tm1: Int[Array, "T B N"]
    avail_tm1: Bool[Array, "T B N A"] | None
    avail_t: Bool[Array, "T B N A"] | None
    reward_t: Float[Array, "T B"]
    terminated_t: Bool[Array, "T B"]
    mask: Bool[Array, "T B"]
    alive_tm1: Bool[Array, "T B N"] | None = None
    alive_t: Bool[Array, "T B N"] | None = None


def cut_batch(method: Method, window: StoredStep) -> Batch:
    """Cut the training transitions out of a window [T + 1, B]: everything after the burn-in."""
    burn_in, spec = method.config.burn_in, method.spec
    step_tm1 = map_tree(lambda x: x[burn_in:-1], window)
    step_t = map_tree(lambda x: x[burn_in + 1 :], window)
    return Batch(
        obs_tm1=standardise(step_tm1.obs, spec.obs_offset, spec.obs_scale),
        state_tm1=standardise(step_tm1.state, spec.state_offset, spec.state_scale),
        state_t=standardise(step_t.state, spec.state_offset, spec.state_scale),
        action_tm1=jnp.maximum(step_t.last_action, 0),  # reset steps hold NO_ACTION; the mask hides them
        avail_tm1=step_tm1.avail_actions,
        avail_t=step_t.avail_actions,
        reward_t=(step_t.reward - _move_cost(method, step_tm1.last_action, step_t.last_action)) * spec.reward_scale,
        terminated_t=step_t.terminated,
        mask=valid_transitions(step_tm1.terminated, step_tm1.truncated, step_t.first),
        alive_tm1=step_tm1.alive,
        alive_t=step_t.alive,
    )


def _move_cost(method: Method, action_tm1: Array, action_t: Array) -> Array | float:
    """Return what is taken from the reward [T, B] for moving from one joint action [T, B, N] to the next."""
    if not method.config.move_cost or method.spec.action_values is None:
        return 0.0
    level = jnp.asarray(method.spec.action_values)
    now, before = (jnp.where(x != NO_ACTION, level[jnp.maximum(x, 0)], 0.0) for x in (action_t, action_tm1))
    return method.config.move_cost * jnp.mean(jnp.abs(now - before), axis=-1)


def valid_transitions(terminated_tm1: Array, truncated_tm1: Array, first_t: Array) -> Array:
    """Return the mask [T, B] of real transitions: none leaves the last step of an episode or enters a first one.

    What follows a last step is the reset observation of another episode; nothing may bootstrap from it. An episode
    without a last step was cut off by a resume: its environment lived in a process that is gone.
    """
    return ~(terminated_tm1 | truncated_tm1 | first_t)


def unroll_window(agents: RecurrentAgents, window: StoredStep, burn_in: int, *, stepwise: bool = False) -> Array:
    """Return the head's features [T + 1 - burn_in, G, rows, F] of a window.

    The first ``burn_in`` steps only warm the LSTM state: no gradient passes through them (Kapturowski et al. 2019).
    ``stepwise``: the rest by `RecurrentAgents.unroll_stepwise`, where no gradient is taken.
    """
    inputs = AgentInputs(window.obs, window.last_action, window.first)
    memory = agents.initial_memory(window.first.shape[1])
    if window.memory is not None:
        memory = agents.memory_by_group(map_tree(lambda x: x[0], window.memory))
    if burn_in:
        warm = map_tree(lambda x: x[:burn_in], inputs)
        memory, _ = jax.lax.stop_gradient(agents).unroll(memory, warm)
        memory = jax.lax.stop_gradient(memory)
    unroll = agents.unroll_stepwise if stepwise else agents.unroll
    _, features = unroll(memory, map_tree(lambda x: x[burn_in:], inputs))
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
