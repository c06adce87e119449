"""Runs that were never trained, and exported agents made of them: what deployment needs is weights, not good ones."""

from __future__ import annotations

import copy

import jax
import jax.numpy as jnp
import numpy as np
from small import SMALL, SUBPROCESS

from drigm.algorithms.learner import make_learner
from drigm.core.scales import scales_of
from drigm.deployment.agent import Agent
from drigm.deployment.contract import make_contract
from drigm.deployment.networks import team_networks
from drigm.storage.run_directory import RunDirectory
from drigm.training.loop import weights_of
from drigm.training.runs import Run
from drigm.training.settings import resolve
from drigm.training.trust import provenance

VDN = SMALL.replace(factorization="vdn", shards=1)
BUILDING = VDN.replace(env="building:OfficeSmall/Tucson")
CONFIGS = {
    "linear": VDN.replace(env="probe:recall"),
    "linear, shared": VDN.replace(env="probe:recall", share_parameters=True),
    "linear, no encoder": VDN.replace(env="probe:recall", encoder=False),
    "linear, changes": VDN.replace(env="probe:recall", inputs="changes", share_parameters=True),
    "ordered": VDN.replace(env="probe:levels", bowls=2),
    "ordered, shared, changes": BUILDING.replace(inputs="changes", share_parameters=True),
    "velocity": BUILDING.replace(head="velocity"),
    "velocity, changes, no encoder": BUILDING.replace(head="velocity", inputs="changes", encoder=False),
    "masks and deaths": SUBPROCESS,
    "masks and deaths, changes": SUBPROCESS.replace(inputs="changes", share_parameters=True),
}


def stirred(weights, seed):
    """Weights in which every bias matters, another in every seed."""
    return jax.tree.map(lambda x: x + 0.3 * jnp.cos(seed + jnp.arange(x.size)).reshape(x.shape), weights)


def finished_run(path, config) -> Run:
    """A run directory as a training leaves it, with weights that nothing has learnt."""
    config, env = resolve(config)
    directory = RunDirectory(path)
    directory.create(config, provenance(config))
    directory.save_scales(scales_of(env.spec))
    learner = make_learner(config, env.spec)
    for k in range(config.seeds):
        weights = weights_of(learner.init(jax.random.key(k)))
        agents = weights.agents
        turned = stirred(agents, k)
        fixed = ("obs_offset", "obs_scale")
        turned = turned.__class__(**{**vars(turned), **{name: getattr(agents, name) for name in fixed}})
        if hasattr(agents.head, "levels"):
            head = turned.head.__class__(**{**vars(turned.head), "levels": agents.head.levels})
            turned = turned.__class__(**{**vars(turned), "head": head})
        directory.save_weights(config.first_seed + k, weights._replace(agents=turned))
    directory.finish(config)
    return Run(directory, config, env)


def lone_agent(spec, n=0, *, safety=None, config=VDN, **changes) -> Agent:
    """Agent ``n`` of ``spec``, with random weights; ``changes`` of its contract's first level."""
    learner = make_learner(config, spec)
    agents = weights_of(learner.init(jax.random.key(3))).agents
    arrays = {
        "agents." + jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(x)
        for path, x in jax.tree_util.tree_leaves_with_path(stirred_agents(agents))
    }
    network = team_networks(arrays, spec, config)[n]
    options = {name: changes.pop(name) for name in ("clock", "on_flag") if name in changes}
    contract = copy.deepcopy(make_contract(n, network, spec, config, 0, safety)) | changes
    return Agent(network, contract, **options)


def stirred_agents(agents):
    return jax.tree.map(lambda x: x + 0.3 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), agents)
