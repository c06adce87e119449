"""What the paper measured, as data: methods, radii, worlds, and how much of it each scale trains.

A method is a setting of `drigm train`. Methods that differ in radius alone form one `Group`: one compiled program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from drigm.core.config import TrainConfig
from drigm.core.presets import PAPER_RHO
from drigm.training.settings import settle

FACTORIZATIONS = ("vdn", "qmix", "qtran")
# The radii of the released networks' ablation, 0 (the non-robust row) apart.
CONTAMINATION_GRID = (0.004, 0.008, 0.012, 0.016, 0.02)
TV_GRID = (0.1, 0.2, 0.3, 0.4, 0.5)
RADII_OF = ("qmix",)  # whose radii are varied; the paper's grids are largest there
# Small ones: from 0.03 on, teams lose most battles even without noise (results/starcraft has 0.03 and 0.1).
BATTLE_RADII = (0.01, 0.003)
BUILDING_ENV = "building:OfficeSmall/Tucson"
BATTLE_STEPS = 1_200_000
# The committed results are of half the updates that battles take by default now, and of one-step targets.
BATTLE_SCHEDULE = {"update_every": 2, "learning_rate": 1.5e-3, "target_period": 50, "td_lambda": 0.0}
SEASON = "season"  # the paper's 'seasonal' is no shift: the training city and the days of training


class Group(NamedTuple):
    """Runs that differ in radius (and seeds) alone.

    Attributes:
        name: of its folder.
        configs: one per radius.
        suite: the worlds that they are scored in.
        once: seconds until its program runs: tracing, compiling, also of the scoring; on two cores of a small machine.
        cost: seconds of one seed of one radius, training and scoring, there.
        more: suites that they are scored in besides.
    """

    name: str
    configs: tuple[TrainConfig, ...]
    suite: str
    once: float
    cost: float
    more: tuple[str, ...] = ()

    @property
    def runs(self) -> int:
        """How many seeds of all radii it has."""
        return sum(config.seeds for config in self.configs)

    def seconds(self, runs: int) -> float:
        """Return about how long ``runs`` of its runs take."""
        return self.once + self.cost * runs if runs else 0.0


class Scale(NamedTuple):
    """How much is trained.

    Attributes:
        seeds: of every method in buildings.
        building_steps: environment steps of each.
        factorizations: in the table.
        radii: how many of each grid.
        battle_seeds: of every method in battles.
        battle_steps: environment steps of each.
        battle_env: the environment of the battles.
        battle_radii: how many of their radii.
        problems: random problems on which the theorem is checked.
        learned: factorizations that are trained on a problem solved exactly.
        verification: seconds that checking the theorem takes.
    """

    seeds: int
    building_steps: int
    factorizations: tuple[str, ...]
    radii: int
    battle_seeds: int
    battle_steps: int
    battle_env: str
    battle_radii: int
    problems: int
    learned: tuple[str, ...]
    verification: float


SCALES = {
    "smoke": Scale(2, 3_840, ("vdn",), 1, 1, 11_000, "smax:3m", 1, 20, (), 3.0),
    "paper": Scale(5, 172_800, FACTORIZATIONS, 5, 5, BATTLE_STEPS, "smax:3s_vs_5z", 2, 200, FACTORIZATIONS, 90.0),
}
# Seconds of one seed at full budget on two cores, measured by this very command (results/paper/timing.csv).
SECONDS = {"vdn": 55.0, "qmix": 57.0, "qtran": 50.0, "groupdr": 28.0, "battles": 125.0}
# Seconds of a program before it runs: tracing and compiling, of the scoring too.
ONCE = {"building": 25.0, "battles": 70.0}


def groups(parts: Sequence[str], scale: Scale, seeds: int | None = None) -> list[Group]:
    """Return what has to be trained for ``parts``, nothing twice.

    Args:
        parts: of `PARTS`.
        scale: one of `SCALES`.
        seeds: instead of the scale's.
    """
    found: list[Group] = []
    if {"table", "radii"} & set(parts):
        for factorization in scale.factorizations:
            found += _building_groups(factorization, parts, scale, seeds or scale.seeds)
    if "battles" in parts:
        found += _battle_groups(scale, seeds or scale.battle_seeds)
    return found


def _building_groups(factorization: str, parts: Sequence[str], scale: Scale, seeds: int) -> list[Group]:
    """The rows of the table with this factorization, and the radii around them."""
    varied = "radii" in parts and (factorization in RADII_OF or len(scale.factorizations) == 1)
    if "table" not in parts and not varied:
        return []
    own = {name: PAPER_RHO[factorization, name] for name in ("contamination", "tv")}
    grids = {"contamination": CONTAMINATION_GRID[: scale.radii], "tv": TV_GRID[: scale.radii]}
    radii: dict[str, list[float]] = {}
    for name, rho in own.items():
        chosen = {rho} if "table" in parts else set[float]()
        radii[name] = sorted(chosen | set(grids[name] if varied else ()))
    kinds: list[tuple[str, dict[str, Any], Sequence[float]]] = [
        ("non-robust", {"uncertainty": "nominal"}, [0.0]),
        ("contamination", {"uncertainty": "contamination"}, radii["contamination"]),
        ("tv", {"uncertainty": "tv"}, radii["tv"]),
    ]
    if "table" in parts:
        # Not in the paper, but nothing robust is worth its name without it: the plain discount gamma (1 - rho).
        kinds.append(("short-horizon", {"baseline": "short_horizon"}, [own["tv"]]))
        kinds.append(("groupdr", {"baseline": "groupdr"}, [0.0]))
    if scale.radii == 1:  # a smoke run compiles most of its time: one program, whose radius 0 is the non-robust team
        kinds = [("tv", {"uncertainty": "tv"}, [0.0, *radii["tv"]])]
    common = {"env": BUILDING_ENV, "factorization": factorization, "steps": scale.building_steps, "seeds": seeds}
    share = scale.building_steps / SCALES["paper"].building_steps
    found = []
    for name, settings, rhos in kinds:
        cost = share * (SECONDS[factorization] + (SECONDS["groupdr"] if name == "groupdr" else 0.0))
        configs = _configs({**common, **settings}, rhos)
        more = () if scale.radii == 1 else (SEASON,)  # of a smoke run one suite is enough
        found.append(Group(f"{factorization}-{name}", configs, "climate", ONCE["building"], cost, more))
    return found


def _battle_groups(scale: Scale, seeds: int) -> list[Group]:
    radii = BATTLE_RADII[: scale.battle_radii]
    kinds: list[tuple[str, dict[str, Any], Sequence[float]]] = [
        ("non-robust", {"uncertainty": "nominal"}, [0.0]),
        # Rewards are positive, so the fail value is 0 and contamination is the plain discount gamma (1 - rho) itself.
        ("contamination", {"uncertainty": "contamination"}, sorted(radii)),
        ("tv", {"uncertainty": "tv"}, sorted(radii)),
    ]
    if len(radii) == 1:  # a smoke run: the set that compiles fastest, its non-robust team is that of radius 0
        kinds = [("contamination", {"uncertainty": "contamination"}, [0.0, *radii])]
    common = {"env": scale.battle_env, "factorization": "vdn", "steps": scale.battle_steps, "seeds": seeds}
    common |= BATTLE_SCHEDULE
    cost = SECONDS["battles"] * scale.battle_steps / BATTLE_STEPS
    return [
        Group(f"battles-{name}", _configs({**common, **settings}, rhos), "noise", ONCE["battles"], cost)
        for name, settings, rhos in kinds
    ]


def _configs(settings: dict[str, Any], radii: Sequence[float]) -> tuple[TrainConfig, ...]:
    return tuple(settle({**settings, "rho": rho}) for rho in radii)
