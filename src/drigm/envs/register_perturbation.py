"""Perturbations from outside (docs/plug-ins.md): how one gets its name, and what is tried before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from drigm.core.errors import check
from drigm.core.plugins import join, tried
from drigm.core.types import Array, EnvSpec, TimeStep, traced
from drigm.envs.perturbations import PERTURBATIONS, Perturbation


def register_perturbation(name: str, perturbation: Perturbation) -> None:
    """Make ``--perturb name=strength`` mean ``perturbation`` in this process and, from a plug-in, everywhere.

    Its random keys depend on its name alone, never on what else is registered. It acts after drigm's own.

    Raises:
        UserError: the name is taken or malformed, it is no `Perturbation`, or its functions fail on a small team.
    """
    message = "give a drigm.envs.perturbations.Perturbation"
    check(isinstance(perturbation, Perturbation), "perturb", perturbation, message)
    high = perturbation.highest
    ok = isinstance(perturbation.about, str) and isinstance(high, int | float) and 0.0 < high < float("inf")
    check(ok, "perturb", name, "about must be a text, and highest the largest strength, above 0")
    before = _small_step()
    after, action = tried("perturb", str(name), "trial on a small team", lambda: traced(_on_a_small_team(perturbation)))
    same = jax.tree.map(_kind, after) == jax.tree.map(_kind, before)
    check(same, "perturb", name, "show must return the time-step with the shapes and types that it had")
    check(_kind(action) == ((2,), jnp.int32), "perturb", name, "act must return the joint action, int32 [N]")
    join("perturb", PERTURBATIONS, name, perturbation)


def _kind(x: Any) -> tuple[tuple[int, ...], Any]:
    return x.shape, x.dtype


def _small_step() -> TimeStep:
    """Return a time-step of two agents with three readings and actions, on NumPy: trying it starts no device."""
    no = np.bool_(False)
    everything = np.ones((2, 3), bool)
    return TimeStep(np.zeros((2, 3), np.float32), np.zeros(4, np.float32), everything, np.float32(0.0), no, no)  # pyright: ignore[reportArgumentType] (NumPy's arrays)


def _on_a_small_team(perturbation: Perturbation) -> Callable[[], tuple[TimeStep, Array]]:
    def run() -> tuple[TimeStep, Array]:
        zeros, ones = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
        state = (np.zeros(4, np.float32), np.ones(4, np.float32))
        spec = EnvSpec("small", ("a", "b"), 3, 4, 3, 5, zeros, ones, *state, 1.0, (0.0, 1.0))
        key, strength, step = jax.random.key(0), jnp.float32(0.0), jax.tree.map(jnp.asarray, _small_step())
        memory = perturbation.start(key, spec, strength)
        memory, _ = perturbation.show(key, spec, strength, memory, step, True)
        memory, action = perturbation.act(key, spec, strength, memory, jnp.zeros(2, jnp.int32), step.avail_actions)
        return perturbation.show(key, spec, strength, memory, step, False)[1], action

    return run
