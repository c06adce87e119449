"""Compiled programs kept on disk so that training starts without tracing them.

JAX's own cache is asked for a program once it is traced and lowered, which takes a second or two. A kept program is
found by what it was made of: drigm's code, the settings, the environment, the versions of the libraries below it and
the processor (`drigm.fingerprint`). What has no such name is traced, as is everything where JAX's cache is off, where
``DRIGM_KEEP_PROGRAMS`` is 0, and where an accelerator computes.

Such a file is machine code that JAX writes and reads, with pickle inside `jax.experimental.serialize_executable`. It is
as much to be trusted as JAX's own cache beside it, and nothing to hand on.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.experimental import serialize_executable
from jax.sharding import NamedSharding

from drigm.devices import runs_in_turn
from drigm.fingerprint import digest, machine
from drigm.structure import from_json, to_json

SWITCH = "DRIGM_KEEP_PROGRAMS"
MOST_BYTES = 500_000_000
Program = Callable[..., Any]  # of a flat list of arrays, to one


def keep(function: Callable[..., Any], name: str | None, part: str, **options: Any) -> Any:
    """Return ``jax.jit(function, **options)``, kept on disk if ``name`` is given and keeping is on.

    Args:
        function: of pytrees of arrays, to one.
        name: as `program_name` returns it.
        part: which of a run's programs it is.
        options: of `jax.jit`; ``donate_argnums`` is one number.
    """
    return jax.jit(function, **options) if name is None or folder() is None else Kept(function, name, part, options)


def folder() -> Path | None:
    """Return where programs are kept, beside JAX's own; None where they are not."""
    place = jax.config.values.get("jax_compilation_cache_dir")
    off = os.environ.get(SWITCH) == "0" or not jax.config.values.get("jax_enable_compilation_cache")
    off = off or not runs_in_turn() or jax.config.values.get("jax_default_device") is not None
    return None if off or not place or "://" in place else Path(place) / "drigm"


class _Heard(threading.local):
    """JAX's events in this thread."""

    def __init__(self) -> None:
        self.events: set[str] = set()


_heard = _Heard()
jax.monitoring.register_event_listener(lambda event, **_: _heard.events.add(event))


class Kept:
    """A jitted function whose programs are looked for on disk first, one for each set of shapes."""

    def __init__(self, function: Callable[..., Any], name: str, part: str, options: dict[str, Any]) -> None:
        self.function, self.name, self.part, self.options = function, name, part, options
        self.programs: dict[Any, tuple[Program, Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        leaves, tree = jax.tree.flatten(arguments)
        shapes = tuple((x.shape, str(x.dtype), _placed(x)) for x in leaves)
        found = self.programs.get((tree, shapes))
        if found is None:
            found = self.programs[tree, shapes] = self._find(arguments, leaves, shapes)
        program, out = found
        return jax.tree.unflatten(out, program(*leaves))

    def lower(self, *arguments: Any) -> Any:
        """Return what `jax.jit` would: lowered anew, with arguments that keep their structure."""
        return jax.jit(self.function, **self.options).lower(*arguments)

    def _find(self, arguments: Any, leaves: list[Any], shapes: Any) -> tuple[Program, Any]:
        inputs = str(jax.tree.structure(arguments)), str(shapes)
        where, key = folder(), digest([self.name, self.part, *inputs, str(self.options), *machine()])
        file = None if where is None or key is None else where / f"{key}.program"
        sharding = self.options.get("out_shardings")
        devices = jax.local_devices()[:1] if sharding is None else list(sharding.mesh.devices.flat)
        found = None if file is None else _load(file, len(leaves), devices)
        if found is None:
            found = self._compile(arguments, leaves)
            if file is not None and _is_fresh():
                _save(file, *found)
        return found

    def _compile(self, arguments: Any, leaves: list[Any]) -> tuple[Program, Any]:
        """Return the program, and its results' structure."""
        options, tree, out = dict(self.options), jax.tree.structure(arguments), []

        def flat(*leaves: Any) -> list[Any]:
            results, structure = jax.tree.flatten(self.function(*jax.tree.unflatten(tree, leaves)))
            out[:] = [structure]
            return results

        donated = options.pop("donate_argnums", None)
        if donated is not None:
            first = len(jax.tree.leaves(arguments[:donated]))
            options["donate_argnums"] = tuple(range(first, first + len(jax.tree.leaves(arguments[donated]))))
        flat.__name__ = self.part  # what a profile shows
        lowered = jax.jit(flat, **options).lower(*leaves)
        _heard.events.clear()
        return lowered.compile(), out[0]


def _is_fresh() -> bool:
    """Whether what this thread compiled last was not in JAX's own cache: XLA loses functions of what is written twice.

    JAX must have said that it asked the cache, and not that it found anything.
    """
    asked, found = (f"/jax/compilation_cache/{event}" for event in ("compile_requests_use_cache", "cache_hits"))
    return asked in _heard.events and found not in _heard.events


def _load(file: Path, count: int, devices: list[Any]) -> tuple[Program, Any] | None:
    """Return a program of ``count`` arrays and its results' structure; None if the file is not there or not whole."""
    try:
        expected, body = (data := file.read_bytes())[:32], data[32:]
    except OSError:
        return None
    if hashlib.sha256(body).digest() != expected:
        return None
    with contextlib.suppress(OSError):
        os.utime(file)  # the oldest are dropped first
    try:
        told, _, program = body.partition(b"\n")
        out = from_json(json.loads(told))
        flat = jax.tree.structure(((0,) * count, {})), jax.tree.structure([0] * out.num_leaves)
        return serialize_executable.deserialize_and_load(program, *flat, execution_devices=devices), out
    except Exception:  # of another JAX, say, whatever its name told: it is compiled anew
        return None


def _save(file: Path, program: Any, out: Any) -> None:
    """Write a program where `_load` finds it; one that cannot be written is compiled again next time."""
    try:
        body = json.dumps(to_json(out)).encode() + b"\n" + serialize_executable.serialize(program)[0]
    except (ValueError, NotImplementedError, TypeError, AttributeError):
        return
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as place:  # others may write and read the same at this time
            new = Path(place) / file.name
            new.write_bytes(hashlib.sha256(body).digest() + body)
            os.replace(new, file)
        _drop_oldest(file.parent)


def _drop_oldest(place: Path) -> None:
    """Remove the programs that were not used for longest, as far as all are larger than `MOST_BYTES`."""
    files = sorted(place.glob("*.program"), key=lambda file: file.stat().st_mtime, reverse=True)
    sizes = itertools.accumulate(file.stat().st_size for file in files)
    for file, total in zip(files, sizes, strict=True):
        if total > MOST_BYTES:
            file.unlink(missing_ok=True)


def _placed(x: Any) -> str:
    """How an argument is spread over devices."""
    sharding = getattr(x, "sharding", None)
    return str(sharding) if isinstance(sharding, NamedSharding) else ""
