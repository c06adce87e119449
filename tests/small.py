"""Small runs that several tests share. Every setting that a test relies on stands here, none is left to a default."""

import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from drigm.algorithms.robust_target import NextTeam, next_values, robust_target
from drigm.algorithms.value_bounds import nature_of
from drigm.core.config import TrainConfig
from drigm.core.types import EnvSpec
from drigm.training.programs import make_train


def seeds_to_learn(count):
    """The seeds of a test that asserts on what it learns: ``count`` from 0 on, or what DRIGM_TEST_SEEDS names.

    `make learning-margins` prints the distribution of all such numbers over ten others.
    """
    named = os.environ.get("DRIGM_TEST_SEEDS", f"0:{count}")
    return list(range(*map(int, named.split(":"))))


SMALL = TrainConfig().replace(
    env="probe:coordinate",
    factorization="qmix",
    uncertainty="nominal",
    rho=0.0,
    fail_value="auto",
    baseline="none",
    preset="default",
    seeds=1,
    first_seed=0,
    steps=240,
    gamma=0.9,
    hidden=8,
    share_parameters=False,
    head="auto",
    bowls=1,
    mixer_embed=8,
    lambda_opt=1.0,
    lambda_nopt=1.0,
    dual_hidden=8,
    num_envs=4,
    epsilon_start=1.0,
    epsilon_end=0.1,
    joint_exploration=False,
    epsilon_fraction=0.5,
    local_exploration=0.5,
    local_width=0.1,
    replay_size=400,
    window=4,
    burn_in=1,
    batch=4,
    learning_starts=24,
    update_every=1,
    updates=1,
    learning_rate=1e-3,
    learning_rate_end=1e-4,
    max_grad_norm=10.0,
    average_decay=0.9,
    target_period=5,
    double_q=False,
    dual_learning_rate=1e-3,
    dual_updates=1,
    shards=2,
)

# Enough to learn a small problem in seconds.
LEARN = SMALL.replace(
    steps=24_000,
    gamma=0.8,
    hidden=16,
    num_envs=16,
    epsilon_end=0.3,
    replay_size=8_000,
    window=6,
    batch=32,
    learning_starts=320,
    learning_rate=5e-3,
    average_decay=0.99,
    target_period=20,
    shards=1,
)

PARALLEL_ENVS = Path(__file__).parent / "parallel_envs.py"
# A team of two in worker processes: 100 ticks, of which every third learns.
SUBPROCESS_SETTINGS = {
    "factorization": "vdn",
    "steps": 400,
    "num_envs": 4,
    "hidden": 8,
    "window": 3,
    "burn_in": 1,
    "batch": 4,
    "replay_size": 400,
    "learning_starts": 40,
    "update_every": 3,
    "updates": 2,
    "env_workers": 1,
    "shards": 1,
}
SUBPROCESS = TrainConfig(env=f"pettingzoo:{PARALLEL_ENVS}:meeting", **SUBPROCESS_SETTINGS)


def flags(config):
    """The command-line flags that make ``config``."""
    pairs = {name: value for name, value in vars(config).items() if not isinstance(value, bool)}
    switches = [f"--{'' if value else 'no-'}{name}" for name, value in vars(config).items() if isinstance(value, bool)]
    return [f"--{name}={value}".replace("_", "-") for name, value in pairs.items()] + [
        switch.replace("_", "-") for switch in switches
    ]


def make_spec(*, agents=2, obs=3, state=4, actions=5, ordered=False, **changes):
    """An environment's static facts, with a standardisation that is not the identity."""
    spec = EnvSpec(
        name="small",
        agents=tuple(f"agent_{i}" for i in range(agents)),
        obs_size=obs,
        state_size=state,
        num_actions=actions,
        episode_limit=10,
        obs_offset=np.linspace(-1.0, 1.0, agents * obs, dtype=np.float32).reshape(agents, obs),
        obs_scale=np.linspace(0.5, 2.0, agents * obs, dtype=np.float32).reshape(agents, obs),
        state_offset=np.linspace(1.0, -1.0, state, dtype=np.float32),
        state_scale=np.linspace(2.0, 0.5, state, dtype=np.float32),
        reward_scale=0.5,
        reward_range=(-2.0, 4.0),
        action_values=np.linspace(-1.0, 1.0, actions, dtype=np.float32) if ordered else None,
    )
    return spec._replace(**changes)


def train_all(config, env, seeds=(0,), rho=(0.0,)):
    """All of a run's training without a directory; leading axes [shards, runs]."""
    programs = make_train(config, env, runs=len(seeds))
    state = programs.place(programs.init(jnp.array(seeds, jnp.int32), jnp.array(rho, jnp.float32)))
    state, sums = programs.chunk(state, jnp.int32(0), jnp.int32(config.ticks))
    return programs.settle((state, sums))


def leaves(tree):
    """The arrays of ``tree`` by name."""
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def assert_equal(tree, other):
    """Bitwise the same, name by name."""
    tree, other = leaves(tree), leaves(other)
    assert tree.keys() == other.keys()
    for name, array in tree.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def assert_close(tree, other, **tolerance):
    """The same up to rounding, name by name."""
    tree, other = leaves(tree), leaves(other)
    assert tree.keys() == other.keys()
    for name, array in tree.items():
        np.testing.assert_allclose(array, other[name], err_msg=name, **tolerance)


def assert_one_sentence(message):
    """One line that ends with a full stop and names the field before a colon."""
    assert "\n" not in message.strip()
    assert message.strip().endswith(".")
    assert re.match(r"^[^:]+: ", message)


def shifted_target_of(method, following, dual, batch, robustness, reward_models=None, mixer=()):
    """The robust target of a greedy next team, in the learner's shifted values."""
    nature = nature_of(method, robustness)
    return robust_target(
        method, next_values(method, mixer, NextTeam(following), nature), dual, batch, nature, reward_models
    )


def shift_of(method, robustness):
    """What the learner's values are less than the real ones: b."""
    return nature_of(method, robustness).offset
