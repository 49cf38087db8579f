"""Cards as a log shows them, and their text as it was before it was wrapped."""

from __future__ import annotations


def unwrapped(log: str) -> str:
    """A log whose cards are one line each."""
    return " ".join(line.strip().removeprefix("│").strip() for line in log.splitlines())
