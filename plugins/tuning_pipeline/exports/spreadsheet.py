"""Texts in a CSV file that a spreadsheet would run.

Excel, LibreOffice and Google Sheets take a cell that starts with one of these characters for a formula, quotes or not:
https://owasp.org/www-community/attacks/CSV_Injection. With an apostrophe before it they show it as the text it is.
"""

from __future__ import annotations

import csv
import io
import re

_RUN = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?(inf|nan)")


def guarded(text: str) -> str:
    """A cell's text as no spreadsheet runs it; numbers stay as they are."""
    return f"'{text}" if text.startswith(_RUN) and not _NUMBER.fullmatch(text) else text


def guarded_table(content: bytes) -> bytes:
    """A whole CSV file with each cell guarded."""
    out = io.StringIO(newline="")
    rows = csv.reader(io.StringIO(content.decode("utf-8"), newline=""))
    csv.writer(out).writerows([guarded(cell) for cell in row] for row in rows)
    return out.getvalue().encode()
