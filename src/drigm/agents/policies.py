"""Who acts: anything with a memory that turns what each agent sees into its action, in JAX or in NumPy.

The leading axes of a row are [B] in a compiled program (JAX), and [K, E] where environments live in other processes
(NumPy; see `drigm.agents.subprocess_acting`). The policies here look at the last axes alone, so both can play them.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.types import PyTree, StoredStep


class Policy(Protocol):
    """A decentralised policy: agent i's action follows from agent i's own observations and actions."""

    def initial_memory(self, batch: int, /) -> PyTree:
        """Return the memory before the first step of ``batch`` parallel episodes; ``row.first`` clears it later."""
        ...

    def act(self, memory: PyTree, row: StoredStep, /) -> tuple[PyTree, Any]:
        """Return the memory after this step, and the joint actions [..., N] int32."""
        ...


def module_of(array: Any) -> Any:
    """Return the module whose arrays ``array`` is one of: ``jax.numpy``, also while it is traced, or ``numpy``."""
    return jnp if isinstance(array, jax.Array) else np


class Constant(NamedTuple):
    """Every agent takes the same action at every step; where it cannot, its first available one."""

    action: Any  # [N] int32

    def initial_memory(self, batch: int) -> tuple[()]:
        """Return nothing: there is none."""
        del batch
        return ()

    def act(self, memory: tuple[()], row: StoredStep) -> tuple[tuple[()], Any]:
        """Return the action [..., N]."""
        xp = module_of(row.obs)
        action = xp.broadcast_to(xp.asarray(self.action), row.last_action.shape)
        if row.avail_actions is not None:
            can = xp.take_along_axis(row.avail_actions, action[..., None], axis=-1)[..., 0]
            action = xp.where(can, action, xp.argmax(row.avail_actions, axis=-1).astype(xp.int32))
        return memory, action


class Subteam(NamedTuple):
    """A team in an environment that has only some of its agents, M of N, in any order.

    ``shown`` [N]: whose observation each agent of the team is shown; the actions of agents that are not there are
    dropped, so whatever those are shown does not matter. ``places`` [M]: where the agents that are there stand in the
    team.
    """

    team: Policy
    shown: np.ndarray
    places: np.ndarray

    def initial_memory(self, batch: int) -> PyTree:
        """Return the whole team's memory."""
        return self.team.initial_memory(batch)

    def act(self, memory: PyTree, row: StoredStep) -> tuple[PyTree, Any]:
        """Return the team's memory and the actions [..., M]."""
        avail = None if row.avail_actions is None else row.avail_actions[..., self.shown, :]
        alive = None if row.alive is None else row.alive[..., self.shown]
        whole = row._replace(
            obs=row.obs[..., self.shown, :], last_action=row.last_action[..., self.shown], avail_actions=avail
        )
        memory, action = self.team.act(memory, whole._replace(alive=alive))
        return memory, action[..., self.places]


def subteam(team: Policy, agents: tuple[str, ...], there: tuple[str, ...]) -> Policy:
    """Return ``team`` of ``agents`` as a policy of the agents ``there``, all of whom it knows by name."""
    if agents == there:
        return team
    shown = np.array([there.index(agent) if agent in there else 0 for agent in agents])
    return Subteam(team, shown, np.array([agents.index(agent) for agent in there]))
