"""What the package index shows: README.md with links that work there, and the project's addresses.

Both come from one setting, ``repository`` in pyproject.toml. While that is empty, links to files of the repository are
left out and their text stays.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|mailto:|#)([^)\s]+)\)")


class Hook(MetadataHookInterface):
    """Fills in the fields that pyproject.toml calls dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set ``readme`` and ``urls``."""
        repository = str(self.config.get("repository", "")).rstrip("/")
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": for_the_index(text, repository)}
        metadata["urls"] = urls(repository)


def for_the_index(text: str, repository: str) -> str:
    """Return ``text`` with its links to files as addresses in ``repository``, or without them where that is empty."""

    def absolute(match: re.Match[str]) -> str:
        image, label, target = match.groups()
        if not repository:
            return "" if image else label
        return f"{image}[{label}]({repository}/{'raw' if image else 'blob'}/HEAD/{target})"

    return _LINK.sub(absolute, text)


def urls(repository: str) -> dict[str, str]:
    """Return the project's addresses on the package index."""
    if not repository:
        return {}
    pages = {"Documentation": "tree/HEAD/docs", "Issues": "issues", "Changelog": "blob/HEAD/CHANGELOG.md"}
    return {"Repository": repository, **{name: f"{repository}/{page}" for name, page in pages.items()}}
