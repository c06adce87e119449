"""What is installed and shown on a package index: wheel, source distribution, links, versions that must agree."""

import email
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from hatch_build import for_the_index, urls

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RELATIVE = re.compile(r"\]\((?!https?:|#)([^)\s]+)\)")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel and a source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=ROOT, check=True, capture_output=True
    )
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, source


def test_the_wheel_has_the_package_and_no_link_that_leads_nowhere(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = wheel.namelist()
        (place,) = [name for name in names if name.endswith("/METADATA")]
        metadata = email.message_from_bytes(wheel.read(place))
    inside = {str(file.relative_to(ROOT / "src")) for file in (ROOT / "src" / "drigm").rglob("*.*")}
    assert {name for name in inside if "__pycache__" not in name} <= set(names)
    text = metadata.get_payload()
    assert "Teams that still work when the world differs" in text
    assert RELATIVE.findall(text) == []
    addresses = metadata.get_all("Project-URL") or []
    repository = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["custom"]["repository"]
    assert bool(addresses) == bool(repository)


def test_the_source_distribution_has_what_the_readme_links(built):
    with tarfile.open(built[1]) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    linked = {target.partition("#")[0] for target in RELATIVE.findall((ROOT / "README.md").read_text())}
    assert len(linked) > 15
    assert linked <= names
    assert {"tests/conftest.py", "docs/pictures/alone.svg", "constraints.txt", "CITATION.cff"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith(("build/", ".venv"))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see [the page](docs/a.md#b) now", "see [the page](https://x.org/r/blob/HEAD/docs/a.md#b) now"),
        ("![a [b] c](p.png)", "![a [b] c](https://x.org/r/raw/HEAD/p.png)"),
        ("[out](https://y.org/z) [here](#in)", "[out](https://y.org/z) [here](#in)"),
    ],
)
def test_links_become_addresses_where_there_is_one(text, expected):
    assert for_the_index(text, "https://x.org/r") == expected
    assert urls("https://x.org/r")["Issues"] == "https://x.org/r/issues"


def test_links_become_text_where_there_is_none():
    assert for_the_index("see [the page](docs/a.md), ![p](p.png)[out](https://y.org)", "") == (
        "see the page, [out](https://y.org)"
    )
    assert urls("") == {}


def test_versions_that_stand_twice_agree():
    ruff = next(one for one in PROJECT["project"]["optional-dependencies"]["lint"] if one.startswith("ruff=="))
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.search(r"rev: v(\S+)", hooks)[1] == ruff.removeprefix("ruff==")
    assert f"version: {PROJECT['project']['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_constraints_are_exact_and_allowed():
    from packaging.requirements import Requirement

    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    exact = {(name := line.partition("=="))[0]: name[2] for line in lines}
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    for text in PROJECT["project"]["dependencies"]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(exact[wanted.name]), text
