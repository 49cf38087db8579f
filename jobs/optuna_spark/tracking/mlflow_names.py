"""What MLflow takes as names and values: https://mlflow.org/docs/latest/api_reference/rest-api.html#request-limits."""

from __future__ import annotations

import hashlib
import posixpath
import re

# In characters; mlflow/utils/validation.py has the same.
LONGEST_NAME, LONGEST_PARAM, LONGEST_TAG = 250, 6_000, 8_000
# A colon is a letter of names too, but not on a server on Windows.
_NO_LETTER = re.compile(r"[^/\w.\- ]")


class Names:
    """Gives each name its name in MLflow, and keeps a note where the two differ."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._taken: set[str] = set()

    def of(self, name: str) -> str:
        """A name that MLflow takes, another one for each name that this is asked for."""
        found = _NO_LETTER.sub("_", name)
        if _is_no_path(found):
            found = found.replace("/", "_").replace(".", "_")
        if found != name or not name or len(name) > LONGEST_NAME or found in self._taken:
            mark = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:8]
            found = f"{found[: LONGEST_NAME - 9]}_{mark}"
            self.notes.append(f"{name[:80]!r} is called {found[:80]}")
        self._taken.add(found)
        return found

    def cut(self, name: str, text: str, longest: int) -> str:
        """A value of at most `longest` characters."""
        text = text.encode(errors="replace").decode()  # half of a surrogate pair is no UTF-8
        if len(text) > longest:
            self.notes.append(f"{name[:80]} has {longest} of {len(text)} characters")
        return text[:longest]


def _is_no_path(name: str) -> bool:
    """Whether MLflow refuses a name because it would be another place as a path."""
    return posixpath.normpath(name) != name or name == "." or name.startswith(("..", "/"))
