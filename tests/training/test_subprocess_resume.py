"""Runs in other processes that are stopped and go on are the runs that were never stopped, bit for bit."""

from __future__ import annotations

import functools
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import PARALLEL_ENVS, SUBPROCESS, assert_equal

from drigm.core.errors import UserError
from drigm.envs.subprocess.environment import subprocess_env
from drigm.envs.subprocess.vector import SubprocessVector
from drigm.storage.checkpoint import load_tree, save_tree
from drigm.training.programs import StoppedError
from drigm.training.runs import resume_run, train_run, train_together
from drigm.training.subprocess_loop import make_subprocess_train

STARTS = 10  # rows before the first update
EVERYTHING = "obs_noise=0.1 frozen_sensors=0.3 action_noise=0.2 action_delay=1"


@functools.cache
def programs_of(config, name, workers, limit):
    env = subprocess_env("pettingzoo", name, workers=workers)
    spec = env.spec if limit is None else env.spec._replace(episode_limit=limit)
    return make_subprocess_train(config, env._replace(spec=spec))


class Trained:
    """A run without a session, one at a time: `advance` goes on, `stop` does what a kill after a checkpoint does."""

    def __init__(self, config=SUBPROCESS, seeds=(0,), workers=1, limit=None, options=""):
        self.config, self.limit, self.name = config, limit, f"{PARALLEL_ENVS}:meeting{options}"
        self.seeds, self.rho = jnp.array(seeds, jnp.int32), jnp.zeros(len(seeds))
        self.tick, self.notes = 0, []
        self.start(workers)
        self.state = self.programs.init(self.seeds, self.rho)

    def start(self, workers):
        self.programs = programs_of(self.config, self.name, workers, self.limit)

    def advance(self, ticks):
        self.state, sums = self.programs.chunk(self.state, jnp.int32(self.tick), jnp.int32(ticks))
        self.tick += ticks
        self.notes += self.programs.notes()
        return sums

    def stop(self, file, workers=1, state=None):
        save_tree(file, self.programs.settle(self.state) if state is None else state)
        self.programs.close()
        self.start(workers)
        like = self.programs.init(self.seeds, self.rho)
        self.state = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), load_tree(file, like), like)

    def settled(self):
        state = self.programs.settle(self.state)
        self.programs.close()
        return state


@pytest.mark.slow
@pytest.mark.parametrize(
    ("perturb", "seeds", "shards", "stored"), [("", (0, 3), 2, True), (EVERYTHING, (0,), 1, False)]
)
def test_a_stopped_run_is_the_one_that_was_never_stopped(tmp_path, perturb, seeds, shards, stored):
    """Stopped in the middle of episodes, of rounds and of blocks, and with another number of workers from then on."""
    config = SUBPROCESS.replace(perturb=perturb, shards=shards, stored_state=stored)
    whole = Trained(config, seeds)
    sums, state = [whole.advance(ticks) for ticks in (12, 18, 10)], whole.settled()
    parts, found = Trained(config, seeds), []
    for ticks in (12, 18, 10):
        found.append(parts.advance(ticks))
        parts.stop(tmp_path / "checkpoint", workers=2)
    assert_equal(found, sums)
    assert_equal(parts.settled(), state)
    assert not parts.notes
    assert np.asarray(sums[2].episodes.episodes).sum() > 0


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_goes_on_as_if_it_had_not_been(tmp_path):
    whole = Trained()
    whole.advance(40)
    state, broken = whole.settled(), Trained()
    broken.advance(17)
    os.kill(broken.state.vector.workers[0].process.pid, signal.SIGKILL)
    with pytest.raises(StoppedError, match="died") as stop:
        broken.advance(23)
    broken.stop(tmp_path / "checkpoint", state=stop.value.state)
    broken.tick = stop.value.tick
    broken.advance(40 - broken.tick)
    # Sums begin anew with a row, and every tick begins one here.
    assert_equal(broken.settled()._replace(sums=()), state._replace(sums=()))


@pytest.mark.parametrize("tick", [17, 30])
@pytest.mark.slow
def test_a_worker_that_dies_at_the_end_of_a_row_costs_no_row(tmp_path, monkeypatch, tick):
    """Every tick is a row here; the last one is sent too."""
    monkeypatch.setattr("drigm.training.runs.calibrated", lambda env, *_, **__: env)  # it sends, too
    config, send = SUBPROCESS.replace(steps=120), SubprocessVector.send
    whole, failed = train_run(config, tmp_path / "whole", quiet=True), []

    def fails_once(self, actions):
        if self.size == config.num_envs and self.ticks == tick and not failed:  # the first are those before any tick
            failed.append(tick)
            self.close()
            raise UserError("worker 0 died.")
        send(self, actions)

    monkeypatch.setattr(SubprocessVector, "send", fails_once)
    with pytest.raises(UserError, match="died"):
        train_run(config, tmp_path / "run", quiet=True)
    resumed = resume_run(tmp_path / "run", quiet=True)
    rows = [[{**row, "steps_per_s": 0.0} for row in run.directory.read_metrics(0)] for run in (whole, resumed)]
    assert len(rows[0]) == 30
    assert repr(rows[0]) == repr(rows[1])  # nan too
    assert_equal(resumed.weights(), whole.weights())


@pytest.mark.slow
@pytest.mark.parametrize(("options", "limit", "lost"), [("?fault=unseeded", None, 4), ("", 1, 4)])
def test_what_cannot_be_repeated_begins_anew_and_says_so(tmp_path, options, limit, lost):
    """Environments that draw without their seed, and episodes of five steps where one is declared."""
    run = Trained(options=options, limit=limit)
    run.advance(11)  # four or five steps into an episode
    run.stop(tmp_path / "checkpoint")
    run.advance(1)
    (note,) = run.notes
    assert note.startswith(f"{lost} of 4 episodes could not be resumed")
    ring = run.settled().ring
    first, over = (np.asarray(x)[0, 0, :12] for x in (ring.first, ring.truncated | ring.terminated))
    assert first[11].all()  # new episodes
    assert not over[10].any()  # and none that has ended instead


def test_a_limit_that_is_too_low_is_only_a_hint(tmp_path):
    """Episodes of five steps where four are declared, stopped before and at their last step."""
    whole = Trained(limit=4)
    for ticks in (10, 1, 3):
        whole.advance(ticks)
    state, parts = whole.settled(), Trained(limit=4)
    for ticks in (10, 1, 3):
        parts.advance(ticks)
        parts.stop(tmp_path / "checkpoint")
    assert_equal(parts.settled(), state)
    assert not parts.notes


@pytest.mark.slow
def test_runs_in_one_program_play_the_episodes_of_their_own_seeds():
    """What each sees and does is what it is alone; what it learns is too, up to the rounding of two side by side."""
    together = Trained(seeds=(0, 7))
    together.advance(25)
    both = together.settled()
    for k, seed in enumerate((0, 7)):
        alone = Trained(seeds=(seed,))
        alone.advance(25)
        one, mine = alone.settled(), jax.tree.map(lambda x, k=k: np.asarray(x)[:, k : k + 1], both)
        assert_equal(*(jax.tree.map(lambda x: np.asarray(x)[:, :, :STARTS], state.ring) for state in (mine, one)))
        for x, y in zip(*(jax.tree.leaves(state.learner.params) for state in (mine, one)), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    cues = np.asarray(both.ring.obs)[0, :, :STARTS, :, 0, 0]
    assert (cues[0] != cues[1]).all()  # no episode of one is the other's


@pytest.mark.slow
def test_members_that_differ_in_radius_and_seeds_train_together(tmp_path):
    config = SUBPROCESS.replace(uncertainty="tv", rho=0.1, steps=120)
    configs = {
        tmp_path / "a": config,
        tmp_path / "b": config.replace(rho=0.2, first_seed=7, seeds=2),
    }
    for run, alone in zip(train_together(configs, tmp_path, quiet=True), configs.values(), strict=True):
        assert run.directory.is_finished(alone)
    other = train_run(configs[tmp_path / "b"], tmp_path / "alone", quiet=True)
    for seed in (7, 8):
        rows, expected = (r.directory.read_metrics(seed) for r in (run, other))
        assert [row["return"] for row in rows] == pytest.approx([row["return"] for row in expected], nan_ok=True)
    for x, y in zip(jax.tree.leaves(run.weights()), jax.tree.leaves(other.weights()), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)
