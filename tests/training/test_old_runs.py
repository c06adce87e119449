"""Runs that earlier versions wrote load, with the weights, the metrics and the scores that they had."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from drigm.evaluation.evaluate import evaluate
from drigm.training.runs import load_run, resume_run

OLD = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize(("name", "scores"), [("run_0.1", [0.48046875, 0.0])])
def test_a_run_of_an_earlier_version(name, scores, tmp_path):
    path = shutil.copytree(OLD / name, tmp_path / name)
    run = load_run(path)
    assert str(run) == f"QMIX-TV 0.2 on probe:coordinate, 2 seeds of 640 steps, in {path}"
    assert [len(run.directory.read_metrics(seed)) for seed in run.seeds] == [80, 80]
    np.testing.assert_allclose(evaluate(run, "nominal", quiet=True).scores[0].per_seed, scores)
    resume_run(path, quiet=True)  # finished: nothing is trained
