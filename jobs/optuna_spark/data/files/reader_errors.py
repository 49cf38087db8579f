"""Describes why a file cannot be read, without quoting anything that is in it.

Errors of Arrow, Spark and cuDF quote the line or value at fault. But a path may come from a run's trigger form and name
a file of secrets, while many people can read a log. So our errors give rows, column numbers, types and counts only.
"""

from __future__ import annotations

import http.client
import os
import re
import ssl
import urllib.error

from optuna_spark.data.files.store_words import store_words
from optuna_spark.errors import DataError

# Parts of the messages of Arrow's CSV reader that hold nothing of the file's content.
_ROW = re.compile(r"Row #(\d+)")
_COLUMN = re.compile(r"CSV column #(\d+)")
_COUNTS = re.compile(r"Expected (\d+) columns, got (\d+)")
_TYPE = re.compile(r"conversion error to ([a-z0-9]+)")


def unreadable(file: object, kind: str, error: BaseException, compression: str = "") -> DataError:
    """The DataError for a file, by its name, that cannot be read as `kind`. `compression` is the file's."""
    words = reader_words(error, kind)
    if compression and words.startswith("it is no"):
        words = f"its {compression} data are broken or cut off, or hold no {kind}"
    return DataError(f"cannot read {file} as {kind}: {words}")


def reader_words(error: BaseException, kind: str) -> str:
    """Why a file cannot be read as `kind`, in our own words."""
    if answer := store_words(error):
        return answer
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    if isinstance(error, UnicodeDecodeError):
        return "its text is no UTF-8"
    text = str(error)
    row, column, counts, to = (pattern.search(text) for pattern in (_ROW, _COLUMN, _COUNTS, _TYPE))
    words = [
        f"row {row[1]}" if row else "",
        f"column {int(column[1]) + 1}" if column else "",
        f"expected {counts[1]} columns, got {counts[2]} (a separator too many or too few?)" if counts else "",
        f"a value is no {to[1]}" if to else "",
    ]
    return ": ".join(word for word in words if word) or f"it is no valid {kind}"


def fetch_words(error: BaseException) -> str:
    """Why a URL cannot be fetched, without anything that its server answered."""
    if isinstance(error, urllib.error.HTTPError):
        return f"status {error.code} {http.client.responses.get(error.code, '')}".strip()
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, ssl.SSLError):  # an OSError whose errno is OpenSSL's, so strerror does not know it
        return f"TLS: {reason.reason or type(reason).__name__}"
    if isinstance(reason, OSError):
        return os.strerror(reason.errno) if reason.errno and reason.errno > 0 else type(reason).__name__
    return type(reason).__name__ if isinstance(reason, BaseException) else "the address cannot be used"
