"""Hooks of mkdocs (mkdocs.yml): docs/ reads the same as files of a repository and as a site.

A page may link to a file outside docs/, as in `../examples/pruning.py`. Such a file becomes a page of the site below
`files/`. A link to what does not exist stays as it is, and mkdocs refuses it.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# mkdocs counts warnings below this name, and with `strict` it fails on them.
log = logging.getLogger("mkdocs.plugins.site")

DOCS = "docs"
FILES = "files"
# Code has every word, so it would stand among the results of every search.
NOT_SEARCHED = "---\nsearch: {exclude: true}\n---\n\n"
_FENCE = re.compile(r"^(?: {0,3}|\t)(```|~~~).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")
# A list that Python-Markdown takes for more of the paragraph, as GitHub does not.
_LOST_LIST = re.compile(r"<p>(?:(?!</p>).)*?\n\s*(?:[-*]|\d+\.) ", re.DOTALL)
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".sh": "sh", ".json": "json", ".toml": "toml"}


def page_of(target: str, root: Path) -> str | None:
    """The page of the site that shows a file or folder of the repository.

    Args:
        target: Its path below the repository's root.
        root: The repository's root.

    Returns:
        Its path below the site's root, as mkdocs names sources; None for what is not there, not in the repository, or
        hidden.
    """
    # An absolute path begins with an empty part, and one that leaves the repository with two dots.
    if any(not part or part.startswith(".") for part in target.split("/")) or not (root / target).exists():
        return None
    if target == DOCS or target.startswith(f"{DOCS}/"):
        return posixpath.relpath(target, DOCS)
    if (root / target).is_dir():
        return f"{FILES}/{target}/index.md"
    if target.endswith(".md") or text_of(root / target) is None:
        return f"{FILES}/{target}"
    return f"{FILES}/{target}.md"


def text_of(file: Path) -> str | None:
    """The content of a text file; None for any other."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def links(text: str, source: str) -> Iterator[str]:
    """Paths below the repository's root that a page's links name. `source` is the page's own."""
    for part, is_code in _parts(text):
        if not is_code:
            yield from (_target(found[1], source) for found in _LINK.finditer(part) if ":" not in found[1])


def rewritten(text: str, source: str, page: str, root: Path) -> str:
    """A page's text with links that lead to pages of the site.

    Args:
        text: The page's text.
        source: Its path below the repository's root, which its links are relative to.
        page: Its path below the site's root, as mkdocs names sources.
        root: The repository's root.
    """

    def replace(found: re.Match[str]) -> str:
        target = None if ":" in found[1] else page_of(_target(found[1], source), root)
        return found[1] if target is None else posixpath.relpath(target, posixpath.dirname(page) or ".")

    return "".join(part if is_code else _LINK.sub(replace, part) for part, is_code in _parts(text))


def _target(link: str, source: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """The text in parts: blocks of code, and what is between them."""
    end = 0
    for block in _FENCE.finditer(text):
        yield text[end : block.start()], False
        yield block[0], True
        end = block.end()
    yield text[end:], False


def outside_pages(root: Path) -> dict[str, str | None]:
    """The pages of files outside docs/ that pages lead to, directly or through one another.

    Returns:
        Text by path below the site's root; None for a file that is no text and is handed out as it is.
    """
    found: dict[str, str | None] = {}
    waiting = [(path.read_text(encoding="utf-8"), path.relative_to(root).as_posix()) for path in _docs(root)]
    while waiting:
        for target in links(*waiting.pop()):
            page = page_of(target, root)
            if page is None or not page.startswith(f"{FILES}/") or page in found:
                continue
            text = _shown(target, root)
            source = f"{target}/index.md" if (root / target).is_dir() else target
            found[page] = text if text is None else rewritten(text, source, page, root)
            if text is not None:
                waiting.append((text, source))
    return found


def _docs(root: Path) -> list[Path]:
    return sorted([*(root / DOCS).rglob("*.md"), *(root / DOCS).rglob("llms.txt")])


def _shown(target: str, root: Path) -> str | None:
    """The text of the page that shows a file: itself if it is Markdown, else its code; of a folder, what is in it."""
    path = root / target
    if path.is_dir():
        inside = sorted(item for item in path.iterdir() if not item.name.startswith((".", "__pycache__")))
        # Folders by name only: else a link to one of them would bring the whole tree.
        lines = [f"- {item.name}/\n" if item.is_dir() else f"- [{item.name}]({item.name})\n" for item in inside]
        return f"{NOT_SEARCHED}# {target}\n\n{''.join(lines)}"
    text = text_of(path)
    if text is None or path.suffix == ".md":
        return text
    return f"{NOT_SEARCHED}# {target}\n\n`````{_LANGUAGES.get(path.suffix, 'text')}\n{text.rstrip()}\n`````\n"


def _root(config: Any) -> Path:
    return Path(config.config_file_path).absolute().parent


def on_config(config: Any) -> Any:
    """Headings get the anchors that GitHub gives them."""
    from pymdownx.slugs import slugify

    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")
    return config


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    root = _root(config)
    for page, text in outside_pages(root).items():
        source = {"content": text} if text is not None else {"abs_src_path": str(root / page.removeprefix(f"{FILES}/"))}
        files.append(File.generated(config, page, **source))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    if page.file.src_uri.startswith(f"{FILES}/"):
        return markdown
    return rewritten(markdown, f"{DOCS}/{page.file.src_uri}", page.file.src_uri, _root(config))


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Warn of what GitHub shows otherwise, and put the page's Markdown beside it, where llms.txt leads."""
    if not page.file.src_uri.startswith(f"{FILES}/"):
        for problem in problems(page.markdown, html):
            log.warning("%s: %s", page.file.src_uri, problem)
    copy = Path(config.site_dir, page.file.src_uri)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(page.markdown, encoding="utf-8")
    return html


def problems(markdown: str, html: str) -> list[str]:
    """What is wrong with a page that mkdocs itself does not see."""
    found = []
    if re.search(r"^\s*```mermaid", markdown, re.MULTILINE):
        found.append("a mermaid diagram needs a script from elsewhere: put a drawing (SVG) into docs/images")
    if "```" in re.sub(r"<code>.*?</code>", "", html, flags=re.DOTALL):
        found.append("a block of code is not taken as one: inside a list, indent it by four blanks")
    if lost := _LOST_LIST.search(html):
        found.append(f"a list is not taken as one: leave a blank line before it ({lost[0][-60:].strip()!r})")
    return found


def on_post_build(config: Any) -> None:
    index = Path(config.site_dir, "llms.txt")
    if index.exists():
        text = index.read_text(encoding="utf-8")
        index.write_text(rewritten(text, f"{DOCS}/llms.txt", "llms.txt", _root(config)), encoding="utf-8")
