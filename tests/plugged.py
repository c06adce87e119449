"""The example package of docs/plug-ins.md, and registries that a test may add to."""

from dataclasses import asdict
from pathlib import Path

import pytest
from small import SMALL

from drigm.algorithms.factorizations import FACTORIZATIONS
from drigm.algorithms.uncertainty import SETS
from drigm.core import plugins
from drigm.core.presets import KIND_SETTINGS
from drigm.envs import KINDS, imported
from drigm.envs.perturbations import PERTURBATIONS

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin" / "src"
METHOD = ("env", "factorization", "uncertainty", "rho")
TINY = {name: value for name, value in asdict(SMALL).items() if name not in METHOD} | {"quiet": True}


@pytest.fixture
def registries(monkeypatch):
    """Everything that joins during a test leaves with it, and plug-ins are looked for anew."""
    for module, name in ((plugins, "_origins"), (plugins, "_state"), (imported, "_given")):
        monkeypatch.setattr(module, name, dict(getattr(module, name)))
    plugins._state["loaded"] = False
    kept = [(registry, dict(registry)) for registry in (FACTORIZATIONS, SETS, KIND_SETTINGS, KINDS, PERTURBATIONS)]
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)


def install(folder, name, entry, source=""):
    """Make a package with an entry point as an installer would: its metadata beside its module, in ``folder``."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[drigm.plugins]\n{name} = {entry}\n")
    if source:
        (folder / f"{name}.py").write_text(source)
    return folder
