"""CPU cores as JAX devices, so that one program keeps all of them busy."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from pathlib import Path

import jax

from drigm.core.errors import UserError, warn
from drigm.runtime.files import is_own

YNN = "xla_cpu_experimental_ynn_fusion_type"  # XLA's option: what YNNPACK computes


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def use_cores(shards: int = 1) -> None:
    """Make one CPU device per usable core and at least one per shard; must come before JAX computes anything.

    Shards on devices of one core take turns; the arithmetic is then the same on any number of cores
    (`drigm.runtime.sharding`). Once JAX has computed, nothing changes.
    """
    try:
        jax.config.update("jax_num_cpu_devices", max(usable_cores(), shards))
    except RuntimeError:  # the backend is up already
        return


def runs_in_turn() -> bool:
    """Return whether a device's runs take turns: on CPUs, where what one run needs then stays in the cache.

    An accelerator is busy only with all of them at once.
    """
    return jax.default_backend() == "cpu"


@functools.cache
def compiler_options() -> dict[str, str | bool] | None:
    """Return the compiler's options for programs that run for long; None where its own choice is the best known.

    On CPUs XLA would hand sums and products to YNNPACK, which takes ten times as long for the short sums of a simulator
    and up to twice as long for the products of several runs (benchmarks/NOTES.md).
    """
    if jax.default_backend() != "cpu":
        return None
    options: dict[str, str | bool] = {YNN: ""}
    try:
        jax.jit(lambda x: x).lower(0.0).compile(compiler_options=options)
    except jax.errors.JaxRuntimeError:  # a jaxlib without YNNPACK
        return None
    return options


def spare_cores() -> int:
    """Return how many cores JAX does not compute on: none on a CPU, else all but the one that drives the device."""
    return 0 if runs_in_turn() else max(1, usable_cores() - 1)


def memory_bytes() -> int:
    """Return the bytes of memory that this machine has; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0


def cache_compilations() -> None:
    """Keep compiled programs in the user's cache directory, so that the next run of the same shapes starts at once.

    They are programs: a folder that somebody else owns or can write to is not used, which one line says.
    """
    if jax.config.values.get("jax_compilation_cache_dir") is not None:  # JAX_COMPILATION_CACHE_DIR, or set by the user
        return
    root = Path(os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"))
    for folder in (root / "drigm", root / "drigm" / "jax"):
        if not own_folder(folder):
            warn(
                f"cache: {str(folder)!r} is not used: it must be a folder of yours that only you can write (chmod 700)."
            )
            return
    jax.config.update("jax_compilation_cache_dir", str(root / "drigm" / "jax"))


def own_folder(path: Path) -> bool:
    """Return whether ``path`` is a folder of this user's that nobody else can write to, made here if it is missing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        facts = path.lstat()  # not what a link points to
    except (OSError, ValueError):
        return False
    return is_own(facts, 0o022) and stat.S_ISDIR(facts.st_mode)


def require_backend() -> None:
    """Raise `UserError` if JAX finds no device at all (a wrong JAX_PLATFORMS, say)."""
    try:
        jax.local_devices()
    except RuntimeError as error:
        raise UserError(f"jax: no usable device ({str(error).splitlines()[0]}).") from None
