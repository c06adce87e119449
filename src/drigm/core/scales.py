"""How readings, state and rewards are standardised, as a record that a run stores (scales.json)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from drigm.core.errors import UserError
from drigm.core.json_files import json_digest, parse_object
from drigm.core.types import EnvSpec


class Scales(NamedTuple):
    """How readings, state and rewards are standardised: ``(x - offset) / scale`` and ``reward * reward_scale``."""

    obs_offset: Float32[np.ndarray, "N O"]
    obs_scale: Float32[np.ndarray, "N O"]
    state_offset: Float32[np.ndarray, " S"]
    state_scale: Float32[np.ndarray, " S"]
    reward_scale: float


def scales_of(spec: EnvSpec) -> Scales:
    """Return the scales of ``spec``."""
    return Scales(*(getattr(spec, name) for name in Scales._fields))


def to_text(scales: Scales) -> str:
    """Return ``scales`` as JSON, exactly, with a digest of the numbers."""
    content = {name: np.asarray(value).tolist() for name, value in scales._asdict().items()}
    return json.dumps({**content, "digest": json_digest(content)}, indent=1)


def from_text(text: bytes, spec: EnvSpec, where: Path) -> Scales:
    """Return the scales that `to_text` wrote, for an environment with ``spec``.

    Raises:
        UserError: the text was changed, or belongs to another environment; the message names ``where`` it stood.
    """
    try:
        content = parse_object(text, where)
        digest = content.pop("digest")
        with np.errstate(over="ignore"):  # too large for float32: not finite
            arrays = [np.array(content[name], np.float32) for name in Scales._fields[:-1]]
        scales = Scales(*arrays, reward_scale=float(content["reward_scale"]))
        whole = digest == json_digest(content) and all(np.isfinite(x).all() for x in scales)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        whole, scales = False, scales_of(spec)
    if not whole:
        raise UserError(f"{where}: damaged; it must hold the scales that were measured when training began.")
    for name, found, needed in zip(Scales._fields, scales, scales_of(spec), strict=True):
        shape, wanted = np.shape(found), np.shape(needed)
        if shape != wanted:
            raise UserError(f"{where}: {name} has shape {list(shape)}, but {spec.name} needs {list(wanted)}.")
    return scales
