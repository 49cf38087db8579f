"""The study's attribute that says which data its last export was tuned on."""

from __future__ import annotations

# Name of the user attribute of the study. It holds the fingerprint of the data.
TUNED_ON = "tuned_on"
