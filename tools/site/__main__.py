"""Build the documentation site into build/site/html, strictly: ``make docs``.

The documents are copied to build/site/pages as they lie in the repository, with the pages that are made from the
program (`tools.site.reference`), and Zensical makes a site of them. What cannot be linked is an error.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tools.site import links, reference
from tools.site.pictures import draw_rooms, svg_file

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
BUILD = ROOT / "build" / "site"
PAGES, HTML = BUILD / "pages", BUILD / "html"
NAVIGATION = HERE / "zensical.toml"
GENERATED = {
    "reference/python.md": reference.python_page,
    "reference/command-line.md": reference.command_line_page,
    "reference/settings.md": reference.settings_page,
}
MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def main() -> int:
    """Build the site; returns 0, or the exit code of Zensical."""
    shutil.rmtree(BUILD, ignore_errors=True)
    stage()
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", "zensical.toml"],
        cwd=BUILD,
        check=False,
    )
    print(f"{HTML / 'index.html'}" if built.returncode == 0 else "the site was not built", file=sys.stderr)
    return built.returncode


def stage() -> None:
    """Put every page and asset where Zensical looks for them."""
    for page, made in GENERATED.items():
        put(page, made())
    wanted = {"README.md", *(page for page in pages_of_navigation() if (ROOT / page).is_file())}
    wanted |= {f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md")}
    done: set[str] = set()
    while waiting := wanted - done:
        for file in sorted(waiting):
            done.add(file)
            stage_file(file, wanted)
    if missing := [page for page in pages_of_navigation() if not (PAGES / page).is_file()]:
        raise FileNotFoundError(f"the navigation names {', '.join(missing)}, which no document links and no file is")
    shutil.copy(NAVIGATION, BUILD / "zensical.toml")
    shutil.copy(HERE / "site.css", PAGES / "site.css")


def pages_of_navigation() -> list[str]:
    """Return the pages that the navigation names."""

    def walk(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        children = entry.values() if isinstance(entry, dict) else entry
        return [page for child in children for page in walk(child)]  # type: ignore[union-attr]

    return walk(tomllib.loads(NAVIGATION.read_text(encoding="utf-8"))["project"]["nav"])


def stage_file(file: str, wanted: set[str]) -> None:
    """Copy one file of the repository, or make the page that shows it."""
    source, place = ROOT / file, links.place_of(file, ROOT)
    if source.is_dir():
        if place.endswith("index.md"):
            put(place, folder_page(file, wanted))
        else:
            wanted.add(place)
    elif source.suffix in (".md", ".ipynb"):
        text = source.read_text(encoding="utf-8")
        text = notebook_page(text, source.name) if source.suffix == ".ipynb" else text
        put(place, with_pictures(typeset(links.for_the_site(text, file, ROOT, wanted)), place))
    elif source.suffix in links.ASSETS:
        (PAGES / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, PAGES / place)
    else:
        put(place, f"# {file}\n\n{code_of(file)}")


def typeset(text: str) -> str:
    """Return ``text`` with a title over a block that names its file, and numbers in tables that stay on one line."""
    text = re.sub(r"^(```\w+) file=(\S+)$", r'\1 title="\2"', text, flags=re.MULTILINE)
    rows = re.compile(r"^\|.*$", re.MULTILINE)
    kept = re.compile(r"(?<=\d) (±|\+-) (?=\d)|(?<=\d), (?=[-+\d.]+\])|(?<=\d) (?=\[[-+\d])")
    return rows.sub(lambda row: kept.sub(lambda gap: gap[0].replace(" ", "\N{NO-BREAK SPACE}"), row[0]), text)


def notebook_page(notebook: str, name: str) -> str:
    """Return a notebook as a page: its texts, and its code as blocks."""
    parts = []
    for cell in json.loads(notebook)["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    title, _, rest = "\n\n".join(parts).partition("\n")
    return f"{title}\n\n*This page is the notebook `examples/{name}`.*\n{rest}\n"


def folder_page(folder: str, wanted: set[str]) -> str:
    """Return a page that shows the source files of ``folder`` and links its others."""
    listed = subprocess.run(["git", "ls-files", folder], cwd=ROOT, check=True, capture_output=True, text=True)
    lines = [f"# {folder}"]
    for file in listed.stdout.split():
        path = Path(file)
        if path.suffix in links.LANGUAGES:
            lines += [f"## {path.relative_to(folder)}", code_of(file)]
        elif path.suffix in links.ASSETS | {".md"}:
            wanted.add(file)
            lines.append(f"* [{path.relative_to(folder)}]({path.relative_to(folder)})")
    return "\n\n".join(lines).replace("\n\n* ", "\n* ") + "\n"


def code_of(file: str) -> str:
    """Return a source file as a block of code."""
    text = (ROOT / file).read_text(encoding="utf-8").rstrip()
    return f"````{links.LANGUAGES.get(Path(file).suffix, 'text')}\n{text}\n````\n"


def with_pictures(text: str, place: str) -> str:
    """Return ``text`` with its mermaid graph as a picture: a page loads nothing from elsewhere, and needs no script."""
    for number, block in enumerate(MERMAID.findall(text)):
        name = f"{Path(place).stem}-{number}.svg"
        put(str(Path(place).with_name(name)), svg_file(draw_rooms(block), "The rooms, and who imports from whom"))
        text = MERMAID.sub(f"![The rooms, and who imports from whom]({name})", text, count=1)
    return text


def put(place: str, text: str) -> None:
    """Write a page of the site."""
    file = PAGES / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
