"""Named settings. A preset fills in what a user did not say; `docs/differences.md` lists what separates the two."""

from __future__ import annotations

from typing import Any

from drigm.errors import check, choose, shown

# The radii of the paper's table, for (factorization, uncertainty).
PAPER_RHO = {
    ("vdn", "contamination"): 0.008,
    ("qmix", "contamination"): 0.012,
    ("qtran", "contamination"): 0.02,
    ("vdn", "tv"): 0.5,
    ("qmix", "tv"): 0.2,
    ("qtran", "tv"): 0.2,
}
# What of the paper's settings is known to us; the optimiser, its schedule and the batch stay ours.
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
    "replay_size": 172_800,
}
# What a preset is about. The paper's settings are those of its buildings; of its battles it gives none.
KINDS = {"paper": "building"}
# The released code fits GroupDR's reward estimators on the test cities too.
LEAKY_PRESETS = ("paper",)
PRESETS: dict[str, dict[str, Any]] = {"default": {}, "paper": PAPER}


def with_preset(settings: dict[str, Any]) -> dict[str, Any]:
    """Return ``settings`` with what their ``preset`` adds; whatever is given explicitly stays.

    The preset ``paper`` adds the radius of the paper's table for the factorization and uncertainty set.

    Raises:
        UserError: there is no such preset, or it says nothing of such an environment.
    """
    name = settings.get("preset", "default")
    choose("preset", name, tuple(PRESETS))
    kind, env = KINDS.get(name, ""), str(settings.get("env", "building:"))
    told = f"its settings are those of a {kind}: give --env {kind}:..., or leave the preset out with {shown(env)}"
    check(not kind or env.startswith(f"{kind}:"), "preset", name, told)
    filled = {**PRESETS[name], **settings}
    key = str(settings.get("factorization", "qmix")).removesuffix("-alt"), settings.get("uncertainty", "nominal")
    if name == "paper" and "rho" not in settings and key in PAPER_RHO:
        filled["rho"] = PAPER_RHO[key]
    return filled
