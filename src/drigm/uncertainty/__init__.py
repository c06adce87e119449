"""Uncertainty sets. Adding one is one file in this folder and one line in `SETS`."""

from drigm.uncertainty.api import UncertaintySet
from drigm.uncertainty.contamination import CONTAMINATION
from drigm.uncertainty.nominal import NOMINAL
from drigm.uncertainty.total_variation import TOTAL_VARIATION

SETS: dict[str, UncertaintySet] = {s.name: s for s in (NOMINAL, CONTAMINATION, TOTAL_VARIATION)}

__all__ = ["CONTAMINATION", "NOMINAL", "SETS", "TOTAL_VARIATION", "UncertaintySet"]
