"""The structure of pytrees as JSON, for those made of tuples, lists, dictionaries, dataclasses and plain values.

Classes are named by module and name and looked up when they are read; nothing else of a file becomes code.
"""

from __future__ import annotations

import dataclasses
import importlib
import operator
from typing import Any

import jax

LEAF = object()


def to_json(structure: Any) -> Any:
    """Return ``structure``, a `PyTreeDef`, as what JSON can hold.

    Raises:
        TypeError: something in it is of another kind, or does not come back as it was.
    """
    told = _told(jax.tree.unflatten(structure, [LEAF] * structure.num_leaves))
    if from_json(told) != structure:
        raise TypeError("a structure that does not come back as it was")
    return told


def from_json(told: Any) -> Any:
    """Return the structure that `to_json` was given."""
    return jax.tree.structure(_made(told))


def _told(x: Any) -> Any:
    if x is LEAF:
        return {"leaf": True}
    if x is None or isinstance(x, bool | int | float | str):
        return x
    if type(x) in (tuple, list):
        return {type(x).__name__: [_told(y) for y in x]}
    if type(x) is dict and all(isinstance(name, str) for name in x):
        return {"dict": {name: _told(y) for name, y in x.items()}}
    kind = f"{type(x).__module__}:{type(x).__qualname__}"
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return {"named": kind, "of": [_told(y) for y in x]}
    if dataclasses.is_dataclass(x):
        return {"dataclass": kind, "of": {name: _told(y) for name, y in vars(x).items()}}
    raise TypeError(f"a structure with {type(x).__name__} in it")


def _made(told: Any) -> Any:
    match told:
        case {"leaf": True}:
            return LEAF
        case {"tuple": members}:
            return tuple(_made(x) for x in members)
        case {"list": members}:
            return [_made(x) for x in members]
        case {"dict": members}:
            return {name: _made(x) for name, x in members.items()}
        case {"named": kind, "of": members}:
            return _class_of(kind)(*(_made(x) for x in members))
        case {"dataclass": kind, "of": members}:
            made = object.__new__(_class_of(kind))  # as it was, whatever its own constructor would check
            for name, x in members.items():
                object.__setattr__(made, name, _made(x))
            return made
        case _:
            return told


def _class_of(kind: str) -> Any:
    """Return a class, with its module alone imported: those around JaxMARL's compute while they are imported."""
    module, _, name = kind.partition(":")
    return operator.attrgetter(name)(importlib.import_module(module))
