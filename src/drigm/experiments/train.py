"""The Python form of the command line: `train` and the choices it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from drigm.algorithms.factorizations import Factorization
from drigm.algorithms.uncertainty import UncertaintySet
from drigm.core.choice import Choice
from drigm.core.errors import UserError, as_path
from drigm.envs.api import Environment
from drigm.envs.subprocess.environment import name_of
from drigm.runtime.devices import use_cores
from drigm.training.runs import Run, train_run
from drigm.training.settings import named_object, settle


def VDN() -> Choice:  # noqa: N802 (named like the class that a user expects)
    """The sum of the agents' values (Sunehag et al. 2018)."""
    return Choice("factorization", "vdn", {})


def QMIX(mixer_embed: int | None = None) -> Choice:  # noqa: N802 (named like the class that a user expects)
    """A monotone mixing network of width ``mixer_embed`` (Rashid et al. 2018)."""
    return Choice("factorization", "qmix", {"mixer_embed": mixer_embed})


def QTRAN(*, alt: bool = False, lambda_opt: float | None = None, lambda_nopt: float | None = None) -> Choice:  # noqa: N802 (named like the class that a user expects)
    """Any joint value, tied to the agents' sum at the greedy joint action (Son et al. 2019); ``alt``: QTRAN-alt."""
    settings = {"lambda_opt": lambda_opt, "lambda_nopt": lambda_nopt}
    return Choice("factorization", "qtran-alt" if alt else "qtran", settings)


def Nominal() -> Choice:  # noqa: N802 (named like the class that a user expects)
    """No uncertainty: the simulator is believed."""
    return Choice("uncertainty", "nominal", {})


def Contamination(rho: float | None = None, fail_value: float | str | None = None) -> Choice:  # noqa: N802 (named like the class that a user expects)
    """rho-contamination: bootstrap (1 - rho) V' + rho m, with fail value m."""
    return Choice("uncertainty", "contamination", {"rho": rho, "fail_value": fail_value})


def TotalVariation(rho: float | None = None, fail_value: float | str | None = None) -> Choice:  # noqa: N802 (named like the class that a user expects)
    """Total variation, half the L1 distance, of radius rho with a dual network, and fail value m."""
    return Choice("uncertainty", "tv", {"rho": rho, "fail_value": fail_value})


def ChiSquare(rho: float | None = None) -> Choice:  # noqa: N802 (named like the class that a user expects)
    """Chi-square divergence up to rho, with a dual network of two outputs."""
    return Choice("uncertainty", "chi2", {"rho": rho})


def KullbackLeibler(rho: float | None = None) -> Choice:  # noqa: N802 (named like the class that a user expects)
    """Kullback-Leibler divergence up to rho, with a dual network of two outputs."""
    return Choice("uncertainty", "kl", {"rho": rho})


def train(
    env: str | Environment | Callable[..., Any] = "building:OfficeSmall/Tucson",
    factorization: Choice | Factorization | str = "qmix",
    uncertainty: Choice | UncertaintySet | str = "nominal",
    *,
    out: str | Path | None = None,
    quiet: bool = False,
    log: str | Sequence[str] = (),
    **settings: Any,
) -> Run:
    """Train a team and return its `Run`.

    Args:
        env: environment id, see ``drigm list``; a `drigm.envs.api.Environment`; or a function that returns a PettingZoo
            `ParallelEnv` (worker processes import it, so it must have a name in a module or script).
        factorization: `VDN` (), `QMIX` () or `QTRAN` (), or their name; or a record of your own.
        uncertainty: `Nominal` (), `Contamination` (rho), `TotalVariation` (rho), `ChiSquare` (rho) or
            `KullbackLeibler` (rho), or their name; or a set of your own, as in ``MySet(rho=0.1)``. What
            config.json calls records of your own is said in docs/plug-ins.md.
        out: the run directory; by default a new one under ``runs/``.
        quiet: show no progress.
        log: loggers besides the CSV files, as in ``log="tensorboard,wandb"``; see `drigm.storage.loggers`.
        settings: any other field of `drigm.core.config.TrainConfig`, such as ``seeds=5`` or ``steps=172_800``.

    Raises:
        UserError: a name or a range is wrong; the message says what is allowed.
    """
    from drigm.report.figures.learning_curve import (
        draw_learning_curve,  # matplotlib: a second that `import drigm` need not take
    )

    use_cores()  # what comes from outside may compute as soon as it is imported
    if isinstance(env, Environment):
        env = named_object(env)[1]
    chosen = {
        "env": env if isinstance(env, str) else name_of(env),
        **_resolve("factorization", factorization),
        **_resolve("uncertainty", uncertainty),
    }
    for name in settings:
        if name in chosen:
            raise UserError(f"{name}: given twice; once by {chosen[name]!r} and once by {settings[name]!r}.")
    path = None if out is None else as_path("out", out)
    run = train_run(settle({**chosen, **settings}), path, quiet=quiet, log=log)
    draw_learning_curve(run)
    return run


def _resolve(field: str, choice: Any) -> dict[str, Any]:
    """Return the settings that a choice, a record or a name stands for."""
    if isinstance(choice, UncertaintySet | Factorization):
        choice = choice()
    if isinstance(choice, Choice) and choice.field == field:
        name = choice.chosen if isinstance(choice.chosen, str) else named_object(choice.chosen)[1]
        return {field: name, **{name: value for name, value in choice.settings.items() if value is not None}}
    if isinstance(choice, str):
        return {field: choice}
    raise UserError(f"{field}: {choice!r} is not allowed; give a name, one of drigm's choices for it, or a record.")
