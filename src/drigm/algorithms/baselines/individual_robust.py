"""Individually robust agents: each applies the uncertainty set to its own value, and so meets its own worst model.

The team's target is ``r + gamma sum_i T(V_i')`` instead of ``r + gamma T(sum_i V_i')`` (T: the set's bootstrap). An
infimum of a sum is at least the sum of infima, so these agents are more pessimistic than the set allows, and their
greedy joint action need not be the robust one: the failure that DrIGM mends. Agent i's dual network sees its own
observation and action, its fail value is m / N.
"""

from drigm.algorithms.baselines.api import Baseline

INDIVIDUAL_ROBUST = Baseline(
    name="individual_robust",
    about="each agent robust alone, against its own worst model (with vdn and any uncertainty set)",
    private=True,
)
