"""The runtime of exported agents as one file, made of the modules that import nothing but NumPy."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
NAME = "drigm_runtime.py"
MODULES = (
    "agents/numpy_network.py",
    "deployment/guard.py",
    "deployment/step.py",
    "deployment/agent.py",
    "deployment/files.py",
)
HEADER = '''"""Acts with agents that ``drigm export`` wrote; it needs Python 3.11 and NumPy (ONNX files: ONNX Runtime).

    from drigm_runtime import load_agent

    agent = load_agent("exported", "CORE_ZN")  # a folder, and an agent of the team
    agent.reset()                              # before every episode
    action = agent.act(readings)               # at every step: physical units, in the order of the contract

Written by drigm from its own modules; do not edit it. Apache-2.0.
"""

from __future__ import annotations
'''


def runtime_source() -> str:
    """Return the file: the modules one after the other, with what they import from elsewhere at the top."""
    plain, named, bodies = set[str](), dict[str, set[str]](), list[str]()
    for name in MODULES:
        text = (PACKAGE / name).read_text(encoding="utf-8")
        lines, tree = text.splitlines(), ast.parse(text)
        for node in tree.body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if not (docstring or isinstance(node, ast.Import | ast.ImportFrom)):
                continue
            if isinstance(node, ast.Import):
                plain.add(ast.unparse(node))
            elif isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] not in ("drigm", "__future__"):
                named.setdefault(str(node.module), set()).update(alias.name for alias in node.names)
            assert node.end_lineno is not None
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
        bodies.append("\n".join(lines).strip())
    imports = [*sorted(plain), *(f"from {name} import {', '.join(sorted(named[name]))}" for name in sorted(named))]
    return "\n\n\n".join([HEADER + "\n" + "\n".join(imports), *bodies]) + "\n"
