"""Strict promotion for every test: a silent change of dtype or rank is an error. Two devices, one compilation cache."""

import os
import shutil
from pathlib import Path

# Compiling is most of the tests' time: programs are kept from one run to the next, and shared with the processes that
# tests start (they inherit the environment). JAX reads these variables when it is imported.
CACHE = Path(__file__).parents[1] / ".pytest_cache" / "jax"
if CACHE.exists() and sum(file.stat().st_size for file in CACHE.iterdir()) > 300e6:
    shutil.rmtree(CACHE, ignore_errors=True)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Otherwise the number of devices would depend on which test comes first: training asks for all cores.
jax.config.update("jax_num_cpu_devices", 2)
