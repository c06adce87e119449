"""VDN: the team's value is the sum of the agents' values."""

import jax.numpy as jnp

from drigm.algorithms.factorizations.api import Factorization, Team, TeamSizes
from drigm.core.types import Array, PyTree


def init(key: Array, sizes: TeamSizes) -> PyTree:
    """Return no parameters: a sum has none."""
    del key, sizes
    return ()


def joint_value(params: PyTree, team: Team) -> Array:
    """Return ``sum_i Q_i`` (Sunehag et al. 2018, eq. 1): [...]."""
    del params
    return jnp.sum(team.q, axis=-1)


VDN = Factorization(name="vdn", init=init, joint_value=joint_value, additive=True)
