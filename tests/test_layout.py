"""The source flows one way, in files of a readable length, without pickle."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "drigm"
MAX_LINES = 400

# The rooms, in the order of the flow: each imports only from earlier lines. Rooms on one line do not know each other.
ROOMS = (
    ("core",),
    ("runtime",),
    ("envs", "storage"),
    ("agents",),
    ("algorithms",),
    ("training",),
    ("evaluation", "verification"),
    ("deployment",),
    ("report",),
    ("experiments",),
    ("cli",),
)
# Public names of drigm that lead into the rooms.
DOORS = ("", "__main__", "demo", "deploy", "exact", "statistics")

# Pickle runs code that a file brings along; torch has no place beside JAX.
# One script reads other people's networks; an interpreter of the user's runs it, drigm's own never imports it.
TORCH_SCRIPT = Path("experiments", "reproduce", "torch_to_arrays.py")
BANNED = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "torch"}


class Import(NamedTuple):
    file: Path
    line: int
    module: str  # absolute, as far as it names a module
    only_for_types: bool  # under TYPE_CHECKING


def imports(root: Path) -> Iterator[Import]:
    """Yield each import of each file below `root`, the folder of package drigm."""
    for file in sorted(root.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
        for_types = {id(node) for outer in ast.walk(tree) if _is_type_checking(outer) for node in ast.walk(outer)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                package = ("drigm", *file.relative_to(root).parent.parts)
                base = ".".join([*package[: len(package) - node.level + 1]]) if node.level else ""
                parent = ".".join(filter(None, [base, node.module]))
                names = [_module(root, parent, alias.name) for alias in node.names]
            else:
                continue
            for name in dict.fromkeys(names):
                yield Import(file, node.lineno, name, id(node) in for_types)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _module(root: Path, parent: str, name: str) -> str:
    """Return `parent.name` if that is a module of drigm, else `parent`: `from drigm import targets` is a module."""
    path = root.joinpath(*parent.split(".")[1:], name)
    is_module = parent.split(".")[0] == "drigm" and (path.with_suffix(".py").exists() or path.is_dir())
    return f"{parent}.{name}" if is_module else parent


def _top(module: str) -> str:
    """Return the part of drigm that `drigm.a.b` belongs to: `a`; of drigm itself: the empty name."""
    return [*module.split("."), ""][1]


def _name(root: Path, file: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(["drigm", *(parts[:-1] if parts[-1] == "__init__" else parts)])


def flow_violations(root: Path) -> list[str]:
    """Return a sentence for each import that goes against the flow and each module that is in no room."""
    place = {name: i for i, line in enumerate(ROOMS) for name in line} | dict.fromkeys(DOORS, len(ROOMS))
    wrong = [
        f"{file.relative_to(root)}: drigm.{_top(_name(root, file))} is no room."
        for file in sorted(root.rglob("*.py"))
        if _top(_name(root, file)) not in place
    ]
    for found in imports(root):
        here, there = _top(_name(root, found.file)), _top(found.module)
        if found.module.split(".")[0] != "drigm" or here not in place or here == there:
            continue
        where = f"{found.file.relative_to(root)}:{found.line} imports {found.module}"
        if there not in place:
            wrong.append(f"{where}, which is in no room.")
        elif here not in DOORS and place[there] >= place[here]:
            wrong.append(f"{where}, which comes {'later' if place[there] > place[here] else 'at the same place'}.")
    return wrong


def cycles(root: Path) -> list[str]:
    """Return each cycle among the imports of files, deferred ones included, as `a -> b -> a`."""
    names = {_name(root, file) for file in root.rglob("*.py")}
    edges: dict[str, set[str]] = {name: set() for name in names}
    for found in imports(root):
        if not found.only_for_types and found.module in names:
            edges[_name(root, found.file)].add(found.module)
    clear: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> list[str]:
        if name in path:
            return [" -> ".join([*path[path.index(name) :], name])]
        if name in clear:
            return []
        found = [cycle for after in sorted(edges[name]) for cycle in visit(after, (*path, name))]
        clear.add(name)
        return found

    return [cycle for name in sorted(names) for cycle in visit(name, ())]


def test_imports_flow_one_way():
    violations = flow_violations(SOURCE)
    assert not violations, "\n" + "\n".join(violations)


def test_no_import_cycles():
    assert not cycles(SOURCE)


def test_nothing_imports_pickle_or_torch():
    banned = [
        f"{found.file.relative_to(SOURCE)}:{found.line} imports {found.module}"
        for found in imports(SOURCE)
        if found.module.split(".")[0] in BANNED and found.file.relative_to(SOURCE) != TORCH_SCRIPT
    ]
    assert not banned, "\n" + "\n".join(banned)


def test_nothing_lets_numpy_unpickle():
    allowed = [
        f"{file.relative_to(SOURCE)}:{node.value.lineno}"
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False"
    ]
    assert not allowed, f"allow_pickle at {allowed}"


def test_files_stay_short():
    lengths = {file.relative_to(SOURCE): len(file.read_text().splitlines()) for file in SOURCE.rglob("*.py")}
    assert lengths
    long = {str(file): length for file, length in lengths.items() if length > MAX_LINES}
    assert not long, f"over {MAX_LINES} lines: {long}"


@pytest.fixture
def package(tmp_path):
    """A function that writes a small package from `{path: source}` and returns its root."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("file", "source", "said"),
    [
        (
            "agents/a.py",
            "from drigm.algorithms.learner import L",
            "agents/a.py:1 imports drigm.algorithms.learner, which",
        ),
        ("agents/a.py", "from drigm.algorithms import learner", "imports drigm.algorithms.learner, which comes later"),
        ("agents/a.py", "import drigm.algorithms.learner as l", "imports drigm.algorithms.learner, which comes later"),
        (
            "agents/a.py",
            "def f():\n    from ..algorithms import learner",
            "agents/a.py:2 imports drigm.algorithms.learner",
        ),
        ("storage/a.py", "from drigm.envs import make_env", "imports drigm.envs, which comes at the same place"),
        ("agents/a.py", "from drigm import __version__", "imports drigm, which comes later"),
        ("novelty.py", "", "drigm.novelty is no room"),
        ("cli/a.py", "import drigm.gone", "which is in no room"),
    ],
)
def test_the_check_sees(package, file, source, said):
    root = package({"algorithms/learner.py": "", "envs/__init__.py": "", file: source})
    (violation,) = flow_violations(root)
    assert said in violation


def test_the_check_allows_earlier_rooms_and_the_own(package):
    root = package(
        {
            "__init__.py": "from drigm.agents.lstm import x",
            "core/types.py": "import numpy",
            "agents/lstm.py": "from drigm.core import types\nfrom drigm.agents import dense",
            "agents/dense.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from drigm.agents import lstm",
        }
    )
    assert not flow_violations(root)
    assert not cycles(root)


def test_the_check_sees_cycles(package):
    root = package({"envs/a.py": "def f():\n    from drigm.envs import b", "envs/b.py": "from drigm.envs.a import x"})
    assert cycles(root) == ["drigm.envs.a -> drigm.envs.b -> drigm.envs.a"]


def test_the_picture_shows_the_rooms():
    page = (SOURCE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    arrows = {tuple(line.split(" --> ")) for line in map(str.strip, page.splitlines()) if " --> " in line}
    assert arrows == {(a, b) for left, right in itertools.pairwise(ROOMS) for a in left for b in right}
    rooms = {file.parent.name for file in SOURCE.glob("*/__init__.py")}
    assert rooms == {name for line in ROOMS for name in line}
    answers = [
        path for row in page.split("## Where is")[1].splitlines() for path in re.findall(r"`(\w+/[\w/.]*)`", row)
    ]
    assert len(answers) >= 20
    assert not [path for path in answers if not (SOURCE / path).exists()]
