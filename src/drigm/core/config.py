"""One flat, frozen record of every setting of a training run, with its limits."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from drigm.core.errors import check, choose, nearest

LAST_SEED = TICKS = 2**31 - 1  # int32, as the compiled programs count
WIDEST, MOST = 16_384, 1_000_000  # of a layer; of environments, windows and updates at a time
LONGEST_TEXT = 4_000  # characters
LARGEST = 3e38  # of single precision
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # and halves of characters


def _setting(default: Any, doc: str, low: float | None = None, high: float | None = None, **extra: Any) -> Any:
    return field(default=default, metadata={"doc": doc, "low": low, "high": high, **extra})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a run. Flat on purpose: any field can be a command-line flag or a sweep axis."""

    env: str = _setting("building:OfficeSmall/Tucson", "environment id, see `drigm list`")
    factorization: str = _setting("qmix", "value factorization")
    uncertainty: str = _setting("nominal", "uncertainty set")
    rho: float = _setting(0.0, "radius of the uncertainty set", 0.0, 10.0)
    fail_value: float | str = _setting("auto", 'bound m <= min V in units of the environment, or "auto"')
    baseline: str = _setting("none", "method to compare with, see `drigm list`")
    agent_rho: float = _setting(
        0.0, "agent-wise set: chance that the agent whom the team can least do without fails in a step", 0.0, 1.0
    )
    agent_fault: str = _setting(
        "idle", "what it does then: idle, stuck (its last action) or random", choices=("idle", "stuck", "random")
    )
    samples: int = _setting(
        0,
        "next steps drawn anew from every state and joint action, on which the worst case is solved exactly, without a "
        "dual network (JAX environments); 0: none",
        0,
        256,
    )
    perturb: str = _setting("", "perturbations in training, as in obs_noise=0.1 action_delay=1; see `drigm list`")
    worlds: str = _setting(
        "", "ranges of persistent worlds, as in capacity=0.7:2.5,gains=-0.3:0.3@3h; every episode has one of them"
    )
    world_count: int = _setting(64, "how many worlds are drawn from the ranges", 1, 4096)
    alpha: float = _setting(
        1.0, "share of the worlds, those with the largest regret, that training is about (CVaR); 1: all", 0.01, 1.0
    )
    preset: str = _setting(
        "default",
        "paper: the paper's sizes, radii, optimiser and schedule, GroupDR then sees the test cities; adapting: teams "
        "that hold in buildings that their simulator gets wrong",
    )
    seeds: int = _setting(1, "how many seeds are trained at once", 1, 1000)
    first_seed: int = _setting(0, "the first seed; the others follow", 0, LAST_SEED)
    steps: int = _setting(172_800, "environment steps per seed (a reset counts as one)", 1)
    gamma: float = _setting(0.997, "discount", 0.0, 1.0)
    # agents
    hidden: int = _setting(64, "width of each agent's MLP and LSTM", 1, WIDEST)
    encoder: bool = _setting(True, "an MLP layer before each agent's LSTM; without it the LSTM reads the observation")
    share_parameters: bool = _setting(False, "one set of weights for all agents")
    head: str = _setting(
        "auto",
        "Q head: linear, ordered (levels of one quantity), velocity (ordered, moves from the last action), or auto",
        choices=("auto", "linear", "ordered", "velocity"),
    )
    inputs: str = _setting(
        "readings",
        "what agents see: readings, or changes since the step before, and as it is only what they regulate",
        choices=("readings", "changes"),
    )
    bowls: int = _setting(2, "kinks in the ordered head", 1, 16)
    mixer_embed: int = _setting(32, "width of QMIX's mixing layer and of QTRAN's joint network", 1, WIDEST)
    lambda_opt: float = _setting(1.0, "QTRAN's weight of the equality at the greedy joint action", 0.0)
    lambda_nopt: float = _setting(1.0, "QTRAN's weight of the inequality elsewhere", 0.0)
    dual_hidden: int = _setting(64, "width of the dual network", 1, WIDEST)
    # acting
    num_envs: int = _setting(32, "parallel environments per seed", 1, MOST)
    epsilon_start: float = _setting(1.0, "exploration at the start", 0.0, 1.0)
    epsilon_end: float = _setting(0.05, "exploration at the end", 0.0, 1.0)
    joint_exploration: bool = _setting(False, "one coin for the whole team instead of one per agent")
    epsilon_fraction: float = _setting(0.2, "share of the run over which epsilon falls", 0.0, 1.0)
    local_exploration: float = _setting(
        0.5, "share of exploration that stays near the greedy level (ordered actions)", 0.0, 1.0
    )
    local_width: float = _setting(0.1, "its standard deviation, where the levels span [-1, 1]", 0.0, 2.0)
    # learning
    replay_size: int = _setting(40_000, "time-steps kept per seed", 1)
    window: int = _setting(4, "transitions in a training window, burn-in included", 1, 1000)
    burn_in: int = _setting(1, "first steps of a window that only warm the LSTM", 0, 1000)
    stored_state: bool = _setting(
        False, "replay keeps what agents remembered at every step, and windows begin with it instead of with nothing"
    )
    td_lambda: float = _setting(
        0.0, "eligibility traces: how much of a TD error counts for the step before it too, within a window", 0.0, 1.0
    )
    batch: int = _setting(64, "windows per update", 1, MOST)
    learning_starts: int = _setting(
        3200, "environment steps before the first update; at most a tenth of the steps unless said", 0, TICKS
    )
    update_every: int = _setting(1, "ticks (one step of all parallel environments) between updates", 1, TICKS)
    updates: int = _setting(1, "updates each time", 1, MOST)
    optimizer: str = _setting("adam", "optimiser of agents and mixer: adam or rmsprop", choices=("adam", "rmsprop"))
    learning_rate: float = _setting(3e-3, "the optimiser's step size", 0.0)
    learning_rate_end: float = _setting(1e-4, "step size that the cosine decay ends at", 0.0)
    centre_rate: float = _setting(
        1.0,
        "the ordered head's best levels are learnt with this share of the step size: less is more precise",
        0.0,
        1.0,
    )
    max_grad_norm: float = _setting(10.0, "gradient clipping by global norm", 0.0)
    average_decay: float = _setting(
        0.999, "decay per update of the averaged weights that are evaluated and deployed", 0.0, 1.0
    )
    target_period: int = _setting(200, "updates between copies to the target networks", 1, TICKS)
    double_q: bool = _setting(False, "pick the next greedy action with the online network")
    dual_learning_rate: float = _setting(3e-3, "Adam's step size of the dual network", 0.0)
    dual_learning_rate_end: float = _setting(3e-3, "step size that its cosine decay ends at", 0.0)
    dual_updates: int = _setting(1, "dual updates before each Q update", 1, MOST)
    # running
    env_workers: int = _setting(0, "processes for environments that are not in JAX; 0: one per usable core", 0, 1024)
    env_timeout: float = _setting(600.0, "seconds that one step of such an environment may take", 0.1, 1e6)
    env_python: str = _setting("", "Python interpreter for such environments, if not this one")
    shards: int = _setting(
        2,
        "shares that the parallel environments and windows are split into; a run alone has a core for each",
        1,
        1024,
    )

    def replace(self, **changes: Any) -> TrainConfig:
        """Return a copy with ``changes``; unknown names raise `UserError`."""
        refuse_unknown(changes)
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2)

    @property
    def first_update(self) -> int:
        """Ticks after which learning starts: there is a window, and ``learning_starts`` steps have been taken."""
        return max(-(-self.learning_starts // self.num_envs), self.window + 1)

    @property
    def updates_in_all(self) -> int:
        """Updates of the whole run, per seed."""
        due = (self.ticks - 1) // self.update_every - (max(0, self.first_update - 2)) // self.update_every
        return max(0, due) * self.updates

    @property
    def ticks(self) -> int:
        """Ticks in the run: each is one step (or reset) of all ``num_envs`` environments."""
        return -(-self.steps // self.num_envs)


FIELDS = {f.name: f for f in dataclasses.fields(TrainConfig)}
FIRST = {  # of each group of settings, in the order in which they are shown
    "task and method": "env",
    "agents and networks": "hidden",
    "acting": "num_envs",
    "learning": "replay_size",
    "environments in other processes, and cores": "env_workers",
}
RUNNING = ("env_workers", "env_python", "env_timeout")  # what a run may be continued with others of: no result depends


def _groups() -> dict[str, tuple[str, ...]]:
    names = list(FIELDS)
    starts = [names.index(first) for first in FIRST.values()]
    parts = zip(FIRST, starts, [*starts[1:], len(names)], strict=True)
    return {title: tuple(names[start:end]) for title, start, end in parts}


GROUPS = _groups()  # names of settings by the title of their group


def essential(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that results depend on, but for those at their default: of an earlier version they match."""
    settings = dataclasses.asdict(config)
    return {k: value for k, value in settings.items() if k not in RUNNING and value != FIELDS[k].default}


def refuse_unknown(settings: dict[str, Any]) -> None:
    """Raise `UserError` if a key of ``settings`` is not a field of `TrainConfig`."""
    for name in settings:
        if name not in FIELDS:
            message = f"known settings are {', '.join(FIELDS)}{nearest(str(name), FIELDS)}"
            check(False, "setting", name, message)


def from_dict(settings: dict[str, Any]) -> TrainConfig:
    """Return the config that a config.json holds; unknown keys are refused."""
    refuse_unknown(settings)
    return TrainConfig(**settings)


def validate(config: TrainConfig) -> TrainConfig:
    """Return ``config`` with numbers of the right type, or raise `UserError` for the first out of range."""
    fixed = {name: checked(name, getattr(config, name)) for name in FIELDS}
    config = TrainConfig(**fixed)
    last = config.first_seed + config.seeds - 1
    message = f"at most {LAST_SEED - config.seeds + 1} with {config.seeds} seeds: the last seed is at most {LAST_SEED}"
    check(last <= LAST_SEED, "first_seed", config.first_seed, message)
    most = TICKS // config.updates
    message = (
        f"at most {most * config.num_envs}: {most} ticks of {config.num_envs} environments ({config.updates} updates)"
    )
    check(config.ticks <= most, "steps", config.steps, message)
    check(config.burn_in < config.window, "burn_in", config.burn_in, f"it must be below window ({config.window})")
    for name in ("num_envs", "batch"):
        value = getattr(config, name)
        check(value % config.shards == 0, name, value, f"it must be a multiple of shards ({config.shards})")
    rows = config.replay_size // config.num_envs
    check(
        rows > config.window,
        "replay_size",
        config.replay_size,
        f"above num_envs * (window + 1) = {config.num_envs * (config.window + 1)}",
    )
    message = f"at most {TICKS} steps of each of {config.num_envs} environments"
    check(rows <= TICKS, "replay_size", config.replay_size, message)
    return config


def checked(name: str, value: Any) -> Any:
    """Return ``value`` of setting ``name`` as the type of its default; `UserError` outside its limits."""
    spec, default = FIELDS[name].metadata, FIELDS[name].default
    if name == "fail_value":
        return _fail_value(value)
    if isinstance(default, bool):
        check(isinstance(value, bool), name, value, "true or false")
        return value
    if isinstance(default, str):
        check(isinstance(value, str), name, value, "a text")
        check(len(value) <= LONGEST_TEXT, name, value, f"a text of at most {LONGEST_TEXT:,} characters")
        check(CONTROL.search(value) is None, name, value, "a text without control characters")
        return choose(name, value, spec["choices"]) if "choices" in spec else value
    whole = isinstance(default, int)
    kind = "a whole number" if whole else "a number"
    limits = " ".join(
        f"{word} {bound:.10g}" for word, bound in (("from", spec["low"]), ("to", spec["high"])) if bound is not None
    )
    ok = is_number(value) and (not whole or isinstance(value, int) or value.is_integer())
    ok = ok and (spec["low"] is None or value >= spec["low"]) and (spec["high"] is None or value <= spec["high"])
    check(ok, name, value, f"{kind} {limits}".strip())
    return int(value) if whole else float(value) + 0.0  # no -0


def is_number(value: Any) -> bool:
    """Return whether ``value`` is a number, of a size that single precision holds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _fail_value(value: Any) -> float | str:
    if value == "auto":
        return "auto"
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        number = math.nan
    check(is_number(number), "fail_value", value, 'give "auto" or a number')
    return float(number) + 0.0  # no -0
