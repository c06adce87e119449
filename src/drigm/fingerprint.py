"""What compiled programs are made of: names under which they can be kept, and found without tracing.

Only what drigm made of its own parts can be named.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import numpy as np

from drigm.baselines import BASELINES
from drigm.config import TrainConfig
from drigm.devices import processor, usable_cores
from drigm.envs import made_by_name
from drigm.envs.api import Environment
from drigm.envs.perturbations import PERTURBATIONS, parse_grid
from drigm.factorizations import FACTORIZATIONS
from drigm.types import PyTree
from drigm.uncertainty import SETS

LIBRARIES = ("jax", "jaxlib", "numpy", "equinox", "optax", "jaxmarl")
FLAGS = ("XLA_FLAGS", "PJRT_NPROC")
PROCESSOR = ("model name", "flags", "Features")  # Linux's names of them; the last is Arm's


def program_name(config: TrainConfig, env: Environment, runs: int) -> str | None:
    """Return what the training programs of ``config`` in ``env`` are kept under; None: they cannot be.

    They cannot where code of others takes part, which may change unseen (environments in other processes take part with
    their spec alone), or source worlds do.

    Args:
        config: the settings that all runs share; its own seeds and radius do not count.
        env: the environment.
        runs: how many.
    """
    baseline, lies = BASELINES[config.baseline], [PERTURBATIONS.get(lie, ()) for lie in parse_grid(config.perturb)]
    parts = baseline, FACTORIZATIONS[config.factorization], SETS[config.uncertainty], *lies
    if baseline.needs_sources or not all(_is_own(part) for part in parts):
        return None
    if env.host is None and not made_by_name(env):
        return None
    return digest([config.to_json(), runs, *env.spec, *_labelled(env.params), *_loaded("jaxmarl")])


def digest(parts: Sequence[Any]) -> str | None:
    """Return a digest of arrays, bytes, and what else has a `repr` of its own; None where one is only an address."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes):
            text = str(len(part))
            found.update(part)
        elif isinstance(part, np.ndarray | jax.Array):
            text = f"{part.dtype}{part.shape}"
            found.update(np.ascontiguousarray(part).tobytes())
        else:
            text = repr(part)
            if " at 0x" in text:
                return None
        found.update(text.encode() + b"\0")
    return found.hexdigest()


def machine() -> list[Any]:
    """What a program depends on besides its name: JAX's settings, devices, processor, versions and code."""
    settings = {
        name: getattr(jax.config, name, x) for name, x in sorted(jax.config.values.items()) if "cache" not in name
    }
    flags = [os.environ.get(flag) for flag in FLAGS]
    devices = [f"{device.platform} {device.device_kind}" for device in jax.local_devices()]
    told = [processor().get(name) for name in PROCESSOR] if processor() else platform.uname()
    versions = [version_of(library) for library in LIBRARIES]
    return [settings, flags, usable_cores(), devices, sys.version, told, versions, _CODE]


def version_of(package: str) -> str | None:
    """Return the version of an installed package; None where it is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


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


def _package_files() -> str | None:
    with resources.as_file(resources.files("drigm")) as package:
        files = sorted(file for file in package.rglob("*") if file.is_file() and file.suffix != ".pyc")
        return digest([x for file in files for x in (str(file.relative_to(package)), file.read_bytes())])


_CODE = _package_files()  # now: who edits drigm while it runs trains what was imported
