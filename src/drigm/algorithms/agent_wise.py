"""The agent-wise set: with some chance, the one agent whom the team can least do without does something else.

With V' = Q_tot(h', a_bar') the next value of the greedy team, rho the chance and fault_i what agent i does instead::

    V'_rho = (1 - rho) Q_tot(h', a_bar') + rho min_i Q_tot(h', (fault_i, a_bar'_-i))

The critical agent is the same for the whole team, so this is one model of the team's value. For factorizations that are
monotone in every agent's value (VDN, QMIX) the agents' own greedy actions are the best joint action against it, as
DrIGM asks (docs/mathematics.md proves it, `drigm verify` checks it; without monotonicity it need not hold). For a sum
it is V' less rho times the largest loss that one agent can cause.

It acts on V' before any other set does, and on no factorization in particular.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from drigm.agents.recurrent import RecurrentAgents
from drigm.algorithms.factorizations import Team
from drigm.algorithms.windows import Batch, of_the_living
from drigm.core.types import Array, EnvSpec
from drigm.envs.failures import possible

FAULTS = {
    "idle": "the idle action, or its first possible one",
    "stuck": "its last action again, or the idle one where that is impossible",
    "random": "any possible action, by chance",
}


def faulty_team(
    agents: RecurrentAgents, features: Array, greedy: Team, batch: Batch, fault: str, spec: EnvSpec
) -> Team:
    """Return the ``greedy`` next team [T, B] with every agent's fault, of which one at a time will happen.

    A random fault is valued by the mean of the agent's own values of what is possible: exact for a sum, and what a
    monotone mixer makes of the mean otherwise. Its ``action`` is the greedy one, which no monotone mixer looks at.

    Args:
        agents: the target network's.
        features: [T, G, rows, F], of the next histories.
        greedy: the greedy team in them.
        batch: of the window.
        fault: a name in `FAULTS`.
        spec: has the idle action.
    """
    if fault == "random":
        q = agents.q_values(features)
        mask = jnp.ones(q.shape, bool) if batch.avail_t is None else batch.avail_t
        mean = jnp.sum(jnp.where(mask, q, 0.0), axis=-1) / jnp.maximum(jnp.sum(mask.astype(q.dtype), axis=-1), 1.0)
        return of_the_living(greedy._replace(q=mean), batch.alive_t)
    action = batch.action_tm1 if fault == "stuck" else jnp.full_like(greedy.action, spec.idle_action)
    if batch.avail_t is not None:
        action = possible(action, batch.avail_t, spec.idle_action)
    return of_the_living(greedy._replace(q=agents.q_of(features, action), action=action), batch.alive_t)


def agent_wise_value(
    value_of: Callable[[Team], Array], greedy: Team, faulty: Team, rho: float, alive: Array | None
) -> Array:
    """Return ``(1 - rho) V' + rho min_i Q_tot(h', (fault_i, a_bar'_-i))`` [T, B]; only who is alive can fail.

    Args:
        value_of: the joint value of a team.
        greedy: the greedy team.
        faulty: the same with every agent's fault.
        rho: the chance, from 0 to 1.
        alive: [T, B, N], or None: all are.
    """
    everyone = jnp.arange(greedy.q.shape[-1])

    def without(i: Array) -> Array:
        fails = everyone == i
        q, action = jnp.where(fails, faulty.q, greedy.q), jnp.where(fails, faulty.action, greedy.action)
        return value_of(greedy._replace(q=q, action=action))

    value, failed = value_of(greedy), jax.vmap(without, out_axes=-1)(everyone)  # [T, B], [T, B, N]
    if alive is not None:
        failed = jnp.where(alive, failed, value[..., None])
    return (1.0 - rho) * value + rho * jnp.min(failed, axis=-1)
