"""Methods to compare with. Adding one is one file in this folder and one line in `BASELINES`."""

from drigm.algorithms.baselines.api import Baseline, RewardModels
from drigm.algorithms.baselines.domain_randomization import DOMAIN_RANDOMIZATION
from drigm.algorithms.baselines.groupdr import GROUPDR
from drigm.algorithms.baselines.individual_robust import INDIVIDUAL_ROBUST
from drigm.algorithms.baselines.short_horizon import SHORT_HORIZON
from drigm.algorithms.baselines.squared_dual import SQUARED_DUAL

NONE = Baseline(name="none", about="drigm itself (with --uncertainty nominal: the non-robust baseline)")
BASELINES: dict[str, Baseline] = {
    b.name: b for b in (NONE, SHORT_HORIZON, DOMAIN_RANDOMIZATION, GROUPDR, INDIVIDUAL_ROBUST, SQUARED_DUAL)
}

__all__ = ["BASELINES", "Baseline", "RewardModels"]
