"""VDN: the team's value is the sum of the agents' values."""

import jax.numpy as jnp

from drigm.factorizations.api import Factorization
from drigm.types import Array, PyTree


def init(key: Array, num_agents: int, state_size: int, embed_size: int) -> PyTree:
    """Return no parameters: a sum has none."""
    del key, num_agents, state_size, embed_size
    return ()


def joint_value(params: PyTree, q: Array, state: Array) -> Array:
    """Return ``sum_i Q_i`` (Sunehag et al. 2018, eq. 1): q [..., N] -> [...]."""
    del params, state
    return jnp.sum(q, axis=-1)


VDN = Factorization(name="vdn", init=init, joint_value=joint_value)
