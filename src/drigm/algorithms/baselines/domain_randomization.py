"""Domain randomization: train in many worlds at once and hope that the test world lies between them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from drigm.algorithms.baselines.api import Baseline
from drigm.core.errors import check
from drigm.core.types import map_tree
from drigm.envs.api import Environment
from drigm.envs.shifts import SOURCES, shift_suite, stack_params


def randomized(env: Environment, num_envs: int) -> Environment:
    """Return ``env`` with parallel environment b in source world b mod W (Tobin et al. 2017).

    The source worlds are those of the suite ``sources``: the nominal one and others that no test uses. A world is fixed
    per parallel environment rather than drawn per episode, which would copy a year of weather at each reset; where W
    does not divide the environments of a share, the first worlds get one environment more.

    Raises:
        UserError: the environment has no such suite, or more worlds than there are parallel environments.
    """
    worlds = stack_params(shift_suite(env, SOURCES))
    count = jax.tree.leaves(worlds)[0].shape[0]
    check(
        num_envs >= count, "num_envs", f"{num_envs} for each share", f"give at least {count}, one for each source world"
    )
    chosen = jnp.asarray(np.arange(num_envs) % count)
    return env._replace(params=map_tree(lambda x: x[chosen], worlds), world_per_env=True)


DOMAIN_RANDOMIZATION = Baseline(
    name="domain_randomization",
    about="trains in all source worlds side by side",
    environment=randomized,
    needs_sources=True,
)
