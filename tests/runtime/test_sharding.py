"""Which device has which runs, and that shards side by side in one batch are the shards on devices of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SMALL, assert_close, train_all

from drigm.algorithms import replay
from drigm.algorithms.td_target import masked_mean
from drigm.core.types import StoredStep
from drigm.envs import make_env
from drigm.experiments.train import train
from drigm.runtime.sharding import layout_of
from drigm.training.programs import make_train

# All actions are random: the same data whatever the weights' last bits are, which an order of sums decides.
CONFIG = SMALL.replace(
    env="probe:recall", uncertainty="tv", rho=0.1, epsilon_start=1.0, epsilon_end=1.0, seeds=1, fail_value=-1.0
)
ROUNDING = {"rtol": 1e-3, "atol": 1e-4}


@pytest.mark.parametrize(
    ("shards", "runs", "by_shards", "devices", "places"),
    [(1, 1, False, 1, 1), (2, 1, True, 2, 1), (2, 2, False, 2, 2), (1, 3, False, 2, 4), (2, 5, False, 2, 6)],
)
def test_devices_take_shards_of_few_runs_and_runs_of_many(shards, runs, by_shards, devices, places):
    layout = layout_of(shards, runs)
    assert (layout.by_shards, layout.places) == (by_shards, places)
    assert (1 if layout.mesh is None else layout.mesh.size) == devices


def test_more_shards_than_devices_stand_side_by_side():
    layout = layout_of(8, 1)
    assert not layout.by_shards
    assert layout.mesh is None


def test_places_without_a_run_are_filled_and_taken_away():
    layout = layout_of(2, 3)
    state = {"x": np.arange(6.0).reshape(2, 3)}
    filled = layout.fill(state)
    np.testing.assert_array_equal(filled["x"], [[0, 1, 2, 2], [3, 4, 5, 5]])
    np.testing.assert_array_equal(layout.strip(filled)["x"], state["x"])
    with pytest.raises(ValueError, match="3 runs was given 4"):
        layout.fill(filled)


def test_the_mean_of_shares_is_the_mean_of_their_means():
    rng = np.random.default_rng(0)
    for tail in ((), (3,)):
        x = jnp.asarray(rng.normal(size=(4, 6, *tail)), jnp.float32)
        mask = jnp.asarray(rng.random((4, 6, *tail)) < 0.5).at[:, 4:].set(False)  # the last share has nothing
        parts = [masked_mean(x[:, k : k + 2], mask[:, k : k + 2]) for k in (0, 2, 4)]
        np.testing.assert_allclose(masked_mean(x, mask, 3), np.mean(parts), rtol=1e-5)
        assert parts[2] == 0.0


def test_runs_one_after_the_other_in_a_ring_keep_to_their_places():
    rows = 5
    ring = StoredStep(*(jnp.zeros((2 * rows, 1)) if name == "reward" else None for name in StoredStep._fields))
    for tick in range(8):
        row = StoredStep(*(jnp.full(1, tick + 1.0) if name == "reward" else None for name in StoredStep._fields))
        ring = replay.insert(ring, row, jnp.int32(tick), replay.Place(rows, rows))
    np.testing.assert_array_equal(ring.reward[:, 0], [0, 0, 0, 0, 0, 6, 7, 8, 4, 5])
    for seed in range(20):
        window = replay.sample(ring, jax.random.key(seed), jnp.int32(8), 4, 2, replay.Place(rows, rows))
        np.testing.assert_array_equal(jnp.diff(window.reward, axis=0), 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"factorization": "qtran"},
        {"factorization": "vdn", "baseline": "individual_robust"},
        {"factorization": "qmix", "updates": 2, "target_period": 4, "uncertainty": "contamination"},
    ],
)
def test_shards_side_by_side_are_shards_on_devices(settings):
    """A run alone has a device per shard; as one of two it has a device for both shards."""
    config = CONFIG.replace(shards=2, **settings)
    env = make_env(config.env)
    alone, _ = train_all(config, env, (3,), (0.1,))
    beside, _ = train_all(config, env, (3, 4), (0.1, 0.1))
    beside = jax.tree.map(lambda x: x[:, :1], beside)
    for name in ("params", "dual"):
        assert_close(getattr(alone.learner, name), getattr(beside.learner, name), **ROUNDING)


FOUR_DEVICES = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", 4)
import test_sharding
test_sharding.save_trained(sys.argv[1])
"""


def save_trained(path):
    state, _ = train_all(CONFIG.replace(shards=2), make_env(CONFIG.env), (3, 4, 5, 6), (0.1,) * 4)
    np.savez(path, *map(np.asarray, jax.tree.leaves(state.learner.params)))


@pytest.mark.long  # without XLA's fusion emitters, as slow tests are compiled, rounding follows the devices
def test_more_devices_do_not_change_a_bit(tmp_path):
    """Two runs in turn on each of two devices, one run on each of four."""
    save_trained(tmp_path / "two.npz")
    command = [sys.executable, "-c", FOUR_DEVICES, str(tmp_path / "four.npz")]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    with np.load(tmp_path / "two.npz") as two, np.load(tmp_path / "four.npz") as four:
        assert two.files == four.files
        for name in two.files:
            np.testing.assert_array_equal(two[name], four[name], err_msg=name)


def test_a_replay_that_is_spread_over_devices_is_in_memory_once(tmp_path):
    """Three runs on two devices leave one place over, so what training starts with is a copy of what was made."""
    config = CONFIG.replace(factorization="vdn", seeds=3, steps=240, replay_size=100_000)
    shapes = make_train(config, make_env(config.env)).shapes(jnp.arange(3), jnp.zeros(3))
    replays = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes.ring)) / 3
    before, alive = sum(x.nbytes for x in jax.live_arrays()), []

    def look(_):
        alive.append((sum(x.nbytes for x in jax.live_arrays()) - before) / replays)

    train(config=config, out=tmp_path / "run", quiet=True, callback=look)
    assert 4 <= max(alive) < 4.5  # three and the fourth place; it was 7
