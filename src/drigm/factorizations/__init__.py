"""Value factorizations. Adding one is one file in this folder and one line in `FACTORIZATIONS`."""

from drigm.factorizations.api import Factorization
from drigm.factorizations.qmix import QMIX
from drigm.factorizations.vdn import VDN

FACTORIZATIONS: dict[str, Factorization] = {f.name: f for f in (VDN, QMIX)}

__all__ = ["FACTORIZATIONS", "QMIX", "VDN", "Factorization"]
