"""What a config means: presets and defaults filled in, names and combinations checked, its environment made."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from drigm.algorithms.baselines import BASELINES
from drigm.algorithms.factorizations import (
    FACTORIZATIONS,
    Factorization,
    checked_factorization,
    factorization_called,
)
from drigm.algorithms.method import ORDERED_HEADS
from drigm.algorithms.uncertainty import (
    SETS,
    UncertaintySet,
    check_radius,
    checked_uncertainty,
    uncertainty_called,
)
from drigm.core.config import TrainConfig, validate
from drigm.core.errors import check, choose
from drigm.core.plugins import load_plugins
from drigm.core.presets import PRESETS, with_preset
from drigm.core.strengths import parse_grid, parse_strengths
from drigm.envs import KINDS, SUBPROCESS_KINDS, make_env
from drigm.envs.api import Environment
from drigm.envs.imported import give
from drigm.envs.persistent import check_ranges, parse_ranges, with_context
from drigm.envs.perturbations import check_strength
from drigm.envs.shifts import SOURCES
from drigm.envs.subprocess.source import located
from drigm.runtime.devices import memory_bytes
from drigm.training.estimate import replay_bytes


def named_object(record: Any) -> tuple[str, str]:
    """Take in a record that Python code passes, and return the setting that it is for and its name there.

    A record of a registry has its name there; see `drigm.envs.imported` for the others.

    Raises:
        UserError: it is no environment, uncertainty set or factorization, or does not work on arrays.
    """
    if isinstance(record, Environment):
        return "env", give("env", record, record.spec.name)
    message = "give a drigm.envs.api.Environment, an UncertaintySet or a Factorization"
    check(isinstance(record, UncertaintySet | Factorization), "object", record, message)
    if isinstance(record, UncertaintySet):
        field, registry = "uncertainty", SETS
        checked_uncertainty(record)
    else:
        field, registry = "factorization", FACTORIZATIONS
        checked_factorization(record)
    own = registry.get(record.name) is record
    return field, record.name if own else give(field, record, record.name)


def settle(settings: dict[str, Any]) -> TrainConfig:
    """Return the config of what a user said, with its preset filled in, and beyond that what its environment likes.

    Raises:
        UserError: a name is unknown, or an uncertainty set comes without its radius.
    """
    if str(settings.get("env", "")).partition(":")[0] not in KINDS:
        load_plugins()  # a kind from outside brings settings of its own
    filled = with_preset(settings)
    config = TrainConfig().replace(**filled)
    if "rho" not in filled and isinstance(config.uncertainty, str):
        check_radius(uncertainty_called(config.uncertainty), None)
    return config


def resolve(config: TrainConfig) -> tuple[TrainConfig, Environment]:
    """Check the config as a whole, names and combinations included, and make its environment.

    In the config that is returned, files that it names and its interpreter have their absolute paths.
    """
    config = validate(config)
    python = config.env_python
    if os.path.dirname(python):  # a link of a venv stays one: what it points to has none of the venv's packages
        config = config.replace(env_python=os.path.abspath(python))
    named = {name: located(getattr(config, name)) for name in ("factorization", "uncertainty")}
    config = config.replace(env=located(config.env, config.env_python), **named)
    first = config.first_update * config.num_envs
    message = f"above {first:,}, where the first update is (learning_starts, num_envs, window): nothing would be learnt"
    check(config.updates_in_all > 0, "steps", config.steps, message)
    return config, make_run_env(config, config.env)


def make_run_env(config: TrainConfig, env_id: str) -> Environment:
    """Check names and combinations of a valid config, and make its environment, called ``env_id`` here."""
    factorization_called(config.factorization)
    uncertainty_called(config.uncertainty)
    choose("preset", config.preset, tuple(PRESETS))
    choose("baseline", config.baseline, tuple(BASELINES))
    check_method(config)
    env = make_env(env_id, **_subprocess_options(config))
    message = "0: a process cannot be stepped again from the same state"
    check(env.subprocess is None or not config.samples, "samples", config.samples, message)
    bounded = math.isfinite(env.spec.reward_range[0]) or config.fail_value != "auto"
    needs = (BASELINES[config.baseline].uncertainty or uncertainty_called(config.uncertainty)).can_fail
    message = f"{config.env} does not declare a reward_range: give a number below every value (sum of rewards)"
    check(bounded or not needs, "fail_value", config.fail_value, message)
    known = SOURCES in env.shifts or not BASELINES[config.baseline].needs_sources
    _check_discount(config, env)
    check(known, "baseline", config.baseline, f"it needs source worlds, and {config.env} has no suite {SOURCES}")
    check(env.spec.num_actions > 0, "env", config.env, "training needs discrete actions")
    ordered = env.spec.action_values is not None
    check(
        config.head not in ORDERED_HEADS or ordered,
        "head",
        config.head,
        f"linear or auto: the actions of {config.env} have no order",
    )
    for name, strength in parse_strengths(config.perturb).items():
        check_strength(env, name, strength)
    return _with_worlds(config, env)


def _with_worlds(config: TrainConfig, env: Environment) -> Environment:
    """Return ``env`` with room in its global state for the place of a persistent world, if the config has any."""
    ranges = parse_ranges(config.worlds)
    if not ranges:
        check(config.alpha == 1.0, "alpha", config.alpha, "1 without worlds to choose from")
        return env
    check_ranges(env, ranges)
    message = "1: worlds of other processes have equal chances"
    check(env.subprocess is None or config.alpha == 1.0, "alpha", config.alpha, message)
    plain = not BASELINES[config.baseline].needs_sources
    check(plain, "worlds", config.worlds, f"leave it out with baseline {config.baseline}, which has worlds of its own")
    twice = sorted({found.name for found in ranges} & parse_grid(config.perturb).keys())
    check(not twice, "worlds", config.worlds, f"leave out {', '.join(twice)}, which perturb sets")
    return with_context(env, len(ranges))


def _check_discount(config: TrainConfig, env: Environment) -> None:
    """Raise `UserError` where values have no limit: nothing is discounted, and episodes that are cut go on for ever."""
    uncertainty = BASELINES[config.baseline].uncertainty or uncertainty_called(config.uncertainty)
    discounts = config.gamma < 1.0 or (uncertainty.discounts and config.rho > 0.0)
    message = f"below 1: episodes of {config.env} never terminate, and truncation bootstraps"
    check(discounts or env.spec.terminates, "gamma", config.gamma, message)


def _subprocess_options(config: TrainConfig) -> dict[str, Any]:
    """What an environment in other processes is told about them."""
    kind = config.env.partition(":")[0]
    options = {"python": config.env_python, "workers": config.env_workers, "timeout": config.env_timeout}
    return options if kind in SUBPROCESS_KINDS else {}


def check_method(config: TrainConfig) -> None:
    """Raise `UserError` for a radius without a set, and for baselines that cannot be combined with the rest."""
    baseline = BASELINES[config.baseline]
    uncertainty = baseline.uncertainty or uncertainty_called(config.uncertainty)
    check_radius(uncertainty, config.rho)
    plain = config.uncertainty == "nominal" or baseline.uncertainty is None
    check(plain, "uncertainty", config.uncertainty, f"nominal with baseline {baseline.name}")
    factorization = factorization_called(config.factorization)
    check(
        not baseline.private or factorization.additive,
        "factorization",
        config.factorization,
        f"vdn with baseline {baseline.name}: only a sum has shares that agents can be robust about",
    )
    message = f"0 with baseline {baseline.name}, in which every agent has a nature of its own"
    check(not (baseline.private and config.agent_rho), "agent_rho", config.agent_rho, message)
    known = factorization.consistency is None or not config.agent_rho or config.agent_fault != "random"
    check(known, "agent_fault", config.agent_fault, f"idle or stuck with factorization {config.factorization}")
    message = f"0 with baseline {baseline.name}, whose targets take no samples"
    known = not baseline.private and baseline.reward_models is None and not uncertainty.squared_loss
    check(known or not config.samples, "samples", config.samples, message)
    message = f"0 with uncertainty {uncertainty.name}, which does not say the worst of samples (worst_of)"
    known = not uncertainty.has_scale or uncertainty.worst_of is not None
    check(known or not config.samples, "samples", config.samples, message)
    robust = not baseline.private or uncertainty.max_rho > 0.0
    check(robust, "uncertainty", config.uncertainty, f"a set with a radius with baseline {baseline.name}")


def check_replay(configs: Sequence[TrainConfig], env: Environment) -> None:
    """Raise `UserError` if the replay of all seeds of ``configs`` is larger than this machine's memory."""
    config, needed, there = configs[0], replay_bytes(configs, env.spec), memory_bytes()
    message = (
        f"that takes {needed / 2**30:,.1f} GiB for all seeds, and this machine has {there / 2**30:,.1f} GiB of memory"
    )
    check(not there or needed <= there, "replay_size", config.replay_size, message)
