"""What the results tables hold: methods, worlds, seeds and the comparisons that are asked of them."""

from __future__ import annotations

from typing import Any, NamedTuple

from drigm.experiments.reproduce.studies import BATTLE_SCHEDULE

GAMMA = 0.997
Settings = dict[str, Any]


class Spec(NamedTuple):
    """One table: what is trained, where it is scored, and which methods are compared."""

    methods: dict[str, tuple[Settings, int]]  # name: (what differs from the table's settings, seeds)
    settings: Settings
    suite: str
    comparisons: tuple[tuple[str, str], ...] = ()
    pictured: tuple[str, ...] = ()
    block: int = 5  # seeds that are trained together
    timed: bool = False  # print how long each method trained


def _tv(factorization: str, rho: float) -> Settings:
    return {"factorization": factorization, "uncertainty": "tv", "rho": rho}


def _contamination(factorization: str, rho: float) -> Settings:
    return {"factorization": factorization, "uncertainty": "contamination", "rho": rho}


# "gamma (1 - rho)" rows are the plain discounts that a robust target must be compared with: baseline short_horizon,
# written as what it is. The radii are the paper's.
BUILDING = Spec(
    methods={
        "VDN": ({"factorization": "vdn"}, 10),
        "QMIX": ({"factorization": "qmix"}, 10),
        "QTRAN": ({"factorization": "qtran"}, 5),
        "VDN-TV 0.5": (_tv("vdn", 0.5), 10),
        "QMIX-TV 0.2": (_tv("qmix", 0.2), 10),
        "QTRAN-TV 0.2": (_tv("qtran", 0.2), 5),
        "VDN-contamination 0.008": (_contamination("vdn", 0.008), 5),
        "QMIX-contamination 0.012": (_contamination("qmix", 0.012), 5),
        "QTRAN-contamination 0.02": (_contamination("qtran", 0.02), 5),
        "VDN, gamma (1 - 0.5)": ({"factorization": "vdn", "gamma": GAMMA * 0.5}, 10),
        "VDN, gamma 0": ({"factorization": "vdn", "gamma": 0.0}, 10),
        "QMIX, gamma (1 - 0.2)": ({"factorization": "qmix", "gamma": GAMMA * 0.8}, 5),
        "VDN, GroupDR": ({"factorization": "vdn", "baseline": "groupdr"}, 5),
        "VDN, domain randomization": ({"factorization": "vdn", "baseline": "domain_randomization"}, 5),
    },
    settings={},
    suite="climate",
    comparisons=(
        ("VDN-TV 0.5", "VDN"),
        ("VDN-TV 0.5", "VDN, gamma (1 - 0.5)"),
        ("VDN, gamma (1 - 0.5)", "VDN"),
        ("QMIX-TV 0.2", "QMIX"),
        ("QMIX-TV 0.2", "QMIX, gamma (1 - 0.2)"),
        ("QMIX, gamma (1 - 0.2)", "QMIX"),
        ("QTRAN-TV 0.2", "QTRAN"),
        ("VDN-contamination 0.008", "VDN"),
        ("QMIX-contamination 0.012", "QMIX"),
    ),
    pictured=(
        "VDN-TV 0.5",
        "VDN, gamma (1 - 0.5)",
        "QMIX-TV 0.2",
        "QTRAN-TV 0.2",
        "VDN, domain randomization",
        "authors' qmix tv",
    ),
)

# What each choice of ours is worth: QMIX-TV 0.2 with one thing taken back.
BASE = _tv("qmix", 0.2)
ABLATIONS = Spec(
    methods={
        "as it is": (BASE, 2),
        "linear head (one output per level)": ({**BASE, "head": "linear"}, 2),
        "one kink": ({**BASE, "bowls": 1}, 2),
        "uniform exploration": ({**BASE, "local_exploration": 0.0}, 2),
        "windows of 12, burn-in 4, every 3rd tick": ({**BASE, "window": 12, "burn_in": 4, "update_every": 3}, 2),
        "replay of the whole run": ({**BASE, "replay_size": 172_800}, 2),
        "step size 1e-3": ({**BASE, "learning_rate": 1e-3}, 2),
        "last weights, not their average": ({**BASE, "average_decay": 0.0}, 2),
        "double Q": ({**BASE, "double_q": True}, 2),
    },
    settings={},
    suite="climate",
)

# Where chance decides: a gamble whose odds get worse than those it was learnt with, to as bad as the radius allows.
RHO = 0.6
GAMBLE = Spec(
    methods={
        "non-robust": ({}, 10),
        "TV": ({"uncertainty": "tv", "rho": RHO}, 10),
        "contamination": ({"uncertainty": "contamination", "rho": RHO}, 10),
        "chi-square": ({"uncertainty": "chi2", "rho": RHO}, 10),
        "KL": ({"uncertainty": "kl", "rho": RHO}, 10),
        "gamma (1 - rho)": ({"baseline": "short_horizon", "rho": RHO}, 10),
        "individually robust TV": ({"uncertainty": "tv", "rho": RHO, "baseline": "individual_robust"}, 10),
    },
    settings={
        "env": "probe:gamble",
        "factorization": "vdn",
        "fail_value": -1.0,
        "steps": 32_000,
        "gamma": 0.8,
        "hidden": 16,
        "num_envs": 16,
        "epsilon_end": 1.0,
        "replay_size": 32_000,
        "window": 3,
        "burn_in": 0,
        "learning_starts": 320,
        "learning_rate": 5e-3,
        "learning_rate_end": 1e-5,
        "dual_learning_rate": 5e-3,
        "average_decay": 0.998,
        "target_period": 20,
        "shards": 1,
    },
    suite="risk",
    comparisons=(
        ("TV", "non-robust"),
        ("TV", "gamma (1 - rho)"),
        ("TV", "contamination"),
        ("TV", "individually robust TV"),
        ("chi-square", "non-robust"),
        ("KL", "non-robust"),
    ),
    pictured=("non-robust", "gamma (1 - rho)", "contamination", "TV", "chi-square", "KL"),
)

# The paper's StarCraft study in SMAX: battles won against the noise on observations, by set and radius. Rewards are
# positive, so the fail value is 0 and contamination is the discount gamma (1 - rho) itself, here too.
RADII = (0.01, 0.03, 0.1)
STARCRAFT = Spec(
    methods={
        "non-robust": ({}, 5),
        **{f"TV {rho}": ({"uncertainty": "tv", "rho": rho}, 5) for rho in RADII},
        **{f"contamination {rho}": ({"uncertainty": "contamination", "rho": rho}, 5) for rho in RADII},
        "gamma (1 - 0.03)": ({"baseline": "short_horizon", "rho": 0.03}, 5),
    },
    settings={"env": "smax:3s_vs_5z", "factorization": "vdn", "steps": 1_200_000, **BATTLE_SCHEDULE},
    suite="noise",
    comparisons=(
        *((f"{name} {rho}", "non-robust") for name in ("TV", "contamination") for rho in RADII),
        *((f"{name} 0.03", "gamma (1 - 0.03)") for name in ("TV", "contamination")),  # of equal radius alone
    ),
    pictured=("non-robust", "gamma (1 - 0.03)", *(f"TV {rho}" for rho in RADII)),
    block=3,
)

# The same task, once through PettingZoo in worker processes (mpe2) and once in JAX (JaxMARL).
SPREAD = Spec(
    methods={
        "PettingZoo, mpe2": ({"env": "pettingzoo:mpe2.simple_spread_v3:parallel_env?max_cycles=25"}, 3),
        "JAX twin, JaxMARL": ({"env": "mpe:simple_spread_v3"}, 3),
    },
    settings={"env": "mpe:simple_spread_v3", "factorization": "vdn"},
    suite="nominal",
    comparisons=(("PettingZoo, mpe2", "JAX twin, JaxMARL"),),
    block=3,
)

# Battles won in SMAX by each factorization, with the wall time that training took.
BATTLES = Spec(
    methods={name.upper(): ({"factorization": name}, 1) for name in ("vdn", "qmix", "qtran")},
    settings={"env": "smax:3s_vs_5z", **BATTLE_SCHEDULE},
    suite="nominal",
    block=1,
    timed=True,
)

TABLES = {
    "building": BUILDING,
    "ablations": ABLATIONS,
    "gamble": GAMBLE,
    "starcraft": STARCRAFT,
    "battles": BATTLES,
    "spread": SPREAD,
}
