"""Controllers that do not learn, in the worlds where teams are scored: every table needs them.

Every kind of environment names its own (`drigm.evaluation.families`):

====================  ============================================================================================
``do_nothing``        the idle action, always; anywhere
``p``                 proportional, kp 0.2, hand-picked for buildings (level per K)
``pi``                with an integral, ki 0.05 (level per K and step), hand-picked too
``pi_tuned``          PI with gains by rule, from a step response in the training environment alone
                      (`drigm.evaluation.tuning`)
``one_step_optimum``  knows the model and all that acts on it (`drigm.envs.building.one_step`); an upper end
``base_stock``        orders up to the base-stock levels of the supply chain's instance
``moving_average``    orders up to a lead time's demand as the last weeks' orders have it, and the safety stocks
``s_S``               reorders at these levels, and orders up to the economic order quantity above them
``best_base_stock``   has the base-stock levels that are best in the very world; an upper end
====================  ============================================================================================

All but the upper ends see what agents see, each its own, and are scored by the same programs as trained teams.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from drigm.agents.policies import Policy
from drigm.core.errors import choose
from drigm.core.strengths import Perturb, grid_of
from drigm.envs import make_env
from drigm.envs.api import Environment, Shift
from drigm.envs.shifts import default_suite, worlds
from drigm.evaluation.families.api import Family
from drigm.evaluation.families.buildings import BUILDINGS
from drigm.evaluation.families.idle import IDLE
from drigm.evaluation.families.regulators import REGULATORS
from drigm.evaluation.families.supply_chains import SUPPLY_CHAINS
from drigm.evaluation.scores import Evaluation, shift_score
from drigm.runtime.devices import use_cores
from drigm.runtime.files import write_text

# Adding a family is one line.
FAMILIES: tuple[Family, ...] = (IDLE, REGULATORS, BUILDINGS, SUPPLY_CHAINS)
TITLES = {name: title for family in FAMILIES for name, title in family.titles.items()}


def controllers_of(env: Environment, trained_in: Environment | None = None) -> list[str]:
    """Return the names of the controllers that ``env`` has; only `do_nothing` where no other is made for its kind.

    ``trained_in`` is where those that are tuned are tuned, by default ``env``.
    """
    return [name for family in FAMILIES for name in family.names(env, trained_in or env)]


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
    for family in FAMILIES:
        own = [name for name in names if name in family.titles]
        if own:
            found |= family.scores(env, tried, own, trained_in or env)
    return {name: found[name] for name in names}


def controller(name: str, env: Environment, trained_in: Environment | None = None) -> Policy:
    """Return one of the controllers that act by what agents see, as a policy; arguments and errors as above.

    The levels of ``best_base_stock`` are those of the world that ``env`` stands in.
    """
    makers = {seeing: family.policy for family in FAMILIES if family.policy for seeing in family.seeing}
    return makers[choose("controller", name, tuple(makers))](name, env, trained_in or env)


def evaluate_controller(
    name: str,
    env: str | Environment,
    shifts: str | None = None,
    perturb: Perturb | None = None,
    *,
    trained_in: str | Environment | None = None,
) -> Evaluation:
    """Return the scores of a controller that does not learn, as `drigm.evaluate` returns those of a team.

    Args:
        name: one of the table above.
        env: an environment, or its id.
        shifts: a suite; by default ``climate`` or ``demand`` or, where there is none, ``noise`` (``nominal`` with
            ``perturb``).
        perturb: strengths of perturbations, as in `drigm.evaluate`.
        trained_in: where ``pi_tuned`` is tuned; by default ``env`` in its own world.

    Raises:
        UserError: an unknown name, environment, suite or perturbation, or the environment has no such controller.
    """
    use_cores()
    home = make_env(env) if isinstance(env, str) else env
    tuned_in = make_env(trained_in) if isinstance(trained_in, str) else trained_in or home
    grid = grid_of(perturb)
    suite = shifts or default_suite(home, grid)
    played, tried = worlds(home, suite, grid)
    scores = controller_scores(played, tried, [choose("controller", name, tuple(TITLES))], tuned_in)[name]
    return Evaluation(suite, [shift_score(world.name, scores[i : i + 1]) for i, world in enumerate(tried)])


def score_controllers(
    env: Environment, shifts: str | None = None, perturb: Perturb | None = None
) -> dict[str, dict[str, float]]:
    """Return the score of every controller that ``env`` has in every world of a suite, by name of the world.

    Arguments and errors as `evaluate_controller`; PI is tuned in ``env`` as it is.
    """
    grid = grid_of(perturb)
    played, tried = worlds(env, shifts or default_suite(env, grid), grid)
    found = controller_scores(played, tried, controllers_of(played, env), env)
    names = [world.name for world in tried]
    return {name: dict(zip(names, map(float, scores), strict=True)) for name, scores in found.items()}


def write_controllers(file: Path, found: Mapping[str, Mapping[str, float]]) -> None:
    """Write what `score_controllers` found as CSV: a row for each world, a column for each controller."""
    lines = [["world", *found]]
    for world in next(iter(found.values())):
        lines.append([world, *(f"{scores[world]:.5f}" for scores in found.values())])
    write_text(file, "\n".join(",".join(line) for line in lines))
