"""Compiled programs kept on disk so that training starts without tracing them.

JAX's own cache is asked for a program once it is traced and lowered, which takes a second or two. A kept program is
found by what it was made of: drigm's code, the settings, the environment, the versions of the libraries below and the
processor. Only what drigm made of its own parts can be named like that (`program_name`); everything else is traced, as
is everything where JAX's cache is off, ``DRIGM_KEEP_PROGRAMS`` is 0 or an accelerator computes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import pickle
import platform
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import serialize_executable
from jax.sharding import NamedSharding

from drigm.baselines import BASELINES
from drigm.config import TrainConfig
from drigm.devices import runs_in_turn, usable_cores
from drigm.envs import made_by_name
from drigm.envs.api import Environment
from drigm.factorizations import FACTORIZATIONS
from drigm.types import PyTree
from drigm.uncertainty import SETS

SWITCH = "DRIGM_KEEP_PROGRAMS"
LIBRARIES = ("jax", "jaxlib", "numpy", "equinox", "optax", "jaxmarl")
FLAGS = ("XLA_FLAGS", "PJRT_NPROC")
Program = Callable[..., Any]  # of a flat list of arrays, to one


def program_name(config: TrainConfig, env: Environment, runs: int) -> str | None:
    """Return what the training programs of ``config`` in ``env`` are kept under; None: they cannot be.

    They cannot where code of others takes part, which may change unseen (environments in other processes take part with
    their spec alone), or source worlds do.

    Args:
        config: the settings that all runs share; its own seeds and radius do not count.
        env: the environment.
        runs: how many.
    """
    parts = BASELINES[config.baseline], FACTORIZATIONS[config.factorization], SETS[config.uncertainty]
    if parts[0].needs_sources or not all(_is_own(part) for part in parts):
        return None
    if env.host is None and not made_by_name(env):
        return None
    return _digest([config.to_json(), runs, *env.spec, *_labelled(env.params), *_loaded("jaxmarl")])


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
    return None if off or not place or "://" in place or not runs_in_turn() else Path(place) / "drigm"


class _Heard(threading.local):
    """JAX's events in this thread."""

    def __init__(self) -> None:
        self.events: list[str] = []


_heard = _Heard()
jax.monitoring.register_event_listener(lambda event, **_: _heard.events.append(event))


class Kept:
    """A jitted function whose programs are looked for on disk first, one for each set of shapes."""

    def __init__(self, function: Callable[..., Any], name: str, part: str, options: dict[str, Any]) -> None:
        self.function, self.name, self.part, self.options = function, name, part, options
        self.programs: dict[Any, tuple[Program, Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        leaves, tree = jax.tree.flatten(arguments)
        shapes = tuple((np.shape(x), np.dtype(x.dtype).name, _placed(x)) for x in leaves)
        found = self.programs.get((tree, shapes))
        if found is None:
            found = self.programs[tree, shapes] = self._find(arguments, leaves, shapes)
        program, out = found
        return jax.tree.unflatten(out, program(*leaves))

    def lower(self, *arguments: Any) -> Any:
        """Return what `jax.jit` would: lowered anew, with arguments that keep their structure."""
        return jax.jit(self.function, **self.options).lower(*arguments)

    def _find(self, arguments: Any, leaves: list[Any], shapes: Any) -> tuple[Program, Any]:
        where = folder()
        key = _digest([self.name, self.part, str(jax.tree.structure(arguments)), str(shapes), str(self.options), *_machine()])
        file = None if where is None else where / f"{key}.program"
        sharding = self.options.get("out_shardings")
        devices = jax.local_devices()[:1] if sharding is None else list(sharding.mesh.devices.flat)
        found = None if file is None else _load(file, len(leaves), devices)
        if found is None:
            *found, fresh = self._compile(arguments, leaves)
            if file is not None and fresh:
                _save(file, *found)
        program, skeleton = found
        return program, jax.tree.structure(skeleton)

    def _compile(self, arguments: Any, leaves: list[Any]) -> tuple[Any, PyTree, bool]:
        """Return the program, a tree of numbers with its results' structure, and whether it can be written."""
        options, tree, out = dict(self.options), jax.tree.structure(arguments), []

        def flat(*leaves: Any) -> list[Any]:
            results, structure = jax.tree.flatten(self.function(*jax.tree.unflatten(tree, leaves)))
            out[:] = [structure]
            return results

        donated = options.pop("donate_argnums", None)
        if donated is not None:
            first = len(jax.tree.leaves(arguments[:donated]))
            options["donate_argnums"] = tuple(range(first, first + len(jax.tree.leaves(arguments[donated]))))
        lowered = jax.jit(flat, **options).lower(*leaves)
        _heard.events = []
        program = lowered.compile()
        # What JAX's own cache held cannot be written once more: XLA then loses functions of it. So JAX must have said
        # that it asked the cache, and not that it found anything.
        fresh = "/jax/compilation_cache/compile_requests_use_cache" in _heard.events
        fresh = fresh and "/jax/compilation_cache/cache_hits" not in _heard.events
        return program, jax.tree.unflatten(out[0], range(out[0].num_leaves)), fresh


def _load(file: Path, count: int, devices: list[jax.Device]) -> tuple[Program, PyTree] | None:
    """Return a program of ``count`` arrays and its results' skeleton; None if the file is not there or not whole."""
    try:
        digest, body = (data := file.read_bytes())[:32], data[32:]
    except OSError:
        return None
    if hashlib.sha256(body).digest() != digest:
        return None
    try:
        program, skeleton = pickle.loads(body)
        structure = jax.tree.structure(((0,) * count, {})), jax.tree.structure([0] * len(jax.tree.leaves(skeleton)))
        return serialize_executable.deserialize_and_load(program, *structure, execution_devices=devices), skeleton
    except Exception:  # of another JAX, say, whatever its name told: it is compiled anew
        return None


def _save(file: Path, program: Any, skeleton: PyTree) -> None:
    """Write a program where `_load` finds it; one that cannot be written is compiled again next time."""
    try:
        body = pickle.dumps((serialize_executable.serialize(program)[0], skeleton))
    except (ValueError, NotImplementedError, TypeError, AttributeError, pickle.PicklingError):
        return
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as new:
            new.write(hashlib.sha256(body).digest() + body)
        os.replace(new.name, file)  # others may read at the same time


def _placed(x: Any) -> str:
    """How an argument is spread over devices."""
    sharding = getattr(x, "sharding", None)
    return str(sharding) if isinstance(sharding, NamedSharding) else ""


def _is_own(part: Sequence[Any]) -> bool:
    """Whether every function of a record is drigm's."""
    return all(str(getattr(x, "__module__", "")).startswith("drigm.") for x in part if callable(x))


def _labelled(tree: PyTree) -> list[Any]:
    return [x for path, leaf in jax.tree.leaves_with_path(tree) for x in (jax.tree_util.keystr(path), leaf)]


def _loaded(package: str) -> list[Any]:
    """The files of the modules of a package that are loaded, and what is in them."""
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == package]
    files = sorted({file for module in modules if (file := getattr(module, "__file__", None))})
    return [x for file in files for x in (file, Path(file).read_bytes())]


def _digest(parts: Sequence[Any]) -> str:
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray | jax.Array):
            found.update(f"{part.dtype}{part.shape}".encode())
            found.update(np.ascontiguousarray(part).tobytes())
        else:
            found.update(repr(part).encode())
        found.update(b"\0")
    return found.hexdigest()


def _machine() -> list[Any]:
    """What a program depends on besides its name: JAX's settings, devices, processor, versions and code."""
    settings = {name: getattr(jax.config, name, x) for name, x in sorted(jax.config.values.items()) if "cache" not in name}
    flags = [os.environ.get(flag) for flag in FLAGS]
    devices = [f"{device.platform} {device.device_kind}" for device in jax.local_devices()]
    return [settings, flags, usable_cores(), devices, sys.version, _processor(), *_code()]


def _processor() -> list[str]:
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return list(platform.uname())
    return [line for line in first.splitlines() if line.startswith(("model name", "flags", "Features"))]


@functools.cache
def _code() -> tuple[str, ...]:
    """The versions of the libraries, and a digest of drigm's files."""
    versions = []
    for library in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{library} {importlib.metadata.version(library)}")
    with resources.as_file(resources.files("drigm")) as package:
        files = sorted(file for file in package.rglob("*") if file.is_file() and file.suffix != ".pyc")
        return *versions, _digest([x for file in files for x in (str(file.relative_to(package)), file.read_bytes())])
