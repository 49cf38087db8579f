"""Links between docs/ and the rest of the repository, as the site shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from init.docs.mkdocs_hooks import NOT_SEARCHED, outside_pages, page_of, problems, rewritten


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in {
        "docs/index.md": "[one](../examples/one.py) [all](../examples) [a](../examples/a.npy) [b](https://x.org)",
        "docs/deep/page.md": "[n](../../CHANGELOG.md#added)\n\n```md\n[code](../../secret.txt)\n```\n[no](../../no.py)",
        "CHANGELOG.md": "[page](docs/deep/page.md) [one](examples/one.py)",
        "examples/one.py": "print(1)\n",
        "examples/.hidden": "x",
        "examples/in/two.py": "print(2)\n",
        "secret.txt": "x",
        ".env": "password",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "examples" / "a.npy").write_bytes(b"\x93NUMPY\xff")
    return tmp_path


def test_what_pages_link_to_becomes_a_page_of_the_site(root: Path) -> None:
    assert outside_pages(root) == {
        "files/examples/one.py.md": f"{NOT_SEARCHED}# examples/one.py\n\n`````python\nprint(1)\n`````\n",
        "files/examples/index.md": f"{NOT_SEARCHED}# examples\n\n- [a.npy](a.npy)\n- in/\n- [one.py](one.py.md)\n",
        "files/examples/a.npy": None,
        "files/CHANGELOG.md": "[page](../deep/page.md) [one](examples/one.py.md)",
    }


def test_a_page_links_to_these_pages_and_its_code_stays(root: Path) -> None:
    text = (root / "docs" / "deep" / "page.md").read_text()
    assert rewritten(text, "docs/deep/page.md", "deep/page.md", root) == (
        "[n](../files/CHANGELOG.md#added)\n\n```md\n[code](../../secret.txt)\n```\n[no](../../no.py)"
    )


@pytest.mark.parametrize("target", [".env", "examples/.hidden", "../elsewhere", "/etc/passwd", "no.py"])
def test_what_is_hidden_or_not_of_the_repository_is_no_page(root: Path, target: str) -> None:
    (root.parent / "elsewhere").touch()
    assert page_of(target, root) is None


@pytest.mark.parametrize(
    ("markdown", "html", "problem"),
    [
        ("```mermaid\n", "", "mermaid"),
        ("", "<p>```yaml\na: 1</p>", "a block of code is not taken as one"),
        ("", "<p>These:\n- a\n- b</p>", "a list is not taken as one"),
    ],
)
def test_what_github_shows_otherwise_is_named(markdown: str, html: str, problem: str) -> None:
    (found,) = problems(markdown, html)
    assert problem in found


def test_a_good_page_has_no_problem() -> None:
    html = "<p>A text - with a dash.\nAnd <code>```</code></p>\n<ul>\n<li>a</li>\n</ul>"
    assert problems("```sh\nmake docs\n```\n", html) == []
