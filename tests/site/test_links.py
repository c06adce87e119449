"""Links between documents, as the site needs them."""

import pytest

from tools.site.links import for_the_site


@pytest.fixture
def root(tmp_path):
    for file in ("README.md", "docs/a.md", "docs/b.md", "docs/p.svg", "results/README.md", "code/x.py", "n/note.ipynb"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("link", "on_the_site", "file"),
    [
        ("b.md#here", "b.md#here", "docs/b.md"),
        ("../README.md", "../index.md", "README.md"),
        ("../results", "../results/README.md", "results"),
        ("../code", "../code/index.md", "code"),
        ("../code/x.py", "../code/x.py.md", "code/x.py"),
        ("../n/note.ipynb", "../n/note.md", "n/note.ipynb"),
        ("p.svg", "p.svg", "docs/p.svg"),
    ],
)
def test_a_link_leads_to_what_it_names(root, link, on_the_site, file):
    wanted = set()
    text = f"see [the `x` [1]]({link}), `[not](code.md)`"
    moved = for_the_site(text, "docs/a.md", root, wanted)
    assert moved == f"see [the `x` [1]]({on_the_site}), `[not](code.md)`"
    assert wanted == {file}


def test_what_is_elsewhere_or_code_stays(root):
    text = "[x](https://x.org/a.md) [y](#z)\n```python\na[0](gone.md)\n```\n"
    assert for_the_site(text, "docs/a.md", root, wanted := set()) == text
    assert wanted == set()


def test_a_link_to_nothing_is_an_error(root):
    with pytest.raises(FileNotFoundError, match=r"docs/a\.md links gone\.md, which is not there"):
        for_the_site("[x](gone.md)", "docs/a.md", root, set())
