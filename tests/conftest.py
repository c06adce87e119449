"""Strict promotion for every test: a silent change of dtype or rank is an error. Two devices, one compilation cache."""

import os
import shutil
import signal
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
import numpy as np  # noqa: E402
import pytest  # noqa: E402

# A shell's background job ignores Ctrl-C, and so would every command that tests start and end by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Otherwise the number of devices would depend on which test comes first: training asks for all cores.
jax.config.update("jax_num_cpu_devices", 2)


def pytest_configure(config):
    # Left by a run that was killed while it wrote an entry; JAX then compiles anew.
    config.addinivalue_line("filterwarnings", "ignore:Error reading persistent compilation cache entry")


@pytest.fixture
def learnt(record_property):
    """Asserts a bound on what every seed has learnt, [K] or [K, ...], and keeps each seed's worst for the summary."""

    def check(name, values, *, at_least=None, at_most=None):
        values = np.asarray(values, np.float64)
        each = values.reshape(len(values), -1)
        each = each.max(axis=1) if at_least is None else each.min(axis=1)
        bound = at_most if at_least is None else at_least
        record_property(name, (each.tolist(), bound))
        held = each <= bound if at_least is None else each >= bound
        assert held.all(), f"{name}: {each} against {bound}"

    return check


@pytest.fixture(scope="module")
def chromium():
    """A headless browser; on a machine that tests every commit it must be there."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        found = None
    if found is None:
        said = "needs Chromium and playwright: apt-get install chromium, pip install 'drigm[test]'"
        pytest.fail(said) if os.environ.get("CI") == "true" else pytest.skip(said)
    with sync_playwright() as drive:
        browser = drive.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def pytest_terminal_summary(terminalreporter):
    """The distribution of every learnt number over the seeds that DRIGM_TEST_SEEDS names, beside its bound."""
    if "DRIGM_TEST_SEEDS" not in os.environ:
        return
    terminalreporter.write_line(f"{'mean':>8} {'sd':>8} {'lowest':>8} {'highest':>8} {'bound':>8} {'in sd':>6}")
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, (each, bound) in report.user_properties:
                mean, sd = np.mean(each), np.std(each, ddof=1) if len(each) > 1 else np.nan
                numbers = " ".join(f"{x:8.4f}" for x in (mean, sd, min(each), max(each), bound))
                room = min(abs(bound - mean) / max(sd, 1e-9), 999.0)
                test = report.nodeid.partition("::")[2]
                terminalreporter.write_line(f"{numbers} {room:6.1f}  {test}: {name}")
