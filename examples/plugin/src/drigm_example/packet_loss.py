"""Lost packets: with some chance an agent does not hear its readings, and goes on with the last that it heard."""

import jax
import jax.numpy as jnp

from drigm.envs.perturbations import Perturbation


def start(key, spec, strength):
    """The memory of an episode: the readings [N, O] that each agent heard last."""
    return jnp.zeros((spec.num_agents, spec.obs_size), jnp.float32)


def show(key, spec, strength, heard, step, first):
    """The readings of this step, or the last heard; a reset is always heard (``first``)."""
    lost = jax.random.uniform(key, (spec.num_agents, 1)) < (0.0 if first else strength)
    obs = jnp.where(lost, heard, step.obs)
    return obs, step._replace(obs=obs)


PACKET_LOSS = Perturbation("chance that an agent's readings are lost in a step", 1.0, start=start, show=show)
