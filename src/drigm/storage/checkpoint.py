"""Pytrees to safetensors files and back: atomic, with a checksum, no pickle, nothing guessed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open

from drigm.core.errors import UserError
from drigm.core.types import PyTree
from drigm.runtime.files import file_errors, remove, replacing

CHECKSUM = "sha256"  # the key of the metadata
WITHOUT_CHECKSUM = {"format": "drigm-weights-1"}  # the metadata of weights of drigm 0.1
ONCE_SHARED = ("obs_offset", "obs_scale")  # [O] in files of drigm 0.1, where all agents had the same; [N, O] since
_TYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bool": "BOOL"} | {
    f"{kind}{bits}": f"{kind[0].upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}


class DamagedError(UserError):
    """A file that is not what was written."""


def save_tree(path: Path, tree: PyTree, metadata: dict[str, str] | None = None, *, keep: bool = False) -> None:
    """Write the arrays of ``tree`` to ``path``; a reader sees the old file or the whole new one, never a part.

    Args:
        path: the file.
        tree: arrays.
        metadata: texts that are kept with them.
        keep: leave the old file beside the new one, see `previous`.

    Raises:
        FileError: it cannot be written.
    """
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in _named_leaves(tree)}
    metadata = dict(metadata or {})
    metadata[CHECKSUM] = _checksum(arrays, metadata)
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _TYPES[array.dtype.name], "shape": array.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with file_errors(path), replacing(path) as temporary:
        with open(temporary, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for array in arrays.values():
                file.write(_bytes(array))
            file.flush()
            os.fsync(file.fileno())
        if keep:
            _keep(path)


def previous(path: Path) -> Path:
    """Return where the checkpoint before the one at ``path`` is."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def drop(path: Path) -> None:
    """Remove the checkpoint at ``path``, the one before, and what a kill has left of another."""
    for file in (path, previous(path), path.with_name(path.name + ".part")):
        remove(file)


def load_tree(path: Path, like: PyTree) -> PyTree:
    """Return the arrays at ``path`` in the structure of ``like`` (arrays or `jax.ShapeDtypeStruct`).

    Raises:
        DamagedError: the file is missing or damaged.
        UserError: it holds other names, shapes or types than ``like``.
    """
    return as_tree(load_arrays(path)[0], like, path)


def as_tree(arrays: dict[str, np.ndarray], like: PyTree, path: Path) -> PyTree:
    """Return ``arrays``, those at ``path``, in the structure of ``like``; see `load_tree`."""
    arrays, leaves = dict(arrays), []
    for name, leaf in _named_leaves(like):
        if name not in arrays:
            raise UserError(f"{path}: {name} is missing; the file belongs to another configuration.")
        found = arrays.pop(name)
        if name.rpartition(".")[2] in ONCE_SHARED and found.shape == leaf.shape[1:]:
            found = np.broadcast_to(found, leaf.shape)
        if found.shape != leaf.shape or found.dtype != leaf.dtype:
            given, wanted = f"{found.dtype}{list(found.shape)}", f"{leaf.dtype}{list(leaf.shape)}"
            raise UserError(f"{path}: {name} is {given}, but this configuration needs {wanted}.")
        leaves.append(found)
    if arrays:
        raise UserError(f"{path}: {', '.join(sorted(arrays))} not known to this configuration.")
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays by name and the metadata of the file at ``path``.

    Raises:
        DamagedError: it is missing, damaged, or its checksum is not that of its content.
    """
    with _reading(path), safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        metadata = file.metadata() or {}
    given = metadata.pop(CHECKSUM, None)
    if metadata != WITHOUT_CHECKSUM and given != _checksum(arrays, metadata):
        raise DamagedError(f"{path}: is damaged; its checksum is not that of its content.")
    return arrays, metadata


def not_finite(tree: PyTree) -> str | None:
    """Return the name of an array of ``tree`` that holds a NaN or an infinity; None if there is none."""
    for name, leaf in _named_leaves(tree):
        array = np.asarray(leaf)
        if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
            return name
    return None


@contextlib.contextmanager
def _reading(path: Path):
    """Say of what the library cannot read that it is damaged; of a file from elsewhere it raises almost anything."""
    try:
        yield
    except DamagedError:
        raise
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, AttributeError, MemoryError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise DamagedError(f"{path}: cannot be read as safetensors ({why[:200]}).") from None


def _checksum(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    """Return the SHA-256 of metadata, names, types, shapes and values."""
    found = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        found.update(json.dumps([name, array.dtype.name, array.shape]).encode())
        found.update(_bytes(array))
    return found.hexdigest()


def _bytes(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _keep(path: Path) -> None:
    """Give the file at ``path`` a second name, under which it stays when another takes its place."""
    older = previous(path)
    older.unlink(missing_ok=True)
    try:
        os.link(path, older)
    except FileNotFoundError:
        return
    except OSError:  # a file system without links
        os.replace(path, older)


def _named_leaves(tree: PyTree) -> list[tuple[str, jax.Array]]:
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
