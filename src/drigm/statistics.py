"""`drigm.evaluation.statistics`, by its public name."""

from drigm.evaluation.statistics import *  # noqa: F403
from drigm.evaluation.statistics import __all__ as __all__
