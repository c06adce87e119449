"""The source flows one way, in files of a readable length, without pickle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "drigm"
MAX_LINES = 400

# Anyone may import these; they import only each other.
FREE = ("types", "errors", "config", "presets", "progress", "devices", "files", "interrupts", "stored", "system")

# Every other module or package of drigm, in the order of the flow: each imports only from earlier lines, or from its
# own package. Names on one line do not know each other. A new module gets its place here; "" is drigm/__init__.py.
FLOW = (
    ("envs",),
    ("scales",),
    ("targets",),
    ("products",),
    ("lstm",),
    ("networks",),
    ("uncertainty", "factorizations"),
    ("optimization",),
    ("baselines",),
    ("replay",),
    ("rollout",),
    ("robust_targets",),
    ("layout", "learner"),
    ("loop",),
    ("host_acting",),
    ("host_resume",),
    ("host_loop",),
    ("host_evaluate",),
    ("checkpoint",),
    ("trust",),
    ("run_directory",),
    ("loggers", "session"),
    ("training",),
    ("train",),
    ("evaluate", "ahead"),
    ("references", "exact", "statistics", "alignment"),
    ("agreement",),
    ("verify",),
    ("report",),
    ("api",),
    ("side_by_side",),
    ("sweep",),
    ("",),
    ("demo",),
    ("reproduce",),
    ("commands",),
    ("cli",),
    ("__main__",),
)

# Pickle runs code that a file brings along; torch has no place beside JAX.
# One script reads other people's networks; an interpreter of the user's runs it, drigm's own never imports it.
TORCH_SCRIPT = Path("reproduce", "torch_to_arrays.py")
BANNED = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "torch"}


class Import(NamedTuple):
    file: Path
    line: int
    module: str  # absolute, as far as it names a module
    at_load: bool  # runs when the file is imported: not within a function, not under TYPE_CHECKING


def imports(root: Path) -> Iterator[Import]:
    """Yield each import of each file below `root`, the folder of package drigm."""
    for file in sorted(root.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
        deferred = {
            id(node)
            for outer in ast.walk(tree)
            if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef) or _is_type_checking(outer)
            for node in ast.walk(outer)
        }
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
                yield Import(file, node.lineno, name, id(node) not in deferred)


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
    """Return a sentence for each import that goes against the flow and each module without a place in it."""
    place = dict.fromkeys(FREE, 0) | {name: i for i, line in enumerate(FLOW, 1) for name in line}
    wrong = [
        f"{file.relative_to(root)}: drigm.{_top(_name(root, file))} has no place in FLOW; give it one."
        for file in sorted(root.rglob("*.py"))
        if _top(_name(root, file)) not in place
    ]
    for found in imports(root):
        here, there = _top(_name(root, found.file)), _top(found.module)
        if found.module.split(".")[0] != "drigm" or here not in place or here == there:
            continue
        where = f"{found.file.relative_to(root)}:{found.line} imports {found.module}"
        if there not in place:
            wrong.append(f"{where}, which has no place in FLOW.")
        elif here in FREE and there not in FREE:
            wrong.append(f"{where}; {here} is free to all and so may import only {', '.join(FREE)}.")
        elif there not in FREE and place[there] >= place[here]:
            wrong.append(
                f"{where}, which comes {'later' if place[there] > place[here] else 'at the same place'} in FLOW."
            )
    return wrong


def cycles(root: Path) -> list[str]:
    """Return each cycle among the imports that run when a file is loaded, as `a -> b -> a`."""
    names = {_name(root, file) for file in root.rglob("*.py")}
    edges: dict[str, set[str]] = {name: set() for name in names}
    for found in imports(root):
        if found.at_load and found.module in names:
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
        ("targets.py", "from drigm.learner import Learner", "targets.py:1 imports drigm.learner, which comes later"),
        ("targets.py", "from drigm import learner", "imports drigm.learner, which comes later"),
        ("targets.py", "import drigm.learner as l", "imports drigm.learner, which comes later"),
        ("targets.py", "def f():\n    from . import learner", "targets.py:2 imports drigm.learner, which comes later"),
        ("envs/api.py", "from ..targets import x", "envs/api.py:1 imports drigm.targets, which comes later"),
        ("factorizations/qmix.py", "from drigm.uncertainty import SETS", "which comes at the same place"),
        ("config.py", "from drigm.targets import x", "config is free to all and so may import only"),
        ("targets.py", "from drigm import __version__", "imports drigm, which comes later"),
        ("novelty.py", "", "drigm.novelty has no place in FLOW"),
        ("cli.py", "import drigm.gone", "which has no place in FLOW"),
    ],
)
def test_the_check_sees(package, file, source, said):
    root = package(
        {"learner.py": "", "targets.py": "", "uncertainty/__init__.py": "", "envs/__init__.py": "", file: source}
    )
    (violation,) = flow_violations(root)
    assert said in violation


def test_the_check_allows_earlier_free_and_own_package(package):
    root = package(
        {
            "__init__.py": "from drigm.targets import x",
            "types.py": "import numpy",
            "targets.py": "from drigm.types import Array\nfrom drigm.envs import api",
            "envs/__init__.py": "from drigm.envs.api import y",
            "envs/api.py": "import drigm.errors",
            "errors.py": "",
        }
    )
    assert flow_violations(root) == []
    assert cycles(root) == []


def test_the_cycle_check_sees_only_imports_at_load(package):
    root = package({"envs/a.py": "from drigm.envs import b", "envs/b.py": "def f():\n    from drigm.envs import a"})
    assert cycles(root) == []
    root = package({"envs/b.py": "if True:\n    from drigm.envs import a"})
    assert cycles(root) == ["drigm.envs.a -> drigm.envs.b -> drigm.envs.a"]
