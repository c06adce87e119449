"""The networks that the paper's authors released: read, converted to arrays, scored in the six cities.

Their agents (released code): fc1 on (own observation [5], one-hot of the previous own action [200]) -> ReLU ->
LSTM 64 -> ReLU -> fc_out 200. They act on their last 8 (observation, previous action) pairs, zero-padded in front, from
a zero state.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.errors import UserError, check
from drigm.core.types import Array
from drigm.envs import make_env
from drigm.envs.api import Environment, Shift, reset_all
from drigm.envs.building.simulator import PROTOCOL_DAYS, BuildingParams
from drigm.envs.episodes import RolloutState, begin, play
from drigm.envs.shifts import shift_suite, stack_params
from drigm.experiments.reproduce.studies import BUILDING_ENV
from drigm.runtime.devices import cache_compilations, use_cores
from drigm.runtime.progress import Progress

HISTORY, HIDDEN, OBSERVATION, ACTIONS = 8, 64, 5, 200
GATES = 4 * HIDDEN
SHAPES = {
    "fc1_weight": (HIDDEN, OBSERVATION + ACTIONS),
    "fc1_bias": (HIDDEN,),
    "lstm_weight_ih_l0": (GATES, HIDDEN),
    "lstm_weight_hh_l0": (GATES, HIDDEN),
    "lstm_bias_ih_l0": (GATES,),
    "lstm_bias_hh_l0": (GATES,),
    "fc_out_weight": (ACTIONS, HIDDEN),
    "fc_out_bias": (ACTIONS,),
}
TORCH_FILES = (".pt", ".pth", ".th")
TO_ARRAYS = Path(__file__).with_name("torch_to_arrays.py")

Network = Mapping[str, Array]  # name in SHAPES -> [N agents, ...] float32


class AuthorsScore(NamedTuple):
    """Scores of one team of networks."""

    name: str  # of its file
    scores: dict[str, float]  # by city


def reproduce_authors(folder: str | Path, out: Path | None = None, *, torch_python: str = "") -> list[AuthorsScore]:
    """Return the six cities' scores of every team of released networks below ``folder``, in the files' order.

    A team is an ``.npz`` with the names of `SHAPES`, each stacked over the agents, or a PyTorch file (``.pt``,
    ``.pth``, ``.th``) with a state dict for each agent. PyTorch is not part of drigm: such files are converted by an
    interpreter that has it, with ``weights_only=True``, so that no code in them runs.

    Args:
        folder: is searched with all its subfolders.
        out: where the converted networks go, as ``.npz``; by default they are not kept.
        torch_python: an interpreter that can import torch.

    Raises:
        UserError: no networks, a file with other shapes, or PyTorch files without ``torch_python``.
    """
    env = make_env(BUILDING_ENV)
    teams = find_networks(Path(folder), env.spec.num_agents, out, torch_python)
    use_cores()
    cache_compilations()
    worlds = shift_suite(env, "climate")
    play = _play(env)
    found = []
    with Progress("authors' networks", len(teams), unit="teams") as progress:
        for name, network in teams.items():
            found.append(AuthorsScore(name, _scores(env, play, worlds, network)))
            progress.update(len(found))
    return found


def find_networks(folder: Path, agents: int, out: Path | None = None, torch_python: str = "") -> dict[str, Network]:
    """Return every team of networks below ``folder`` by its file's name without suffix."""
    check(folder.is_dir(), "authors", str(folder), "give the folder of the released networks")
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".npz", *TORCH_FILES))
    check(bool(files), "authors", str(folder), f"it holds no network (.npz or {', '.join(TORCH_FILES)})")
    teams = {}
    for file in files:
        arrays = _load(file) if file.suffix == ".npz" else _converted(file, torch_python)
        name = str(file.relative_to(folder).with_suffix(""))
        teams[name] = _checked(file, arrays, agents)
        if out is not None and file.suffix != ".npz":
            _keep(out / f"{name}.npz", teams[name])
    return teams


def grouped(scores: list[AuthorsScore]) -> dict[str, list[AuthorsScore]]:
    """Return teams that differ in the seed alone, under the rest of their name.

    The seed is a whole number at the name's end, after ``_`` or ``-``, as in ``qmix_tv_0.2_10``; a radius is no seed.
    """
    groups: dict[str, list[AuthorsScore]] = {}
    for score in scores:
        groups.setdefault(re.sub(r"[_-](seed[_-]?)?\d+$", "", score.name) or score.name, []).append(score)
    return groups


def team_return(env: Environment, network: Network, params: BuildingParams, day: Array) -> Array:
    """Return the sum of the team's rewards over the episode that starts at ``day``."""
    key = jax.random.key(0)  # nothing is random
    world = env._replace(params=params._replace(days=day[None]))
    nothing = jax.vmap(_gates, in_axes=(0, None, None))(network, jnp.zeros(OBSERVATION), 0)
    window = jnp.repeat(nothing[:, None], HISTORY, axis=1)

    def act(carry: RolloutState, _: Array) -> tuple[Array, Array, None]:
        previous = jnp.maximum(carry.last_action[0], 0)  # theirs is 0 at the start
        newest = jax.vmap(_gates)(network, carry.timestep.obs[0], previous)
        window = jnp.concatenate([carry.memory[:, 1:], newest[:, None]], axis=1)
        return window, jax.vmap(_greedy)(network, window)[None], None

    carry = begin(window, *reset_all(world, key, 1))
    return play(world, act, carry, jax.random.split(key, env.spec.episode_limit))[1].after.reward.sum()


def _gates(network: Network, obs: Array, previous_action: Array | int) -> Array:
    """The input part of one agent's LSTM gates [256] for one (observation [5], previous action index) pair."""
    weight = network["fc1_weight"]
    hidden = weight[:, :OBSERVATION] @ obs + weight[:, OBSERVATION + previous_action] + network["fc1_bias"]
    bias = network["lstm_bias_ih_l0"] + network["lstm_bias_hh_l0"]
    return network["lstm_weight_ih_l0"] @ jax.nn.relu(hidden) + bias


def _greedy(network: Network, window: Array) -> Array:
    """One agent's greedy action from the gate inputs [8, 256] of its history; PyTorch orders gates i, f, g, o."""

    def cell(carry, gate_input):
        hidden, memory = carry
        i, f, g, o = jnp.split(gate_input + network["lstm_weight_hh_l0"] @ hidden, 4)
        memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(memory), memory), None

    (hidden, _), _ = jax.lax.scan(cell, (jnp.zeros(HIDDEN), jnp.zeros(HIDDEN)), window)
    return jnp.argmax(network["fc_out_weight"] @ jax.nn.relu(hidden) + network["fc_out_bias"]).astype(jnp.int32)


def city_returns(env: Environment):
    """Compile ``play(network, params [W, ...], days [D]) -> returns [W, D]``."""
    over_days = jax.vmap(lambda network, params, day: team_return(env, network, params, day), in_axes=(None, None, 0))
    return jax.jit(jax.vmap(over_days, in_axes=(None, 0, None)))


def _play(env: Environment):
    play = city_returns(env)
    return lambda network, worlds: play(network, stack_params(worlds), jnp.asarray(PROTOCOL_DAYS))


def _scores(env: Environment, play, worlds: list[Shift], network: Network) -> dict[str, float]:
    returns = np.asarray(play(network, worlds))  # [W, D]
    means = np.asarray(env.score(jnp.asarray(returns)), np.float64).mean(axis=1)
    return {world.name: float(mean) for world, mean in zip(worlds, means, strict=True)}


def _load(file: Path) -> dict[str, np.ndarray]:
    try:
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files if name in SHAPES}
    except (OSError, ValueError, TypeError, AttributeError, BadZipFile) as error:  # AttributeError: a bare .npy
        raise UserError(f"{file}: not an .npz of plain arrays ({error}).") from None


def _converted(file: Path, torch_python: str) -> dict[str, np.ndarray]:
    """The arrays in a PyTorch file, read by an interpreter that has PyTorch."""
    allowed = "give the interpreter of an environment with PyTorch, as in --torch-python ~/torch/bin/python"
    check(bool(torch_python), "torch-python", None, f"{file.name} is a PyTorch file: {allowed}")
    try:
        done = subprocess.run([torch_python, str(TO_ARRAYS), str(file)], capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(f"torch-python: {torch_python!r} does not start ({error.strerror}); {allowed}.") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise UserError(f"{file}: could not be converted: {said[-1]}")
    try:
        return {name: np.asarray(value, np.float32) for name, value in json.loads(done.stdout).items()}
    except (ValueError, TypeError, AttributeError):
        raise UserError(f"{file}: {torch_python!r} did not convert it to arrays of numbers; {allowed}.") from None


def _keep(target: Path, network: Network) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        np.savez(target, allow_pickle=False, **{key: np.asarray(value) for key, value in network.items()})
    except OSError as error:
        raise UserError(f"out: {str(target)!r} cannot be written ({error.strerror}).") from None


def _checked(file: Path, arrays: Mapping[str, np.ndarray], agents: int) -> Network:
    """``arrays`` as float32 on the device, if they have the shapes of `SHAPES`, stacked over the agents."""
    for name, shape in SHAPES.items():
        found = arrays[name].shape if name in arrays else None
        check(found == (agents, *shape), f"{file}: {name}", found, f"its shape must be {(agents, *shape)}")
        numbers = np.issubdtype(arrays[name].dtype, np.number) and bool(np.isfinite(arrays[name]).all())
        check(numbers, f"{file}: {name}", str(arrays[name].dtype), "its values must be finite numbers")
    return {name: jnp.asarray(arrays[name], jnp.float32) for name in SHAPES}
