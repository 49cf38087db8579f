"""What data the study's last export was tuned on, noted in the study."""

from __future__ import annotations

# User attribute of a study: fingerprint of that data.
TUNED_ON = "tuned_on"
