"""The agents of a run as networks that act alone: each with its own readings and actions, without padding."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from drigm.agents.numpy_agents import network_of
from drigm.agents.numpy_network import Network
from drigm.core.config import TrainConfig
from drigm.core.errors import check
from drigm.core.types import EnvSpec

PREFIX = "agents."  # of their arrays among a seed's weights


def team_networks(arrays: Mapping[str, np.ndarray], spec: EnvSpec, config: TrainConfig) -> list[Network]:
    """Return the network of each agent, in the team's order.

    Args:
        arrays: a seed's weights by name, as its file holds them.
        spec: of the run's environment.
        config: the run's settings.

    Raises:
        UserError: the weights are those of other agents.
    """
    own = {name.removeprefix(PREFIX): x for name, x in arrays.items() if name.startswith(PREFIX)}
    shape = (spec.num_agents, spec.obs_size)
    # Files of drigm 0.1 have the scales that all agents shared.
    offset, scale = (own.pop(name, np.zeros(0, np.float32)) for name in ("obs_offset", "obs_scale"))
    given = [*offset.shape]
    check(given in ([*shape], [shape[1]]), "weights", given, f"{spec.name} needs {list(shape)} agents and readings")
    offset, scale = np.broadcast_to(offset, shape), np.broadcast_to(scale, shape)
    kept = None
    if config.inputs == "changes":  # as in `drigm.agents.recurrent.make_agents`
        kept = tuple(range(spec.obs_size)) if spec.regulated is None else (spec.regulated.reading,)
    velocity, networks = config.head == "velocity", list[Network]()
    for n in range(spec.num_agents):
        group = 0 if config.share_parameters else n
        one = {name: x if name == "head.levels" else x[group] for name, x in own.items()}
        network = network_of(one, offset[n, None], scale[n, None], kept=kept, velocity=velocity)
        if config.share_parameters and not velocity:
            network = network._replace(identity=np.eye(spec.num_agents, dtype=np.float32)[n, None])
        networks.append(with_actions(with_readings(network, own_readings(spec, n)), own_actions(spec, n)))
    return networks


def own_readings(spec: EnvSpec, agent: int) -> list[int]:
    """Return the indices of the readings that the agent has; the others are padding."""
    mask = np.ones(spec.obs_size, bool) if spec.readings is None else spec.readings[agent]
    return [int(i) for i in np.flatnonzero(mask)]


def own_actions(spec: EnvSpec, agent: int) -> int:
    """Return how many actions the agent has."""
    said = None if spec.described is None else spec.described.own_actions
    return spec.num_actions if said is None else said[agent]


def with_readings(network: Network, own: list[int]) -> Network:
    """Return ``network`` without the inputs of readings that are padding, which it sees as zeros."""
    size = network.offset.shape[-1]
    if len(own) == size:
        return network
    first = network.read if network.encoder is None else network.encoder
    if network.kept is None:
        rows, end, kept = list(own), size, None
    else:
        count = len(network.kept)
        rows = [j for j, reading in enumerate(network.kept) if reading in own] + [count + reading for reading in own]
        end, kept = count + size, tuple(own.index(reading) for reading in network.kept if reading in own)
    rows += range(end, first.shape[0])
    known = network.recurrent.shape[0]
    return network._replace(
        offset=network.offset[:, own],
        scale=network.scale[:, own],
        encoder=None if network.encoder is None else network.encoder[rows],
        read=network.read[rows] if network.encoder is None else network.read,
        head=network.head[[*range(known), *(known + row for row in rows)]],
        kept=kept,
    )


def with_actions(network: Network, count: int) -> Network:
    """Return ``network`` with its first ``count`` actions alone."""
    if network.levels is not None:
        return network._replace(levels=network.levels[:count])
    return network._replace(
        head=network.head[:, :count], head_bias=network.head_bias[:, :count], embedding=network.embedding[: count + 1]
    )
