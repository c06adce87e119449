"""Statistics of scores over seeds and worlds; a score [K seeds, W worlds] is better when higher.

Aggregates, bootstrap intervals and the probability of improvement follow Agarwal et al. 2021, "Deep reinforcement
learning at the edge of the statistical precipice", and agree with its library, rliable. With fewer than 20 seeds, where
a bootstrap is too narrow, intervals are Student's and Welch's. Everything is NumPy.
"""

from drigm.evaluation.statistics.aggregates import iqm, mean, median, optimality_gap
from drigm.evaluation.statistics.bootstrap import (
    FEW,
    VERDICT_SEEDS,
    Interval,
    difference,
    interval,
    significant,
    stratified_bootstrap,
    verdict,
)
from drigm.evaluation.statistics.improvement import probability_of_improvement, probability_of_improvement_per_world
from drigm.evaluation.statistics.marl_eval import SeedRecord, marl_eval_json
from drigm.evaluation.statistics.shifts import (
    Profile,
    area_per_seed,
    area_under_curve,
    cvar,
    cvar_per_seed,
    nominal_cost,
    per_world,
    performance_profile,
    worst_per_seed,
    worst_world,
)
from drigm.evaluation.statistics.student import holm, welch_p

__all__ = [
    "FEW",
    "VERDICT_SEEDS",
    "Interval",
    "Profile",
    "SeedRecord",
    "area_per_seed",
    "area_under_curve",
    "cvar",
    "cvar_per_seed",
    "difference",
    "holm",
    "interval",
    "iqm",
    "marl_eval_json",
    "mean",
    "median",
    "nominal_cost",
    "optimality_gap",
    "per_world",
    "performance_profile",
    "probability_of_improvement",
    "probability_of_improvement_per_world",
    "significant",
    "stratified_bootstrap",
    "verdict",
    "welch_p",
    "worst_per_seed",
    "worst_world",
]
