"""What a run writes can be read by whom the umask says, not by its owner alone."""

import os
import stat

import numpy as np
import pytest
from matplotlib.figure import Figure

from drigm.report.figures.style import save
from drigm.runtime.files import append_text, write_text
from drigm.storage.checkpoint import load_tree, save_tree
from drigm.storage.results import store_result


@pytest.fixture(params=[0o002, 0o022, 0o027, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_files_follow_the_umask(tmp_path, umask):
    tree = {"weight": np.arange(3.0)}
    save_tree(tmp_path / "weights.safetensors", tree, keep=True)
    save_tree(tmp_path / "weights.safetensors", tree, keep=True)  # and the one that is replaced
    assert store_result(tmp_path / "scores" / "climate.json", {"suite": "climate"}, [1.0])
    write_text(tmp_path / "config.json", "{}")
    append_text(tmp_path / "metrics.csv", "step\n")
    save(Figure(), tmp_path / "learning_curve.png", dpi=10)
    written = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.rglob("*") if file.is_file()}
    assert len(written) == 6
    assert written == dict.fromkeys(written, 0o666 & ~umask)
    assert load_tree(tmp_path / "weights.safetensors", tree)["weight"].tolist() == [0.0, 1.0, 2.0]
