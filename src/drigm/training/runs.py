"""Runs: training a config, alone or together with others, resuming it, and opening what has finished."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from drigm.algorithms.learner import make_learner
from drigm.core.config import TrainConfig, essential, validate
from drigm.core.errors import UserError, as_path, warn
from drigm.core.naming import method_name, resume_command
from drigm.core.scales import scales_of, to_text
from drigm.envs.api import Environment
from drigm.envs.calibration import calibrated, with_scales
from drigm.runtime.devices import require_backend, use_cores
from drigm.runtime.files import remove, write_text
from drigm.storage.checkpoint import drop
from drigm.storage.loggers import parse_log
from drigm.storage.run_directory import RunDirectory, default_path, seeds_of
from drigm.training.checkpointing import recorded_members
from drigm.training.estimate import estimate, remarks
from drigm.training.loop import (
    DivergedError,
    Weights,
    check_together,
    refuse_diverged,
    stopped,
    train_session,
    weights_of,
)
from drigm.training.programs import Train, make_train
from drigm.training.session import Callback, Member, Session
from drigm.training.settings import check_replay, make_run_env, named_object, resolve
from drigm.training.subprocess_loop import make_subprocess_train
from drigm.training.trust import Named, check_unchanged, open_environment, provenance

NOBODY = Named()
NOTHING: Mapping[str, Any] = MappingProxyType({})
Log = str | Sequence[str]  # as `parse_log` reads it
ProgramSource = Callable[[Sequence[TrainConfig], Environment], Train]  # as `programs_together`


class Run(NamedTuple):
    """A finished run: its directory, its config and its environment."""

    directory: RunDirectory
    config: TrainConfig
    env: Environment

    @property
    def path(self) -> Path:
        return self.directory.path

    @property
    def seeds(self) -> list[int]:
        return seeds_of(self.config)

    def weights(self) -> Weights:
        """Return the weights of all seeds, stacked on a leading axis [K]."""
        learner = make_learner(self.config, self.env.spec)
        like = jax.eval_shape(lambda: weights_of(learner.init(jax.random.key(0))))
        seeds = [self.directory.load_weights(seed, like) for seed in self.seeds]
        return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *seeds)

    def metrics(self) -> list[dict[str, float]]:
        """Return every row of metrics of every seed, with its ``seed``; `pandas.DataFrame` takes it as it is.

        Raises:
            UserError: a file of metrics is damaged.
        """
        return [{"seed": seed, **row} for seed in self.seeds for row in self.directory.read_metrics(seed)]

    @property
    def steps_trained(self) -> int:
        """Environment steps of every seed: the config's, or fewer where a callback ended the training."""
        return self.directory.steps_trained(self.config)

    def __str__(self) -> str:
        c, done = self.config, self.steps_trained
        steps = str(done) if done == c.steps else f"{done} of {c.steps}"
        return f"{method_name(c)} on {c.env}, {c.seeds} seeds of {steps} steps, in {self.path}"


def with_known_scales(runs: Sequence[Run], quiet: bool = False) -> list[Run]:
    """Return ``runs`` of one environment, about to be trained, with scales that are known and stored in each.

    They are those that they have stored; where none has, they are measured now
    (`drigm.envs.calibration.calibrated`), but for runs that an older drigm began.

    Raises:
        UserError: two of them have stored different ones.
    """
    env = runs[0].env
    stored = [run.directory.load_scales(env.spec) for run in runs]
    known = [
        (run.directory.scales_file, scales) for run, scales in zip(runs, stored, strict=True) if scales is not None
    ]
    for file, scales in known:
        if to_text(scales) != to_text(known[0][1]):
            raise UserError(f"{file}: holds other scales than {known[0][0]}; train these two runs by themselves.")
    if not known and any(run.directory.has_started() for run in runs):
        return list(runs)
    config = runs[0].config
    env = with_scales(env, known[0][1]) if known else calibrated(env, config.gamma, most=config.num_envs, quiet=quiet)
    for run, scales in zip(runs, stored, strict=True):
        if scales is None:
            run.directory.save_scales(scales_of(env.spec))
    return [run._replace(env=env) for run in runs]


def with_stored_scales(run: Run) -> Run:
    """Return ``run`` with the scales that it was trained with; an older drigm used those of the environment."""
    scales = run.directory.load_scales(run.env.spec)
    return run if scales is None else run._replace(env=with_scales(run.env, scales))


def programs_of(config: TrainConfig, env: Environment, runs: int | None = None) -> Train:
    """Return the training programs of ``config`` in ``env``, wherever it lives; ``runs``: see `make_train`."""
    if env.subprocess is not None:
        return make_subprocess_train(config, env)
    return make_train(config, env, runs=runs)


def programs_together(configs: Sequence[TrainConfig], env: Environment) -> Train:
    """Return the programs that train ``configs``, which differ in radius and seeds alone, side by side."""
    return programs_of(configs[0], env, sum(config.seeds for config in configs))


def checked_run(config: TrainConfig, path: Path | None) -> tuple[TrainConfig, Environment]:
    """Return what `train_run` of these would train, as `resolve`; `UserError` where it would be refused.

    Nothing is compiled or written.
    """
    use_cores(validate(config).shards)  # before `resolve`, which makes arrays
    require_backend()
    if path is not None:
        RunDirectory(path).refuse_taken()
    config, env = resolve(config)
    check_replay([config], env)
    return config, env


def train_run(
    config: TrainConfig, path: Path | None, *, quiet: bool = False, log: Log = (), callback: Callback | None = None
) -> Run:
    """Train ``config`` into a new run directory at ``path`` (None: a new one under ``runs/``).

    ``log`` names loggers (`drigm.storage.loggers`) besides the CSV; ``callback``: see `drigm.training.session`.

    Raises:
        UserError: a setting is out of range, a name unknown, the directory taken, or training diverged.
    """
    log = parse_log(log)
    config, env = checked_run(config, path)
    env = calibrated(env, config.gamma, most=config.num_envs, quiet=quiet)
    programs = programs_of(config, env)  # before anything is written: it may refuse
    run = Run(RunDirectory(default_path(config) if path is None else path), config, env)
    with run.directory.locked():
        run.directory.create(config, provenance(config))
        run.directory.save_scales(scales_of(env.spec))
        train_session(_alone(run, programs, quiet, log, callback))
    return run


def resume_run(
    path: Path,
    *,
    quiet: bool = False,
    log: Log = (),
    named: Named = NOBODY,
    running: Mapping[str, Any] = NOTHING,
    callback: Callback | None = None,
) -> Run:
    """Continue the run at ``path`` from its last checkpoint; a finished run is returned as it is.

    Its loggers (``log``) are no part of its settings: they are named again, and go on with the same curves. For
    ``named`` see `load_run`; ``running`` are settings of `drigm.core.config.RUNNING` that an unfinished run goes on
    with from now on.

    On CPU the result is bitwise that of a run that was never interrupted, given the same number of devices.
    """
    directory = RunDirectory(path)
    config = directory.load_config()
    use_cores(config.shards)
    require_backend()
    unfinished = not directory.is_finished(config)
    if not (unfinished or quiet or directory.has_leftovers()):
        warn(_why_done(directory, config))
    if unfinished:
        config = validate(config.replace(**running))
    env_id = open_environment(directory.path, config, directory.load_system(), named, exactly=unfinished)
    run, log = with_stored_scales(Run(directory, config, make_run_env(config, env_id))), parse_log(log)
    if unfinished or directory.has_leftovers():
        check_replay([config], run.env)
        with directory.locked():
            if directory.is_finished(config):  # perhaps by another process, before it let go of the lock
                drop(directory.checkpoint_file)
            else:
                run = _resumed(run, quiet, log, callback)
    refuse_diverged([Member(config, directory)])
    return run


def _why_done(directory: RunDirectory, config: TrainConfig) -> str:
    """Say that nothing is left to be trained, and what can be done for more."""
    done = directory.steps_trained(config)
    if done < config.steps:
        return f"{directory.path} was ended by its callback after {done:,} of {config.steps:,} steps: train a new run."
    return f"{directory.path} has all its {done:,} steps; for more, train a new run with more --steps."


def _resumed(run: Run, quiet: bool, log: tuple[str, ...], callback: Callback | None) -> Run:
    """Train on a run that this process holds."""
    _say_damaged(run)
    [run] = with_known_scales([run], quiet)  # it may have been stopped before it had any
    programs = programs_of(run.config, run.env)
    if run.directory.load_config() != run.config:
        remove(run.directory.checksums_file)  # the files are about to change
        write_text(run.directory.config_file, run.config.to_json())
    train_session(_alone(run, programs, quiet, log, callback))
    return run


def train_together(
    configs: Mapping[Path, TrainConfig],
    folder: Path,
    *,
    quiet: bool = False,
    log: Log = (),
    programs: ProgramSource | None = None,
    callback: Callback | None = None,
) -> list[Run]:
    """Train runs that differ in radius and seeds alone as one compiled program, each into its own run directory.

    Finished runs stay as they are, unfinished ones go on from the checkpoint that the same set of runs left in
    ``folder``: call it again, with the same arguments, after whatever stopped it.

    Args:
        configs: by run directory.
        folder: for the checkpoint of all.
        quiet: show no progress.
        log: loggers besides the CSV.
        programs: where the compiled programs come from (`drigm.training.precompile`); None: made here.
        callback: as in `train_run`, for all of them at once.

    Raises:
        DivergedError: seeds of some runs diverged; all the others have finished.
        UserError: as `train_run`; two configs differ in anything else; a directory holds another run.
    """
    shards = [validate(config).shards for config in configs.values()]
    use_cores(shards[0])
    require_backend()
    resolved = {path: resolve(config) for path, config in configs.items()}
    runs = [Run(RunDirectory(path), config, env) for path, (config, env) in resolved.items()]
    check_together([run.config for run in runs])
    file = _together_file(runs, folder)
    with contextlib.ExitStack() as locks:
        begun = _begun(runs, file)
        held = [run for run in runs if run in begun or not _is_finished(run) or run.directory.has_leftovers()]
        for run in held:
            locks.enter_context(run.directory.locked())
        for run in runs:
            _claim(run)
        # Now that nobody else trains them. Those that were begun together go on together, and the others after them.
        if begun := _begun(runs, file):
            _train_missing(begun, file, quiet, log, programs, callback)
        if missing := [run for run in held if not _is_finished(run)]:
            _train_missing(missing, file, quiet, log, programs, callback)
        for leftover in (file, *(run.directory.checkpoint_file for run in held)):
            drop(leftover)
    try:
        refuse_diverged([Member(run.config, run.directory) for run in runs])
    except DivergedError as error:
        error.finished = [run for run in runs if not run.directory.diverged()]
        raise
    return [with_stored_scales(run) for run in runs]


def _is_finished(run: Run) -> bool:
    return run.directory.is_finished(run.config)


def _begun(runs: Sequence[Run], file: Path) -> list[Run]:
    """Return those of ``runs`` that the checkpoint ``file`` holds, unless nothing is left to be written of any."""
    names = recorded_members(file)
    begun = [run for run in runs if os.path.relpath(run.path, file.parent) in names]
    return [] if all(_is_finished(run) and run.directory.checksums_file.exists() for run in begun) else begun


def _train_missing(
    missing: Sequence[Run],
    file: Path,
    quiet: bool,
    log: Log,
    programs: ProgramSource | None,
    callback: Callback | None,
) -> None:
    """Train runs that this process holds, all at once; seeds that diverge are left to the caller."""
    missing = with_known_scales(missing, quiet)
    members = [Member(run.config, run.directory) for run in missing]
    resume_hint = f"the same command (the checkpoint is in {file.parent})"
    check_replay([run.config for run in missing], missing[0].env)
    for run in missing:
        _say_damaged(run)
    try:
        made = (programs or programs_together)([run.config for run in missing], missing[0].env)
    except KeyboardInterrupt:
        raise stopped(resume_hint) from None
    with contextlib.suppress(DivergedError):
        session = Session(members, missing[0].env, made, file, resume_hint, quiet, parse_log(log), callback=callback)
        train_session(session)


def load_run(
    path: str | Path, *, trust: bool = False, env: str = "", env_python: str = "", objects: Sequence[Any] = ()
) -> Run:
    """Return the run at ``path``.

    A run whose settings name a module opens as it is where this user has trained it on this machine. Somebody else's
    would import, or start, what its files name: say which environment, or that you trust it (SECURITY.md).

    Args:
        path: of the run directory.
        trust: import and start whatever the run names.
        env: the run's environment, named again; its file may lie in another folder now.
        env_python: the run's interpreter, named again.
        objects: environments, uncertainty sets and factorizations that the run was trained with as objects: nothing is
            imported for them, and those that no module holds have to be passed again.

    Raises:
        UserError: there is no run, its environment cannot be made, or nobody has said that it may be.
    """
    for record in objects:
        named_object(record)
    directory = RunDirectory(as_path("run", path))
    config = directory.load_config()
    env_id = open_environment(directory.path, config, directory.load_system(), Named(trust, env, env_python))
    return with_stored_scales(Run(directory, config, make_run_env(config, env_id)))


def as_run(given: Run | str | Path) -> Run:
    """Return the run itself, or the one in that directory; errors as `load_run`."""
    return given if isinstance(given, Run) else load_run(given)


def as_runs(given: Run | str | Path | Sequence[Run | str | Path]) -> list[Run]:
    """Return one run or several as a list; errors as `load_run`."""
    one = isinstance(given, Run | str | Path)
    return [as_run(given)] if one else [as_run(run) for run in given]  # pyright: ignore[reportArgumentType]


def _say_damaged(run: Run) -> None:
    """Say it where a run is trained again because its weights cannot be used."""
    if damaged := run.directory.damaged_weights(run.config):
        warn(f"{damaged} They are trained again.")


def _alone(run: Run, programs: Train, quiet: bool, log: tuple[str, ...], callback: Callback | None) -> Session:
    """A session of one run, which keeps its own checkpoint."""
    member = Member(run.config, run.directory)
    about = f"environment {run.config.env}; run directory {run.path}"
    notes = () if quiet else (about, str(estimate(run.config, run.env)), *remarks(run.config, run.env))
    return Session(
        [member],
        run.env,
        programs,
        run.directory.checkpoint_file,
        resume_command(run.path),
        quiet,
        log,
        notes,
        callback,
    )


def _together_file(runs: Sequence[Run], folder: Path) -> Path:
    """The checkpoint of whichever of ``runs`` are trained: a different call has a different one."""
    together = "\n".join(os.path.relpath(run.path, folder) for run in runs)
    return folder / f"checkpoint-{hashlib.sha256(together.encode()).hexdigest()[:12]}.safetensors"


def _claim(run: Run) -> None:
    """Make the run's directory, unless it holds this very run."""
    if not run.directory.config_file.exists():
        run.directory.create(run.config, provenance(run.config))
        return
    if essential(run.directory.load_config()) != essential(run.config):
        raise UserError(f"run: {str(run.path)!r} has other settings; move it away or give another directory.")
    exactly = not _is_finished(run)
    check_unchanged(run.path, run.config, run.directory.load_system(), exactly=exactly)
