"""What a run keeps beside its scores, so that no page has to compute it twice."""

from __future__ import annotations

import json
from importlib.metadata import version

from drigm.alignment import Alignment, verify_run
from drigm.run_directory import write_text
from drigm.train import Run


def cached_alignment(run: Run) -> Alignment:
    """Return `verify_run`'s result, from ``scores/alignment.json`` in the run directory if it stands there already.

    What another version of drigm wrote is computed anew.

    Raises:
        UserError: the run's environment lives in another process.
    """
    file = run.path / "scores" / "alignment.json"
    try:
        found = json.loads(file.read_text())
        if found.pop("version") == version("drigm"):
            return Alignment(**found)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or not ours
    result = verify_run(run)
    file.parent.mkdir(exist_ok=True)
    write_text(file, json.dumps({"version": version("drigm"), **result._asdict()}, indent=2))
    return result
