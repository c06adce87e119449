"""Pytrees to safetensors files and back: atomic, no pickle, nothing guessed."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from drigm.errors import UserError
from drigm.types import PyTree


def save_tree(path: Path, tree: PyTree, metadata: dict[str, str] | None = None) -> None:
    """Write the arrays of ``tree`` to ``path``; a reader sees the old file or the whole new one, never a part."""
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in _named_leaves(tree)}
    temporary = path.with_name(path.name + ".part")
    save_file(arrays, temporary, metadata=metadata)
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_tree(path: Path, like: PyTree) -> PyTree:
    """Return the arrays at ``path`` in the structure of ``like`` (arrays or `jax.ShapeDtypeStruct`).

    Raises:
        UserError: the file is missing or damaged, or holds other names, shapes or types than ``like``.
    """
    arrays = _read(path)
    leaves = []
    for name, leaf in _named_leaves(like):
        if name not in arrays:
            raise UserError(f"{path}: {name} is missing; the file belongs to another configuration.")
        found = arrays.pop(name)
        if found.shape != leaf.shape or found.dtype != leaf.dtype:
            given, wanted = f"{found.dtype}{list(found.shape)}", f"{leaf.dtype}{list(leaf.shape)}"
            raise UserError(f"{path}: {name} is {given}, but this configuration needs {wanted}.")
        leaves.append(found)
    if arrays:
        raise UserError(f"{path}: {', '.join(sorted(arrays))} not known to this configuration.")
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def load_metadata(path: Path) -> dict[str, str]:
    """Return the text metadata of the file at ``path``; `UserError` if it is missing or damaged."""
    with _open(path) as file:
        return file.metadata() or {}


def _read(path: Path) -> dict[str, np.ndarray]:
    with _open(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)


def _open(path: Path):
    try:
        return safe_open(path, framework="numpy")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read as safetensors ({error}).") from None


def _named_leaves(tree: PyTree) -> list[tuple[str, jax.Array]]:
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
