"""What all pages share: colours, and the policy of a report, which may draw itself, but neither load nor send."""

from __future__ import annotations

CONTENT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:;"
    " form-action 'none'; base-uri 'none'"
)

# Of a report that loads the shared script. A browser that opens files takes no folder for the page's own place.
SHARED_POLICY = CONTENT_POLICY.replace("script-src 'unsafe-inline'", "script-src 'unsafe-inline' 'self' file:")

# Of the light and of the dark.
PALETTE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea; --accent: #1f5fa8;
  --back: #f3f5f8; --paper: #fff; --bad: #b42318; --good: #1d7a3d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #a3adba; --line: #343c47; --accent: #7fb2ee;
  --back: #14181d; --paper: #1d232a; --bad: #ff8a80; --good: #7bd88f; } }
"""
