"""Controllers that do not learn, in the worlds where teams are scored: every table needs them.

====================  ============================================================================================
``do_nothing``        the idle action, always
``p``                 proportional, kp 0.2, hand-picked for buildings (level per K)
``pi``                with an integral, ki 0.05 (level per K and step), hand-picked too
``pi_tuned``          PI with gains by rule, from a step response in the training environment alone
                      (`drigm.evaluation.tuning`)
``one_step_optimum``  knows the model and all that acts on it (`drigm.envs.building.one_step`); an upper end
====================  ============================================================================================

The first four see what agents see, each its own, and are scored by the same programs as trained teams.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from drigm.agents.pi import HAND_PICKED, PI, loop_of
from drigm.agents.policies import Constant, Policy
from drigm.core.errors import check, choose
from drigm.core.types import Array, PyTree, jit
from drigm.envs import make_env
from drigm.envs.api import Environment, Shift
from drigm.envs.building.one_step import controlled_day, one_step_optimal
from drigm.envs.building.simulator import BuildingParams
from drigm.envs.shifts import Grid, default_suite, worlds
from drigm.evaluation.players import constant, pi_controllers
from drigm.evaluation.scores import Evaluation, episode_scores, shift_score
from drigm.evaluation.tuning import tune
from drigm.runtime.devices import use_cores
from drigm.runtime.files import write_text

TITLES = {
    "do_nothing": "Doing nothing",
    "p": "P",
    "pi": "PI",
    "pi_tuned": "PI, tuned by SIMC",
    "one_step_optimum": "One-step optimum",
}


def controllers_of(env: Environment) -> list[str]:
    """Return the names of the controllers that ``env`` has; only `do_nothing` where it says nothing that one holds."""
    if env.spec.regulated is None:
        return ["do_nothing"]
    return [name for name in TITLES if name != "one_step_optimum" or isinstance(env.params, BuildingParams)]


def controller_scores(
    env: Environment, tried: list[Shift], names: Sequence[str], trained_in: Environment | None = None
) -> dict[str, np.ndarray]:
    """Return the mean score [W] over the protocol's episodes of each controller in the worlds ``tried``.

    Args:
        env: the environment.
        tried: its worlds.
        names: of `controllers_of`.
        trained_in: where ``pi_tuned`` is tuned, with agents of the same names; ``env`` as it is by default.

    Raises:
        UserError: the environment does not have such a controller.
    """
    for name in names:
        choose("controller", name, controllers_of(env))
    found: dict[str, np.ndarray] = {}
    if "do_nothing" in names:
        idle = jnp.full((1, env.spec.num_agents), env.spec.idle_action, jnp.int32)
        found["do_nothing"] = episode_scores(env, constant(idle), tried).mean(axis=-1)[:, 0]
    loops = [name for name in ("p", "pi", "pi_tuned") if name in names]
    if loops:
        gains = [_gains(name, env, trained_in or env) for name in loops]
        kp, ki = (jnp.asarray(np.stack(side), jnp.float32) for side in zip(*gains, strict=True))
        scores = episode_scores(env, pi_controllers(env.spec, kp, ki), tried).mean(axis=-1)
        found |= {name: scores[:, i] for i, name in enumerate(loops)}
    if "one_step_optimum" in names:
        found["one_step_optimum"] = _one_step_scores(env, tried)
    return {name: found[name] for name in names}


def controller(name: str, env: Environment, trained_in: Environment | None = None) -> Policy:
    """Return one of the controllers that see what agents see, as a policy; arguments and errors as above."""
    if name == "do_nothing":
        return Constant(np.full(env.spec.num_agents, env.spec.idle_action, np.int32))
    choose("controller", name, tuple(TITLES)[:4])
    kp, ki = (side.astype(np.float32) for side in _gains(name, env, trained_in or env))
    return PI(loop_of(env.spec), kp, ki)


def evaluate_controller(
    name: str,
    env: str | Environment,
    shifts: str | None = None,
    perturb: Grid | None = None,
    *,
    trained_in: str | Environment | None = None,
) -> Evaluation:
    """Return the scores of a controller that does not learn, as `drigm.evaluate` returns those of a team.

    Args:
        name: ``do_nothing``, ``p``, ``pi``, ``pi_tuned`` or ``one_step_optimum``.
        env: an environment, or its id.
        shifts: a suite; by default ``climate`` or, where there is none, ``noise`` (``nominal`` with ``perturb``).
        perturb: strengths of perturbations, as in `drigm.evaluate`.
        trained_in: where ``pi_tuned`` is tuned; by default ``env`` in its own world.

    Raises:
        UserError: an unknown name, environment, suite or perturbation, or the environment has no such controller.
    """
    use_cores()
    home = make_env(env) if isinstance(env, str) else env
    tuned_in = make_env(trained_in) if isinstance(trained_in, str) else trained_in or home
    suite = shifts or default_suite(home, perturb)
    played, tried = worlds(home, suite, perturb)
    scores = controller_scores(played, tried, [choose("controller", name, tuple(TITLES))], tuned_in)[name]
    return Evaluation(suite, [shift_score(world.name, scores[i : i + 1]) for i, world in enumerate(tried)])


def score_controllers(
    env: Environment, shifts: str | None = None, perturb: Grid | None = None
) -> dict[str, dict[str, float]]:
    """Return the score of every controller that ``env`` has in every world of a suite, by name of the world.

    Arguments and errors as `evaluate_controller`; PI is tuned in ``env`` as it is.
    """
    played, tried = worlds(env, shifts or default_suite(env, perturb), perturb)
    found = controller_scores(played, tried, controllers_of(played), env)
    names = [world.name for world in tried]
    return {name: dict(zip(names, map(float, scores), strict=True)) for name, scores in found.items()}


def write_controllers(file: Path, found: Mapping[str, Mapping[str, float]]) -> None:
    """Write what `score_controllers` found as CSV: a row for each world, a column for each controller."""
    lines = [["world", *found]]
    for world in next(iter(found.values())):
        lines.append([world, *(f"{scores[world]:.5f}" for scores in found.values())])
    write_text(file, "\n".join(",".join(line) for line in lines))


def _gains(name: str, env: Environment, trained_in: Environment) -> tuple[np.ndarray, np.ndarray]:
    """The gains kp and ki, each [N]."""
    agents = env.spec.agents
    if name != "pi_tuned":
        kp, ki = HAND_PICKED
        return np.full(len(agents), kp), np.full(len(agents), ki if name == "pi" else 0.0)
    tuned = {one.agent: one for one in tune(trained_in)}
    missing = [agent for agent in agents if agent not in tuned]
    check(not missing, "trained_in", trained_in.spec.name, f"it has no agent {', '.join(missing)} to tune")
    return np.array([tuned[agent].kp for agent in agents]), np.array([tuned[agent].ki for agent in agents])


def _one_step_scores(env: Environment, tried: list[Shift]) -> np.ndarray:
    """The mean scores [W] of the one-step optimum."""
    episodes, controller = jnp.arange(env.num_eval_episodes, dtype=jnp.int32), one_step_optimal(env)

    def one(params: PyTree, index: Array) -> Array:
        return jnp.sum(controlled_day(env, controller, params, index)[0].reward)

    def days(params: PyTree) -> Array:
        return jax.vmap(one, in_axes=(None, 0))(params, episodes)

    play = jit(days)
    return np.array([np.asarray(env.score(play(world.params)), np.float64).mean() for world in tried])
