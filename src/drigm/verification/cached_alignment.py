"""What a run keeps beside its scores, so that no page has to compute it twice."""

from __future__ import annotations

from importlib.metadata import version

from drigm.storage.results import load_result, store_result
from drigm.training.runs import Run
from drigm.verification.greedy_alignment import Alignment, verify_run


def cached_alignment(run: Run) -> Alignment:
    """Return `verify_run`'s result, from ``scores/alignment.json`` in the run directory if it stands there already.

    What another version of drigm wrote, or is of other weights, is computed anew.

    Raises:
        UserError: the run's environment lives in another process.
    """
    file = run.path / "scores" / "alignment.json"
    key = {"version": version("drigm"), "weights": run.directory.weights_digest(run.config)}
    try:
        if (found := load_result(file, key)) is not None:
            return Alignment(**found)
    except TypeError:
        pass  # not ours
    result = verify_run(run)
    store_result(file, key, result._asdict())
    return result
