"""Links between documents, so that they hold on the site as on a code host.

The site's pages lie as they do in the repository, so a link from one Markdown file to another is right as it is. What
differs: a folder becomes its README or a page made for it, and a source file becomes a page that shows it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

ASSETS = {".png", ".svg", ".html", ".csv", ".json"}  # linked as they are
LANGUAGES = {".py": "python", ".js": "javascript", ".toml": "toml", ".sh": "bash", ".yml": "yaml"}
_LINK_OR_CODE = re.compile(r"`[^`\n]+`|(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^)\s]+)\)")  # code hides a link
_FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2 *$", re.MULTILINE | re.DOTALL)


def prose(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of ``text`` that are no blocks of code."""
    start = 0
    for match in _FENCE.finditer(text):
        yield start, match.start()
        start = match.end()
    yield start, len(text)


def is_outside(target: str) -> bool:
    """Return whether ``target`` leads to another host, or only within its page."""
    return target.startswith("#") or "://" in target or target.startswith("mailto:")


def for_the_site(text: str, page: str, root: Path, wanted: set[str]) -> str:
    """Return ``text`` of the document ``page`` (a path within ``root``) with its links as the site needs them.

    Every file and folder that is linked is added to ``wanted``, by its path within ``root``.

    Raises:
        FileNotFoundError: a link leads to nothing.
    """

    def moved(match: re.Match[str]) -> str:
        target = match[2]
        if target is None or is_outside(target):
            return match[0]
        path, hash_mark, anchor = target.partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        if not (root / file).exists():
            raise FileNotFoundError(f"{page} links {target}, which is not there")
        wanted.add(file)
        new = posixpath.relpath(place_of(file, root), posixpath.dirname(page) or ".")
        return f"{match[1]}({new}{hash_mark}{anchor})"

    parts, at = [], 0
    for start, end in prose(text):
        parts += [text[at:start], _LINK_OR_CODE.sub(moved, text[start:end])]
        at = end
    return "".join([*parts, text[at:]])


def place_of(file: str, root: Path) -> str:
    """Return where on the site the repository's ``file`` is: the path of a page in Markdown, or of an asset."""
    if file == "README.md":
        return "index.md"
    if (root / file).is_dir():
        return f"{file}/README.md" if (root / file / "README.md").exists() else f"{file}/index.md"
    stem, suffix = posixpath.splitext(file)
    if suffix == ".ipynb":
        return f"{stem}.md"
    return file if suffix in ASSETS | {".md"} else f"{file}.md"
