"""The static choices of a run that its updates depend on."""

from __future__ import annotations

from typing import NamedTuple

from drigm.algorithms.baselines import BASELINES, Baseline
from drigm.algorithms.factorizations import Factorization, factorization_called
from drigm.algorithms.uncertainty import UncertaintySet, uncertainty_called
from drigm.core.config import TrainConfig
from drigm.core.types import EnvSpec

ORDERED_HEADS = ("ordered", "velocity")


class Method(NamedTuple):
    """A config and an environment, with what their names stand for; see `make_method`."""

    config: TrainConfig
    spec: EnvSpec
    factorization: Factorization
    uncertainty: UncertaintySet
    baseline: Baseline
    ordered: bool  # the head is one over levels of one quantity


def make_method(config: TrainConfig, spec: EnvSpec) -> Method:
    """Return the method of ``config`` for an environment with ``spec``."""
    baseline = BASELINES[config.baseline]
    return Method(
        config=config,
        spec=spec,
        factorization=factorization_called(config.factorization),
        uncertainty=baseline.uncertainty or uncertainty_called(config.uncertainty),
        baseline=baseline,
        ordered=config.head in ORDERED_HEADS or (config.head == "auto" and spec.action_values is not None),
    )
