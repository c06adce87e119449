"""The host loop: compiled chunks, and between them the log, the progress display and the checkpoint."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from drigm.baselines import BASELINES
from drigm.checkpoint import load_metadata, load_tree, save_tree
from drigm.config import TrainConfig, validate
from drigm.devices import require_backend, use_cores
from drigm.envs import HOSTED, KINDS, make_env
from drigm.envs.api import Environment
from drigm.envs.shifts import SOURCES
from drigm.errors import UserError, check, choose
from drigm.factorizations import FACTORIZATIONS
from drigm.host_loop import make_host_train
from drigm.learner import LearnerState
from drigm.loop import ChunkSums, RunState, StoppedError, Train, epsilon_at, make_train
from drigm.networks import RecurrentAgents
from drigm.presets import PRESETS, with_preset
from drigm.progress import Progress
from drigm.run_directory import RunDirectory, seeds_of
from drigm.types import PyTree
from drigm.uncertainty import SETS

CHUNKS = 100  # rows of metrics.csv
CHECKPOINT_SECONDS = 30.0


class Weights(NamedTuple):
    """What a finished seed keeps."""

    agents: RecurrentAgents
    mixer: PyTree
    dual: PyTree


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
        like = jax.eval_shape(lambda s: _weights(s.learner), _one_seed(self.config, self.env))
        seeds = [self.directory.load_weights(seed, like) for seed in self.seeds]
        return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *seeds)

    def __str__(self) -> str:
        c = self.config
        return f"{method_name(c)} on {c.env}, {c.seeds} seeds of {c.steps} steps, in {self.path}"


def settle(settings: dict[str, Any]) -> TrainConfig:
    """Return the config of what a user said, with its preset filled in, and beyond that what its environment likes.

    Raises:
        UserError: a name is unknown, or an uncertainty set comes without its radius.
    """
    kind = str(settings.get("env", "")).partition(":")[0]
    of_kind = KINDS[kind].settings if kind in KINDS else {}
    filled = {**of_kind, **with_preset(settings)}
    config = TrainConfig().replace(**filled)
    radius = config.uncertainty in SETS and SETS[config.uncertainty].max_rho > 0.0
    check(not radius or "rho" in filled, "rho", None, f"give the radius of {config.uncertainty}")
    return config


def method_name(config: TrainConfig) -> str:
    """Return ``qmix tv rho 0.2``, and the baseline where there is one."""
    baseline = "" if config.baseline == "none" else f" {config.baseline}"
    radius = f" rho {config.rho:g}" if config.rho else ""
    return f"{config.factorization} {config.uncertainty}{baseline}{radius}"


def resolve(config: TrainConfig) -> tuple[TrainConfig, Environment]:
    """Check the config as a whole, names and combinations included, and make its environment."""
    config = validate(config)
    choose("factorization", config.factorization, tuple(FACTORIZATIONS))
    choose("uncertainty", config.uncertainty, tuple(SETS))
    choose("preset", config.preset, tuple(PRESETS))
    choose("baseline", config.baseline, tuple(BASELINES))
    _check_method(config)
    env = make_env(config.env, **_host_options(config))
    bounded = math.isfinite(env.spec.reward_range[0]) or config.fail_value != "auto"
    needs = (BASELINES[config.baseline].uncertainty or SETS[config.uncertainty]).can_fail
    told = f"{config.env} does not declare a reward_range: give a number below every value, in scaled reward"
    check(bounded or not needs, "fail_value", config.fail_value, told)
    known = SOURCES in env.shifts or not BASELINES[config.baseline].needs_sources
    check(known, "baseline", config.baseline, f"it needs source worlds, and {config.env} has no suite {SOURCES}")
    check(env.spec.num_actions > 0, "env", config.env, "training needs discrete actions")
    ordered = env.spec.action_values is not None
    check(
        config.head != "ordered" or ordered,
        "head",
        config.head,
        f"linear or auto: the actions of {config.env} have no order",
    )
    return config, env


def _host_options(config: TrainConfig) -> dict[str, Any]:
    """What an environment in other processes is told about them."""
    kind = config.env.partition(":")[0]
    return {"python": config.env_python, "workers": config.env_workers} if kind in HOSTED else {}


def programs_of(config: TrainConfig, env: Environment) -> Train:
    """Return the training programs of ``config`` in ``env``, wherever it lives."""
    return make_train(config, env) if env.host is None else make_host_train(config, env)


def _check_method(config: TrainConfig) -> None:
    """Raise `UserError` for a radius without a set, and for baselines that cannot be combined with the rest."""
    baseline = BASELINES[config.baseline]
    uncertainty = baseline.uncertainty or SETS[config.uncertainty]
    allowed = f"from 0 to {uncertainty.max_rho:g} with {uncertainty.name}"
    if uncertainty.max_rho == 0.0:
        with_radius = ", ".join(s.name for s in SETS.values() if s.max_rho)
        allowed = f"0 with {uncertainty.name} (a radius needs one of {with_radius}, or the baseline short_horizon)"
    check(config.rho <= uncertainty.max_rho, "rho", config.rho, allowed)
    plain = config.uncertainty == "nominal" or baseline.uncertainty is None
    check(plain, "uncertainty", config.uncertainty, f"nominal with baseline {baseline.name}")
    additive = FACTORIZATIONS[config.factorization].additive
    check(
        not baseline.private or additive,
        "factorization",
        config.factorization,
        f"vdn with baseline {baseline.name}: only a sum has shares that agents can be robust about",
    )
    robust = not baseline.private or uncertainty.max_rho > 0.0
    check(robust, "uncertainty", config.uncertainty, f"a set with a radius with baseline {baseline.name}")


def train_run(config: TrainConfig, path: Path, *, quiet: bool = False) -> Run:
    """Train ``config`` into a new run directory at ``path``.

    Raises:
        UserError: a setting is out of range, a name unknown, the directory taken, or training diverged.
    """
    use_cores(validate(config).shards)  # before `resolve`, which makes arrays
    require_backend()
    config, env = resolve(config)
    programs = programs_of(config, env)  # before anything is written: it may refuse
    directory = RunDirectory(path)
    directory.create(config)
    state = _start(programs, config, quiet=quiet)
    return _finish(config, env, directory, programs, state, tick=0, quiet=quiet)


def resume_run(path: Path, *, quiet: bool = False) -> Run:
    """Continue the run at ``path`` from its last checkpoint; a finished run is returned as it is.

    On CPU the result is bitwise that of a run that was never interrupted, given the same number of devices.
    """
    directory = RunDirectory(path)
    config = directory.load_config()
    use_cores(config.shards)
    require_backend()
    config, env = resolve(config)
    if directory.is_finished(config):
        return Run(directory, config, env)
    programs = programs_of(config, env)
    state, tick = _start(programs, config, quiet=quiet), 0
    if directory.checkpoint_file.exists():
        metadata = load_metadata(directory.checkpoint_file)
        text = metadata.get("tick", "")
        known = text.isdecimal() and int(text) <= config.ticks
        check(known, f"{directory.checkpoint_file}: tick", text, f"it must be a whole number from 0 to {config.ticks}")
        tick = int(text)
        saved = load_tree(directory.checkpoint_file, state)
        state = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), saved, state)
    for seed in seeds_of(config):
        directory.drop_metrics_after(seed, tick * config.num_envs)
    return _finish(config, env, directory, programs, state, tick=tick, quiet=quiet)


def load_run(path: str | Path) -> Run:
    """Return the run at ``path``; `UserError` if there is none."""
    directory = RunDirectory(path)
    config, env = resolve(directory.load_config())
    return Run(directory, config, env)


def _axes(config: TrainConfig) -> tuple[jax.Array, jax.Array]:
    seeds = jnp.asarray(seeds_of(config), jnp.int32)
    return seeds, jnp.full(seeds.shape, config.rho, jnp.float32)


def _start(programs: Train, config: TrainConfig, *, quiet: bool) -> RunState:
    """Return the state before the first tick; where a baseline fits something first, say so."""
    if BASELINES[config.baseline].reward_models is None:
        return programs.init(*_axes(config))
    with Progress(f"{config.baseline}: fitting reward estimators", config.seeds, quiet=quiet) as progress:
        state = jax.block_until_ready(programs.init(*_axes(config)))
        progress.update(config.seeds)
    return state


def _one_seed(config: TrainConfig, env: Environment) -> RunState:
    """The shapes of one seed's state."""
    state = programs_of(config, env).shapes(*_axes(config))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), state)


def _finish(
    config: TrainConfig,
    env: Environment,
    directory: RunDirectory,
    programs: Train,
    state: RunState,
    *,
    tick: int,
    quiet: bool,
) -> Run:
    """Train from ``tick`` to the end; an interrupted run goes on from its last checkpoint."""
    try:
        state = _train(config, env, directory, programs, state, tick=tick, quiet=quiet)
    finally:
        programs.close()
    _save_finished(config, directory, state)
    return Run(directory, config, env)


def _train(
    config: TrainConfig,
    env: Environment,
    directory: RunDirectory,
    programs: Train,
    state: RunState,
    *,
    tick: int,
    quiet: bool,
) -> RunState:
    """Return the state after the last tick; chunk by chunk it is logged, shown and saved."""
    chunk = max(1, config.ticks // CHUNKS)
    label = f"{method_name(config)} x{config.seeds}"
    saved_at = time.monotonic()
    with Progress(label, config.steps, quiet=quiet, start=min(tick * config.num_envs, config.steps)) as progress:
        if tick == 0:
            for note in (*env.notes, "compiling"):
                progress.note(note)
        while tick < config.ticks:
            ticks = min(chunk, config.ticks - tick)
            began = time.monotonic()
            try:
                state, sums = jax.block_until_ready(programs.chunk(state, jnp.int32(tick), jnp.int32(ticks)))
            except StoppedError as stop:
                save_tree(directory.checkpoint_file, stop.state, {"tick": str(stop.tick)})
                raise UserError(f"{stop} What was learnt is kept: drigm train --resume {directory.path}") from None
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"stopped; continue with drigm train --resume {directory.path}") from None
            tick += ticks
            steps = min(tick * config.num_envs, config.steps)
            rate = ticks * config.num_envs * config.seeds / (time.monotonic() - began)
            rows = _metric_rows(config, env, sums, steps, float(epsilon_at(config, jnp.int32(tick))), rate)
            _log(directory, config, rows)
            progress.update(steps, **_shown(rows))
            _refuse_divergence(config, sums, steps)
            if time.monotonic() - saved_at > CHECKPOINT_SECONDS and tick < config.ticks:
                save_tree(directory.checkpoint_file, state, {"tick": str(tick)})
                saved_at = time.monotonic()
    return state


def _metric_rows(
    config: TrainConfig, env: Environment, sums: ChunkSums, step: int, epsilon: float, rate: float
) -> list[dict[str, float]]:
    """One row of metrics per seed; the sums have leading axes [shards, K] and are equal on every shard."""
    sums = jax.tree.map(lambda x: np.asarray(x)[0], sums)
    rows = []
    for k in range(config.seeds):
        count, updates = float(sums.episodes.episodes[k]), float(sums.updates[k])
        mean = float(sums.episodes.returns[k]) / count if count else math.nan
        means = {
            name: float(value[k]) / updates if updates else math.nan for name, value in sums.metrics._asdict().items()
        }
        wins = float(sums.episodes.wins[k]) / count if count and env.spec.has_wins else math.nan
        score = wins if env.spec.has_wins else float(env.score(jnp.float32(mean)))
        row = {
            "step": step,
            "return": mean,
            "score": score,
            "win_rate": wins,
            "episodes": count,
            **means,
            "epsilon": epsilon,
            "steps_per_s": rate,
        }
        rows.append(row)
    return rows


def _log(directory: RunDirectory, config: TrainConfig, rows: list[dict[str, float]]) -> None:
    for seed, row in zip(seeds_of(config), rows, strict=True):
        directory.append_metrics(seed, row)


def _shown(rows: list[dict[str, float]]) -> dict[str, float]:
    """The means over seeds that the progress display shows."""
    shown = {}
    for name in ("return", "score", "loss", "epsilon"):
        values = [row[name] for row in rows if math.isfinite(row[name])]
        if values:
            shown[name] = sum(values) / len(values)
    return shown


def _refuse_divergence(config: TrainConfig, sums: ChunkSums, step: int) -> None:
    loss = np.asarray(sums.metrics.loss)[0]  # 0 where nothing was learnt in the chunk
    for seed, finite in zip(seeds_of(config), np.isfinite(loss), strict=True):
        rate = config.learning_rate
        check(
            bool(finite),
            "learning_rate",
            rate,
            f"the loss of seed {seed} became infinite by step {step}; give a smaller one",
        )


def _weights(learner: LearnerState) -> Weights:
    return Weights(learner.average.agents, learner.average.mixer, learner.dual)


def _save_finished(config: TrainConfig, directory: RunDirectory, state: RunState) -> None:
    """Write each seed's weights (all shards hold the same), then drop the checkpoint they replace."""
    weights = jax.tree.map(lambda x: np.asarray(x[0]), _weights(state.learner))
    for k, seed in enumerate(seeds_of(config)):
        directory.save_weights(seed, jax.tree.map(lambda x: x[k], weights))  # noqa: B023 (used at once)
    directory.checkpoint_file.unlink(missing_ok=True)
