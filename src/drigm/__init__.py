"""drigm: teams that still work when the world differs from the simulator.

import drigm

run = drigm.train("building:OfficeSmall/Tucson", drigm.QMIX(), drigm.TotalVariation(rho=0.2), seeds=5)
print(drigm.evaluate(run, shifts="climate"))
team = drigm.load_team(run)

Names are imported when they are first asked for, so that a process that only acts (`drigm.deploy`) never loads JAX.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drigm import deploy, exact, statistics
    from drigm.algorithms.factorizations import register_factorization
    from drigm.algorithms.uncertainty import register_uncertainty
    from drigm.core.errors import UserError
    from drigm.deployment.load import load_agent, load_team
    from drigm.envs import make_env, register_env
    from drigm.envs.register_perturbation import register_perturbation
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
        resume,
        train,
    )
    from drigm.experiments.tune import tune
    from drigm.report.report import write_report
    from drigm.training.runs import Run, load_run, train_together
    from drigm.training.session import StopTraining
    from drigm.verification.greedy_alignment import verify_run
    from drigm.verification.verify import verify

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
    "StopTraining",
    "TotalVariation",
    "UserError",
    "check_env",
    "deploy",
    "evaluate",
    "evaluate_controller",
    "exact",
    "load_agent",
    "load_run",
    "load_team",
    "make_env",
    "register_env",
    "register_factorization",
    "register_perturbation",
    "register_uncertainty",
    "resume",
    "statistics",
    "sweep",
    "train",
    "train_together",
    "tune",
    "verify",
    "verify_run",
    "write_report",
]
# Where the public names are, for `__getattr__`; a test holds this against the imports above.
_PLACES = {
    "algorithms.factorizations": ("register_factorization",),
    "algorithms.uncertainty": ("register_uncertainty",),
    "core.errors": ("UserError",),
    "deployment.load": ("load_agent", "load_team"),
    "envs": ("make_env", "register_env"),
    "envs.register_perturbation": ("register_perturbation",),
    "envs.subprocess.check_env": ("check_env",),
    "evaluation.controllers": ("evaluate_controller",),
    "evaluation.evaluate": ("evaluate",),
    "evaluation.scores": ("Evaluation",),
    "experiments.sweep": ("sweep",),
    "experiments.train": (
        "QMIX",
        "QTRAN",
        "VDN",
        "ChiSquare",
        "Contamination",
        "KullbackLeibler",
        "Nominal",
        "TotalVariation",
        "resume",
        "train",
    ),
    "experiments.tune": ("tune",),
    "report.report": ("write_report",),
    "training.runs": ("Run", "load_run", "train_together"),
    "training.session": ("StopTraining",),
    "verification.greedy_alignment": ("verify_run",),
    "verification.verify": ("verify",),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import the public ``name``, or a room or door of that name (PEP 562)."""
    if name in _PLACE_OF:
        found = getattr(import_module(f"drigm.{_PLACE_OF[name]}"), name)
    else:
        try:
            found = import_module(f"drigm.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"drigm.{name}":
                raise
            raise AttributeError(f"module 'drigm' has no attribute {name!r}") from None
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted([*globals(), *__all__])
