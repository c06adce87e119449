"""What a run directory knows about how good its team is: the scores that evaluations have stored in it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from drigm.core.errors import UserError
from drigm.core.json_files import read_object
from drigm.evaluation.cache import opened_id, stored_evaluation
from drigm.evaluation.scores import Evaluation
from drigm.evaluation.statistics import interval, mean
from drigm.training.runs import Run


def stored_scores(run: Run, seed: int) -> list[dict[str, Any]]:
    """Return each stored evaluation of these very weights: scores per world, the worst, and intervals over seeds."""
    found = list[dict[str, Any]]()
    folder = run.directory.path / "scores"
    for file in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            key = read_object(file, finite=False)["key"]
            if "trim" in key:
                continue  # what is exported has none
            suite, perturb = str(key["suite"]), dict(key["perturb"])
            evaluation = stored_evaluation(run.directory, run.config, suite, perturb, opened_id(run))
        except (UserError, KeyError, TypeError, ValueError):
            continue  # not one of these, or of other weights
        if evaluation is not None and file.stem.startswith(suite):
            found.append(_described(evaluation, perturb, run.seeds.index(seed), len(run.seeds)))
    return found


def _described(evaluation: Evaluation, perturb: dict[str, Any], place: int, seeds: int) -> dict[str, Any]:
    scores = np.array([score.per_seed for score in evaluation.scores], np.float64)  # [W, K]
    own = scores[:, place]
    worlds = [
        {"world": score.name, "score": _plain(own[w]), "seeds": _over_seeds(scores[w][:, None])}
        for w, score in enumerate(evaluation.scores)
    ]
    finite = np.where(np.isfinite(own), own, np.inf)
    worst = worlds[int(finite.argmin())]
    return {
        "suite": evaluation.suite,
        "perturb": perturb or None,
        "seeds": seeds,
        "worlds": worlds,
        "worst": {"world": worst["world"], "score": worst["score"]},
        "mean": {"score": _plain(own.mean()), "seeds": _over_seeds(scores.T)},
        "worst_per_seed": _over_seeds(scores.min(axis=0)[:, None]),
    }


def _over_seeds(scores: np.ndarray) -> dict[str, float | None]:
    """Return the mean over seeds of scores [K, W], with the ends of its 95 % interval; one seed allows none."""
    if len(scores) < 2 or not np.isfinite(scores).all():
        return {"mean": _plain(scores.mean()), "low": None, "high": None}
    found = interval(scores, mean)
    return {"mean": _plain(found.estimate), "low": _plain(found.low), "high": _plain(found.high)}


def _plain(x: Any) -> float | None:
    return float(x) if math.isfinite(x) else None
