"""Results that a run keeps beside its weights, each with its key and a checksum, so that nothing is computed twice."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drigm.core.errors import UserError
from drigm.core.json_files import json_digest, read_object
from drigm.runtime.files import FileError, make_folder, write_text


def load_result(file: Path, key: Mapping[str, Any]) -> Any | None:
    """Return the result that `store_result` wrote to ``file`` under this ``key``; None if there is no such."""
    try:
        found = read_object(file, finite=False)  # a score may be NaN
        if found["key"] == key and found["sha256"] == json_digest([key, found["result"]]):
            return found["result"]
    except (UserError, KeyError):
        pass  # not there, damaged, or not ours: it is computed again
    return None


def store_result(file: Path, key: Mapping[str, Any], result: Any) -> bool:
    """Write ``result``, which JSON can hold, to ``file``; returns whether that was possible.

    A result need not be kept to be shown, as that of a run in a folder that only others may write to.
    """
    content = {"key": key, "sha256": json_digest([key, result]), "result": result}
    try:
        make_folder(file.parent)
        write_text(file, json.dumps(content, indent=2))
    except FileError:
        return False
    return True


def to_json(value: Any) -> str:
    """Return ``value`` as JSON, which has no NaN and no infinities: they are null."""
    return json.dumps(_plain(value), indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
