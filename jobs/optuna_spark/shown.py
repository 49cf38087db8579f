"""Text of others, made fit for a log, a terminal and a page."""

from __future__ import annotations


def shown(text: str) -> str:
    """The text on one line, with what cannot be seen, or changes how the rest is seen, as escapes.

    Escaped are control characters, line ends, marks that turn the direction of writing, other invisible ones, and
    spaces that are not the usual one: all that Unicode does not call printable.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
