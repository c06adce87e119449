"""Uncertainty sets. Adding one is one file in this folder and one line in `SETS`."""

from drigm.uncertainty.api import Dual, UncertaintySet, dual_loss
from drigm.uncertainty.chi_square import CHI_SQUARE
from drigm.uncertainty.contamination import CONTAMINATION
from drigm.uncertainty.kullback_leibler import KULLBACK_LEIBLER
from drigm.uncertainty.nominal import NOMINAL
from drigm.uncertainty.total_variation import TOTAL_VARIATION

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
