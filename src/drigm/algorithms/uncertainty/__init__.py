"""Uncertainty sets. Adding one is one file in this folder and one line in `SETS`."""

from drigm.algorithms.uncertainty.api import Dual, UncertaintySet, dual_loss
from drigm.algorithms.uncertainty.chi_square import CHI_SQUARE
from drigm.algorithms.uncertainty.contamination import CONTAMINATION
from drigm.algorithms.uncertainty.kullback_leibler import KULLBACK_LEIBLER
from drigm.algorithms.uncertainty.nominal import NOMINAL
from drigm.algorithms.uncertainty.total_variation import TOTAL_VARIATION

SETS: dict[str, UncertaintySet] = {
    s.name: s for s in (NOMINAL, CONTAMINATION, TOTAL_VARIATION, CHI_SQUARE, KULLBACK_LEIBLER)
}

__all__ = [
    "CHI_SQUARE",
    "CONTAMINATION",
    "KULLBACK_LEIBLER",
    "NOMINAL",
    "SETS",
    "TOTAL_VARIATION",
    "Dual",
    "UncertaintySet",
    "dual_loss",
]
