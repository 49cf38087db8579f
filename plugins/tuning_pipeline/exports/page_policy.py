"""The content security policy of a report page: it may draw itself, but neither load nor send anything."""

from __future__ import annotations

CONTENT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:;"
    " form-action 'none'; base-uri 'none'"
)
