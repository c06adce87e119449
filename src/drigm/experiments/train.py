"""The Python form of the command line: `train` and the choices it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from drigm.algorithms.factorizations import Factorization
from drigm.algorithms.uncertainty import UncertaintySet
from drigm.core.choice import Choice
from drigm.core.config import TrainConfig
from drigm.core.errors import UserError, as_path
from drigm.core.strengths import perturb_text
from drigm.envs.api import Environment
from drigm.envs.subprocess.environment import name_of
from drigm.runtime.devices import use_cores
from drigm.training.runs import Run, resume_run, train_run
from drigm.training.session import Callback
from drigm.training.settings import named_object, settle
from drigm.training.trust import Named


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
    env: str | Environment | Callable[..., Any] | None = None,
    factorization: Choice | Factorization | str | None = None,
    uncertainty: Choice | UncertaintySet | str | None = None,
    *,
    config: TrainConfig | Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
    log: str | Sequence[str] = (),
    callback: Callback | None = None,
    **settings: Any,
) -> Run:
    """Train a team and return its `Run`.

    Args:
        env: environment id, see ``drigm list`` (default: ``building:OfficeSmall/Tucson``); a
            `drigm.envs.api.Environment`; or a function that returns a PettingZoo `ParallelEnv` (worker processes import
            it, so it must have a name in a module or script).
        factorization: `VDN` (), `QMIX` () (the default) or `QTRAN` (), or their name; or a record of your own.
        uncertainty: `Nominal` () (the default), `Contamination` (rho), `TotalVariation` (rho), `ChiSquare` (rho) or
            `KullbackLeibler` (rho), or their name; or a set of your own, as in ``MySet(rho=0.1)``. What
            config.json calls records of your own is said in docs/plug-ins.md.
        config: settings to start from: those of another run (``run.config``), which are taken as they are, or a dict,
            which the preset and the environment's defaults complete. What is named besides goes before it.
        out: the run directory; by default a new one under ``runs/``.
        quiet: show no progress.
        log: loggers besides the CSV files, as in ``log="tensorboard,wandb"``; see `drigm.storage.loggers`.
        callback: is told after every row of metrics (`drigm.training.session.Reached`: step, steps, metrics by seed).
            Where it returns False or raises `drigm.StopTraining`, the run has finished early: its weights are kept and
            ``run.steps_trained`` says how far it came. Any other exception leaves the run unfinished, to be resumed
            with `resume`, and goes on to the caller: that is how a tuner prunes.
        settings: any other field of `drigm.core.config.TrainConfig`, such as ``seeds=5`` or ``steps=172_800``; as
            ``perturb`` a dict will do too, as in ``{"obs_noise": 0.1}``.

    Raises:
        UserError: a name or a range is wrong; the message says what is allowed.
    """
    from drigm.report.figures.learning_curve import (
        draw_learning_curve,  # matplotlib: a second that `import drigm` need not take
    )

    use_cores()  # what comes from outside may compute as soon as it is imported
    if isinstance(env, Environment):
        env = named_object(env)[1]
    chosen: dict[str, Any] = {} if env is None else {"env": env if isinstance(env, str) else name_of(env)}
    chosen |= {} if factorization is None else _resolve("factorization", factorization)
    chosen |= {} if uncertainty is None else _resolve("uncertainty", uncertainty)
    for name in settings:
        if name in chosen:
            raise UserError(f"{name}: given twice; once by {chosen[name]!r} and once by {settings[name]!r}.")
    path = None if out is None else as_path("out", out)
    run = train_run(_config(config, {**chosen, **settings}), path, quiet=quiet, log=log, callback=callback)
    draw_learning_curve(run)
    return run


def _config(config: TrainConfig | Mapping[str, Any] | None, given: dict[str, Any]) -> TrainConfig:
    """Return the settings that are ``given``, on top of those of ``config``."""
    if "perturb" in given:
        given["perturb"] = perturb_text(given["perturb"])
    if isinstance(config, TrainConfig):
        return config.replace(**given)
    return settle({**({} if config is None else config), **given})


def resume(
    path: str | Path,
    *,
    quiet: bool = False,
    log: str | Sequence[str] = (),
    callback: Callback | None = None,
    trust: bool = False,
    env: str = "",
    env_python: str = "",
) -> Run:
    """Continue the unfinished run in ``path`` from its last checkpoint and return it; a finished one is only opened.

    On a CPU the result is bit for bit that of a run that was never interrupted.

    Args:
        path: its directory.
        quiet, log, callback: as in `train`; they are no part of a run's settings.
        trust, env, env_python: as in `drigm.load_run`.

    Raises:
        UserError: there is no run, its environment cannot be made, or nobody has said that it may be.
    """
    from drigm.report.figures.learning_curve import draw_learning_curve  # matplotlib

    named = Named(trust, env, env_python)
    run = resume_run(as_path("run", path), quiet=quiet, log=log, named=named, callback=callback)
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
