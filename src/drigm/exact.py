"""`drigm.verification.exact`, by its public name."""

from drigm.verification.exact import *  # noqa: F403
from drigm.verification.exact import __all__ as __all__
