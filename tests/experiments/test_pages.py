"""The Python blocks of the documents, and the notebooks, run as they are written."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from small import SUBPROCESS_SETTINGS

import drigm

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = ("building.md", "choosing-a-radius.md", "energyplus.md", "quickstart.md", "supply.md", "verify.md")
WITH_A_RUN = ("usage.md", "perturbations.md", "report.md")  # one after another: the first trains what the others use
PREPARED = ("sweeps.md", "your-environment.md")
ELSEWHERE = ("deploying.md", "plug-ins.md")  # tests/deployment/test_page.py, tests/experiments/test_plug_ins.py
SHORT = {"seeds": 1, "steps": 4_000, "quiet": True}
RADII = """
[base]
env = "probe:gamble"
steps = 4000
[points]
"tv-rho-0.1" = { uncertainty = "tv", rho = 0.1 }
"""
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
KERNEL_SECONDS = 600


def blocks(page: str) -> list[str]:
    return BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))


def test_every_page_with_python_is_in_one_of_the_lists():
    found = [page.name for page in DOCS.glob("*.md") if blocks(page.name)]
    assert sorted(found) == sorted([*RUN, *WITH_A_RUN, *PREPARED, *ELSEWHERE])


@pytest.fixture
def beside_the_examples(tmp_path, monkeypatch):
    """An empty folder to work in, with examples/ as in a clone."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def execute(page: str, **names: Any) -> dict[str, Any]:
    """Run the blocks of ``page`` one after another in one session, which has ``names``; return all of its names."""
    names["__name__"] = "__main__"
    for block in blocks(page):
        exec(compile(block, page, "exec"), names)
    return names


@pytest.mark.long
@pytest.mark.parametrize("page", RUN)
def test_the_pages_blocks_run(page, beside_the_examples, capsys):
    if page == "energyplus.md":
        pytest.importorskip("pyenergyplus")
    names = execute(page)
    shown = capsys.readouterr().out
    if page == "quickstart.md":
        assert [score.name for score in names["result"].scores][0::5] == ["Tucson", "NewYork"]
        assert re.search(r"a day scores 0\.\d{3}\n", shown)
    elif page == "choosing-a-radius.md":
        assert "rho 0: 333 steps\nrho 0.01: 77 steps\nrho 0.1: 10 steps\nrho 0.5: 2 steps\n" in shown
        (safe,) = [line for line in shown.splitlines() if line.startswith("tv-rho-0.6")]
        assert safe.count("0.250 ± 0.000") == 7
    elif page == "verify.md":
        assert "the best robust team value is" in shown
    else:
        assert names["env"] is not None


@pytest.mark.long
def test_the_pages_about_a_run(beside_the_examples, monkeypatch, capsys):
    """Shortened: one seed and too few steps to learn anything."""
    train = drigm.train
    monkeypatch.setattr(drigm, "train", lambda *given, **settings: train(*given, **{**settings, **SHORT}))
    drigm.train(out="runs/mine")  # the page speaks of one that is there
    run = execute(WITH_A_RUN[0])["run"]
    shown = capsys.readouterr().out
    assert [len(re.findall(rf"^{suite} ", shown, re.MULTILINE)) for suite in ("climate", "NewYork")] == [3, 3]
    execute(WITH_A_RUN[1], drigm=drigm, run=run)
    figure = Figure()
    figure.subplots().plot([0, 1])
    execute(WITH_A_RUN[2], rows=[{"month": "May", "cost": 3}], figure=figure, runs=[run])
    page = Path("page.html").read_text(encoding="utf-8")
    assert "In euros." in page
    assert page.count("<section") > 3


@pytest.mark.long
def test_the_page_about_sweeps(beside_the_examples):
    Path("radii.toml").write_text(RADII)
    assert execute("sweeps.md")["run"].config.rho == 0.1


@pytest.mark.long
def test_the_end_of_your_environment(beside_the_examples):
    """Its commands run in test_examples.py."""
    settings = {**SUBPROCESS_SETTINGS, "env": "pettingzoo:examples/tank.py:Tank", "out": "runs/tank", "quiet": True}
    drigm.train(**settings)
    actions = execute("your-environment.md")["actions"]
    assert {name: 0 <= action < 3 for name, action in actions.items()} == {"inlet": True, "outlet": True}


@pytest.mark.long
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
