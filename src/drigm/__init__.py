"""drigm: teams that still work when the world differs from the simulator.

import drigm

run = drigm.train("building:OfficeSmall/Tucson", drigm.QMIX(), drigm.TotalVariation(rho=0.2), seeds=5)
print(drigm.evaluate(run, shifts="climate"))
"""

from drigm.core.errors import UserError
from drigm.envs import make_env
from drigm.envs.subprocess.check_env import check_env
from drigm.evaluation.controllers import evaluate_controller
from drigm.evaluation.evaluate import evaluate
from drigm.evaluation.scores import Evaluation
from drigm.experiments.sweep import sweep
from drigm.experiments.train import (
    QMIX,
    QTRAN,
    VDN,
    ChiSquare,
    Contamination,
    KullbackLeibler,
    Nominal,
    TotalVariation,
    train,
)
from drigm.training.runs import Run, load_run
from drigm.verification.greedy_alignment import verify_run
from drigm.verification.verify import verify

from drigm import exact, statistics  # isort: skip (they lead back here)

__version__ = "0.1.0"
__all__ = [
    "QMIX",
    "QTRAN",
    "VDN",
    "ChiSquare",
    "Contamination",
    "Evaluation",
    "KullbackLeibler",
    "Nominal",
    "Run",
    "TotalVariation",
    "UserError",
    "check_env",
    "evaluate",
    "evaluate_controller",
    "exact",
    "load_run",
    "make_env",
    "statistics",
    "sweep",
    "train",
    "verify",
    "verify_run",
]
