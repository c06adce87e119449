"""Total variation by the released code's loss, the square of the dual's: what that choice is worth.

Where V > 0 the square is least where the bootstrap is 0, at any radius, so that the team learns its next reward alone;
where V < 0 and nothing is left to chance it is about ``(1 - rho) V'``. It is an ablation, not a robust target.
"""

from drigm.algorithms.baselines.api import Baseline
from drigm.algorithms.uncertainty import TOTAL_VARIATION

SQUARED_DUAL = Baseline(
    name="squared_dual",
    about="total variation by the released code's squared loss of the dual network",
    uncertainty=TOTAL_VARIATION._replace(name="squared_dual", squared_loss=True),
)
