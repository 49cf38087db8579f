"""Texts for a log, a terminal and a page: those of others, made fit for it, and times."""

from __future__ import annotations


def shown(text: str) -> str:
    """The text on one line, with what cannot be seen, or changes how the rest is seen, as escapes.

    Escaped are control characters, line ends, marks that turn the direction of writing, other invisible ones, and
    spaces that are not the usual one: all that Unicode does not call printable.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def last_line(error: str | None) -> str:
    """The last line of a traceback, which names the error, made fit to be shown."""
    lines = (error or "").strip().splitlines()
    return shown(lines[-1]) if lines else "no reason was given"


def duration(seconds: float) -> str:
    """Seconds as 42 s, 3 min 20 s or 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
