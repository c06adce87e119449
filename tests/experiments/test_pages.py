"""The Python blocks of the documents, and the notebooks, run as they are written."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = ("choosing-a-radius.md", "quickstart.md")
ELSEWHERE = ("deploying.md", "plug-ins.md")  # tests/deployment/test_page.py, tests/experiments/test_plug_ins.py
NOT_YET = (  # these need a long training, a file of the reader's, or another program
    "building.md",
    "energyplus.md",
    "perturbations.md",
    "report.md",
    "supply.md",
    "sweeps.md",
    "usage.md",
    "verify.md",
    "your-environment.md",
)
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
KERNEL_SECONDS = 600


def blocks(page: str) -> list[str]:
    return BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))


def test_every_page_with_python_is_in_one_of_the_lists():
    found = [page.name for page in DOCS.glob("*.md") if blocks(page.name)]
    assert sorted(found) == sorted([*RUN, *ELSEWHERE, *NOT_YET])


def test_blocks_are_valid_python():
    for page in (*RUN, *NOT_YET):
        for block in blocks(page):
            compile(block, page, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_the_pages_blocks_run(page, tmp_path, monkeypatch, capsys):
    """One after another, in one session, in an empty folder beside the examples."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "__main__"}
    for block in blocks(page):
        exec(compile(block, page, "exec"), names)
    shown = capsys.readouterr().out
    if page == "quickstart.md":
        assert [score.name for score in names["result"].scores][0::5] == ["Tucson", "NewYork"]
        assert re.search(r"a day scores 0\.\d{3}\n", shown)
    else:
        assert "rho 0: 333 steps\nrho 0.01: 77 steps\nrho 0.1: 10 steps\nrho 0.5: 2 steps\n" in shown
        (safe,) = [line for line in shown.splitlines() if line.startswith("tv-rho-0.6")]
        assert safe.count("0.250 ± 0.000") == 7


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda file: file.stem)
def test_the_notebook_runs(notebook, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", ":".join([str(ROOT / "src"), *filter(None, sys.path)]))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    content = nbformat.read(notebook, as_version=4)
    nbformat.validate(content)
    assert all(cell.cell_type != "code" or cell.outputs == [] for cell in content.cells)  # committed without
    nbclient.NotebookClient(
        content, timeout=KERNEL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in content.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2
    assert any("step=" in output.get("text", "") or "steps" in output.get("text", "") for output in outputs)


def test_there_are_two_notebooks():
    assert [file.stem for file in NOTEBOOKS] == ["act_with_a_team", "train_and_compare"]
