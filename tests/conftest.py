"""Strict promotion for every test: a silent change of dtype or rank is an error. Two devices, one compilation cache."""

import os
import shutil
from pathlib import Path

# Compiling is most of the tests' time: programs are kept from one run to the next, and shared with the processes that
# tests start (they inherit the environment). JAX reads these variables when it is imported.
CACHE = Path(__file__).parents[1] / ".pytest_cache" / "jax"
folder = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("XDG_STATE_HOME", str(CACHE.parent / "state"))  # the key that signs runs
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
if worker := os.environ.get("PYTEST_XDIST_WORKER"):  # JAX writes without a lock: every worker gets its own
    os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}-{worker}"
elif sum(file.stat().st_size for file in CACHE.parent.glob("jax*/*")) > 500e6:
    for old in CACHE.parent.glob("jax*"):
        shutil.rmtree(old, ignore_errors=True)

import jax  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Otherwise the number of devices would depend on which test comes first: training asks for all cores.
jax.config.update("jax_num_cpu_devices", 2)


def pytest_configure(config):
    # Left by a run that was killed while it wrote an entry; JAX then compiles anew.
    config.addinivalue_line("filterwarnings", "ignore:Error reading persistent compilation cache entry")
