"""Keeps spreadsheets from running the text in a CSV file as a formula.

Excel, LibreOffice and Google Sheets treat a cell that starts with one of certain characters as a formula, even if it is
quoted: https://owasp.org/www-community/attacks/CSV_Injection. With an apostrophe in front, they show it as text.
"""

from __future__ import annotations

import csv
import io
import re

# The last four are the full-width forms of the first four, which some spreadsheets treat alike.
_RUN = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?(inf|nan)")


def guarded(text: str) -> str:
    """A cell's text in a form that no spreadsheet runs. Numbers stay as they are."""
    return f"'{text}" if text.startswith(_RUN) and not _NUMBER.fullmatch(text) else text


def guarded_table(content: bytes) -> bytes:
    """A whole CSV file with every cell guarded."""
    out = io.StringIO(newline="")
    rows = csv.reader(io.StringIO(content.decode("utf-8"), newline=""))
    csv.writer(out).writerows([guarded(cell) for cell in row] for row in rows)
    return out.getvalue().encode()
