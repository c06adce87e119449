"""CPU cores as JAX devices, so that one program keeps all of them busy."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import jax

from drigm.errors import UserError


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def use_cores(shards: int = 1) -> None:
    """Make one CPU device per usable core and at least one per shard; must come before JAX computes anything.

    Shards on devices of one core take turns; the arithmetic is then the same on any number of cores (`drigm.layout`).
    Once JAX has computed, nothing changes.
    """
    try:
        jax.config.update("jax_num_cpu_devices", max(usable_cores(), shards))
    except RuntimeError:  # the backend is up already
        return


@functools.cache
def processor() -> dict[str, str]:
    """Return what Linux tells of the first processor, such as its ``model name`` and ``flags``; nothing elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return {}
    told = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in told}


def runs_in_turn() -> bool:
    """Return whether a device's runs take turns: on CPUs, where what one run needs then stays in the cache.

    An accelerator is busy only with all of them at once.
    """
    return jax.default_backend() == "cpu"


def spare_cores() -> int:
    """Return how many cores JAX does not compute on: none on a CPU, else all but the one that drives the device."""
    return 0 if runs_in_turn() else max(1, usable_cores() - 1)


def cache_compilations() -> None:
    """Keep compiled programs in the user's cache directory, so that the next run of the same shapes starts at once."""
    if jax.config.values.get("jax_compilation_cache_dir") is not None:  # JAX_COMPILATION_CACHE_DIR, or set by the user
        return
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    jax.config.update("jax_compilation_cache_dir", os.path.join(root, "drigm", "jax"))


def require_backend() -> None:
    """Raise `UserError` if JAX finds no device at all (a wrong JAX_PLATFORMS, say)."""
    try:
        jax.local_devices()
    except RuntimeError as error:
        raise UserError(f"jax: no usable device ({str(error).splitlines()[0]}).") from None
