"""Value factorizations. Adding one is one file in this folder and one line in `FACTORIZATIONS`."""

from drigm.algorithms.factorizations.api import Factorization, Team, TeamSizes
from drigm.algorithms.factorizations.qmix import QMIX
from drigm.algorithms.factorizations.qtran import QTRAN, QTRAN_ALT
from drigm.algorithms.factorizations.vdn import VDN

FACTORIZATIONS: dict[str, Factorization] = {f.name: f for f in (VDN, QMIX, QTRAN, QTRAN_ALT)}

__all__ = ["FACTORIZATIONS", "QMIX", "QTRAN", "QTRAN_ALT", "VDN", "Factorization", "Team", "TeamSizes"]
