"""Runs that train as one program are the runs they would be alone, and are never trained twice."""

from __future__ import annotations

import importlib
import shutil

import numpy as np
import pytest
from small import SMALL

from drigm.core.errors import UserError
from drigm.core.scales import scales_of
from drigm.evaluation.cache import cached_evaluation, cached_evaluations
from drigm.evaluation.evaluate import evaluate
from drigm.storage.checkpoint import load_arrays
from drigm.storage.run_directory import RunDirectory
from drigm.training import checkpointing
from drigm.training.runs import train_run, train_together, with_known_scales

CONFIG = SMALL.replace(env="probe:recall", uncertainty="tv", rho=0.3, seeds=2)


def configs(folder, *radii):
    return {folder / f"rho-{rho}": CONFIG.replace(rho=rho) for rho in radii}


def flat(run):
    import jax

    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(run.weights())])


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    return train_together(configs(folder, 0.0, 0.3), folder, quiet=True)


@pytest.mark.slow
def test_each_run_is_what_it_is_alone(together, tmp_path):
    for rho, run in zip((0.0, 0.3), together, strict=True):
        alone = train_run(CONFIG.replace(rho=rho), tmp_path / str(rho), quiet=True)
        np.testing.assert_allclose(flat(run), flat(alone), rtol=1e-4, atol=1e-5)
        rows, others = (r.directory.read_metrics(1) for r in (run, alone))
        assert [row["step"] for row in rows] == [row["step"] for row in others]
        assert run.config == alone.config
    assert not np.allclose(flat(together[0]), flat(together[1]), atol=1e-4)  # the radius reached the targets
    assert not list(together[0].path.parent.glob("checkpoint*"))


@pytest.mark.slow
def test_finished_runs_are_not_trained_again(together):
    folder = together[0].path.parent
    before = {run.path: run.directory.weights_file(0).stat().st_mtime_ns for run in together}
    again = train_together(configs(folder, 0.0, 0.3, 0.6), folder, quiet=True)
    assert {run.path: run.directory.weights_file(0).stat().st_mtime_ns for run in again[:2]} == before
    assert again[2].directory.is_finished(again[2].config)


@pytest.mark.slow
def test_stopped_and_called_again_is_bitwise_the_uninterrupted_session(together, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpointing, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(checkpointing, "SAVING_SHARE", float("inf"))
    saved, save = [], checkpointing.save

    def save_and_stop(session, snapshot):
        save(session, snapshot)
        saved.append(snapshot.tick)
        if len(saved) == 20:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpointing, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train_together(configs(tmp_path, 0.0, 0.3), tmp_path, quiet=True)
    monkeypatch.setattr(checkpointing, "save", save)
    newest, before = sorted(tmp_path.glob("checkpoint*"), key=lambda file: "previous" in file.name)
    assert [load_arrays(file)[1]["tick"] for file in (newest, before)] == [str(tick) for tick in (saved[-1], saved[-2])]
    for run, other in zip(train_together(configs(tmp_path, 0.0, 0.3), tmp_path, quiet=True), together, strict=True):
        for seed in run.seeds:
            assert run.directory.weights_file(seed).read_bytes() == other.directory.weights_file(seed).read_bytes()
            assert len(run.directory.read_metrics(seed)) == len(other.directory.read_metrics(seed))
    assert not list(tmp_path.glob("checkpoint*"))


class Killed(BaseException):
    """What no handler of drigm's takes for an end of its own."""


@pytest.mark.parametrize("kills", [0, 1, 2])  # after so many of the two runs' ends
@pytest.mark.slow
def test_killed_while_weights_are_written(together, tmp_path, monkeypatch, kills):
    """Runs that were begun together, beside one that had finished, go on together from their checkpoint."""
    training = importlib.import_module("drigm.training.loop")
    monkeypatch.setattr(checkpointing, "CHECKPOINT_SECONDS", 0.0)
    shutil.copytree(together[0].path, tmp_path / "rho-0.0")
    finish, done, ticks = RunDirectory.finish, [], []

    def killed(directory, config=None):
        if len(done) == kills:
            raise Killed
        done.append(directory)
        finish(directory, config)

    monkeypatch.setattr(RunDirectory, "finish", killed)
    if kills == 2:
        monkeypatch.setattr(training, "drop", killed)
    with pytest.raises(Killed):
        train_together(configs(tmp_path, 0.0, 0.3, 0.6), tmp_path, quiet=True)
    assert list(tmp_path.glob("checkpoint*"))
    monkeypatch.undo()
    advance = training._Training.advance
    monkeypatch.setattr(training._Training, "advance", lambda self: ticks.append(self.tick) or advance(self))
    again = train_together(configs(tmp_path, 0.0, 0.3, 0.6), tmp_path, quiet=True)
    assert ticks[:1] != [0]
    assert bool(ticks) == (kills < 2)
    assert all(run.directory.is_finished(run.config) for run in again)
    assert not list(tmp_path.glob("checkpoint*"))
    for run in again[1:]:
        assert [row["step"] for row in run.directory.read_metrics(0)] == [
            row["step"] for row in again[0].directory.read_metrics(0)
        ]


@pytest.mark.slow
def test_runs_that_another_process_has_just_finished_are_not_trained_again(together, tmp_path, monkeypatch):
    shutil.copytree(together[0].path, tmp_path / "rho-0.0")
    weights, locked = (tmp_path / "rho-0.0" / "weights").rename(tmp_path / "aside"), RunDirectory.locked

    def after_the_other(directory):
        shutil.copytree(weights, directory.path / "weights")
        return locked(directory)

    monkeypatch.setattr(RunDirectory, "locked", after_the_other)
    monkeypatch.setattr(importlib.import_module("drigm.training.runs"), "train_session", None)
    train_together(configs(tmp_path, 0.0), tmp_path, quiet=True)


@pytest.mark.slow
def test_members_with_other_scales_are_refused(together):
    run, other = together
    scales = scales_of(run.env.spec)
    try:
        run.directory.save_scales(scales)
        other.directory.save_scales(scales._replace(reward_scale=3.0))
        for one in together:
            one.directory.checksums_file.unlink()
        with pytest.raises(UserError, match=r"holds other scales than .*rho-0\.0/scales\.json"):
            with_known_scales(together)
    finally:
        other.directory.save_scales(scales)


def test_runs_that_differ_in_more_are_refused(tmp_path):
    others = configs(tmp_path, 0.0) | {tmp_path / "other": CONFIG.replace(gamma=0.5)}
    with pytest.raises(UserError, match=r"gamma: 0\.5 is not allowed"):
        train_together(others, tmp_path, quiet=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_directory_with_another_run_is_refused(together):
    with pytest.raises(UserError, match="has other settings"):
        train_together({together[0].path: CONFIG.replace(rho=0.1)}, together[0].path.parent, quiet=True)


@pytest.mark.slow
def test_scores_are_kept_and_are_those_of_evaluate(together, monkeypatch):
    run = together[1]
    assert cached_evaluation(run, "nominal", quiet=True) == evaluate(run, "nominal", quiet=True)
    grid = {"obs_noise": [0.0, 0.5]}
    noisy = cached_evaluation(run, "nominal", grid, quiet=True)
    monkeypatch.setattr("drigm.evaluation.cache.evaluate_together", None)  # now all comes from files
    assert cached_evaluation(run, "nominal", grid, quiet=True) == noisy
    file = run.path / "scores" / "nominal.json"
    file.write_text(file.read_text().replace('"version": "', '"version": "0.0.0-'))
    with pytest.raises(TypeError):  # another version's scores are computed anew
        cached_evaluation(run, "nominal", quiet=True)


@pytest.mark.slow
def test_runs_are_scored_together_as_each_alone(together):
    worlds = {"obs_noise": [0.0, 0.25]}
    found = cached_evaluations(together, "nominal", worlds, quiet=True)
    for run, result in zip(together, found, strict=True):
        alone = evaluate(run, "nominal", worlds, quiet=True)
        assert [world.name for world in result.scores] == [world.name for world in alone.scores]
        for score, expected in zip(result.scores, alone.scores, strict=True):
            np.testing.assert_allclose(score.per_seed, expected.per_seed, rtol=1e-5)
        assert cached_evaluation(run, "nominal", worlds, quiet=True) == result
