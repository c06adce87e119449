"""Named settings. A preset fills in what a user did not say; `docs/differences.md` lists what separates the two."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from drigm.core.config import FIELDS, checked
from drigm.core.errors import check, choose, shown

# The radii of the paper's table, for (factorization, uncertainty).
PAPER_RHO = {
    ("vdn", "contamination"): 0.008,
    ("qmix", "contamination"): 0.012,
    ("qtran", "contamination"): 0.02,
    ("vdn", "tv"): 0.5,
    ("qmix", "tv"): 0.2,
    ("qtran", "tv"): 0.2,
}
# What of the settings of the paper and its released code is known to us; the batch and the dual network's stay ours.
# What depends on the method or on other settings is in `_paper_schedule`.
PAPER: dict[str, Any] = {
    "fail_value": 0.0,
    "gamma": 0.997,
    "steps": 172_800,  # 600 days of 288 steps
    "hidden": 64,
    "head": "linear",
    "window": 8,  # their history; the first half warms the LSTM
    "burn_in": 4,
    "joint_exploration": True,
    "local_exploration": 0.0,
    "average_decay": 0.0,
    "replay_size": 10_000,
    "num_envs": 1,  # they step one environment
    "epsilon_end": 0.01,
}
EPSILON_STEPS = 120_000  # over which epsilon falls
TARGET_STEPS = 25_000  # between copies to the target networks
STEPS_PER_UPDATE = 2
TV_UPDATES = 4  # in a row, with TV
# What a preset is about. The paper's settings are those of its buildings; of its battles it gives none.
PRESET_KINDS = {"paper": "building", "adapting": "building"}
# The released code fits GroupDR's reward estimators on the test cities too.
LEAKY_PRESETS = ("paper",)
# Teams that hold in a building that their simulator gets wrong (docs/worlds.md). The plant may answer faster or slower,
# with heat that comes late and heat that nobody knows of. A short horizon suffices: an action is paid within minutes.
# Which world it is shows over longer than a window, so replay keeps what agents remember.
ADAPTING: dict[str, Any] = {
    "gamma": 0.5,
    "head": "velocity",
    "inputs": "changes",
    "stored_state": True,
    "worlds": "lag=0:0.5,power=0.7:2,gains=-0.1:0.1@3h",
    "alpha": 0.3,
}
PRESETS: dict[str, dict[str, Any]] = {"default": {}, "paper": PAPER, "adapting": ADAPTING}


# Battles: long episodes with a reward at the end, which traces carry back; sudden deaths, actions without an order.
BATTLES = MappingProxyType(
    {
        "steps": 2_000_000,
        "gamma": 0.99,
        "share_parameters": True,
        "num_envs": 64,
        "epsilon_fraction": 0.1,
        "window": 12,
        "burn_in": 2,
        "td_lambda": 0.6,
        "batch": 32,
        "replay_size": 200_000,
        "learning_starts": 10_000,
        "update_every": 1,
        "learning_rate": 3e-3,
        "double_q": True,
        "target_period": 100,
    }
)
# Whatever comes: moderate settings that learn small tasks within a hundred thousand steps.
PARALLEL = MappingProxyType(
    {
        "steps": 100_000,
        "gamma": 0.99,
        "num_envs": 16,
        "epsilon_fraction": 0.3,
        "window": 12,
        "burn_in": 2,
        "batch": 32,
        "learning_starts": 2_000,
        "learning_rate": 1e-3,
        "double_q": True,
        "target_period": 100,
    }
)
# Supply chains: what an order brings is seen after the lead times of all stages, among costs that chance moves far
# more. So teams go on trying what lies near their levels, learn from all that they have seen, and move levels slowly.
SUPPLY = MappingProxyType(
    {
        "steps": 250_000,
        "gamma": 0.98,
        "epsilon_end": 0.3,
        "local_exploration": 0.9,
        "replay_size": 200_000,
        "centre_rate": 0.06,
    }
)
# Grid worlds of Jumanji: every agent may have to do every part of the work, and food is near (docs/jumanji.md).
FORAGING = MappingProxyType({**PARALLEL, "steps": 300_000, "gamma": 0.95, "share_parameters": True})
# What a training uses by the kind of its environment, where neither the user nor the preset says otherwise.
KIND_SETTINGS: dict[str, Mapping[str, Any]] = {
    "energyplus": {"num_envs": 8},  # otherwise as in a building; every environment is a process of its own
    "jumanji": FORAGING,
    "mpe": PARALLEL,
    "object": PARALLEL,
    "pettingzoo": PARALLEL,
    "python": PARALLEL,
    "smac": {**BATTLES, "num_envs": 8, "update_every": 8},  # every environment is a game of its own
    "smax": BATTLES,
    "supply": SUPPLY,
}


def kind_of(settings: Mapping[str, Any]) -> str:
    """Return the kind of the environment that ``settings`` name."""
    return str(settings.get("env", "building:")).partition(":")[0]


def with_preset(settings: dict[str, Any]) -> dict[str, Any]:
    """Return ``settings`` with what their ``preset`` and the kind of their environment add; what is given stays.

    The preset ``paper`` adds the radius of the paper's table for the factorization and uncertainty set, and their
    optimiser and schedule.

    Raises:
        UserError: there is no such preset, or it says nothing of such an environment.
    """
    name = settings.get("preset", "default")
    choose("preset", name, tuple(PRESETS))
    of_kind = KIND_SETTINGS.get(kind_of(settings), {})
    kind, env = PRESET_KINDS.get(name, ""), str(settings.get("env", "building:"))
    message = f"its settings are those of a {kind}: give --env {kind}:..., or leave the preset out with {shown(env)}"
    check(not kind or env.startswith(f"{kind}:"), "preset", name, message)
    filled = {**of_kind, **PRESETS[name], **settings}
    key = str(settings.get("factorization", "qmix")).removesuffix("-alt"), settings.get("uncertainty", "nominal")
    if name == "paper" and "rho" not in settings and key in PAPER_RHO:
        filled["rho"] = PAPER_RHO[key]
    filled = {**_paper_schedule(filled, key), **filled} if name == "paper" else filled
    return filled if "learning_starts" in settings else _learning_in_time(filled)


def _learning_in_time(settings: dict[str, Any]) -> dict[str, Any]:
    """Return ``settings`` in which learning starts after a tenth of the steps, where it would start later."""
    usual = settings.get("learning_starts", FIELDS["learning_starts"].default)
    tenth = checked("steps", settings.get("steps", FIELDS["steps"].default)) // 10
    return settings if tenth >= usual else settings | {"learning_starts": tenth}


def _paper_schedule(settings: dict[str, Any], method: tuple[str, str]) -> dict[str, Any]:
    """Return the released code's optimiser and schedule for (factorization, uncertainty), in drigm's settings.

    Theirs counts environment steps. With another ``num_envs`` the updates per environment step stay the same.
    """
    factorization, uncertainty = method
    optimizer, rate = ("rmsprop", 5e-4) if factorization == "vdn" else ("adam", 1e-3)
    envs, steps = checked("num_envs", settings["num_envs"]), checked("steps", settings["steps"])
    row = TV_UPDATES if uncertainty == "tv" else 1
    ticks = max(1, row * STEPS_PER_UPDATE // envs)
    ticks *= 1 + ticks * envs % STEPS_PER_UPDATE  # whole updates: of an odd number of steps twice as many
    return {
        "optimizer": optimizer,
        "learning_rate": rate,
        "learning_rate_end": settings.get("learning_rate", rate),
        "epsilon_fraction": min(1.0, EPSILON_STEPS / steps),
        "update_every": ticks,
        "updates": ticks * envs // STEPS_PER_UPDATE,
        "target_period": TARGET_STEPS // STEPS_PER_UPDATE,
        **({"shards": 1} if envs == 1 else {}),
    }
