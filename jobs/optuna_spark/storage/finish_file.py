"""A request to finish early as a file, for a run whose database only its own driver reaches."""

from __future__ import annotations

import json

from optuna_spark.storage.run_marks import LONGEST

# In the run's own folder.
FINISH_FILE = "finish.json"
# In bytes. What is longer is no request.
LONGEST_FILE = 8_192


def request_text(run_id: str, by: str) -> str:
    """The content of the file.

    Args:
        run_id: The run that is asked to finish.
        by: Who asks.
    """
    return json.dumps({"run": run_id, "by": by[:LONGEST]})


def asked_by(content: bytes, run_id: str) -> str | None:
    """Who asks this run to finish; None if the file is no request, or one to another run."""
    try:
        found = json.loads(content) if len(content) <= LONGEST_FILE else None
    except (ValueError, RecursionError):
        return None
    by = found.get("by") if isinstance(found, dict) and found.get("run") == run_id else None
    return by[:LONGEST] if isinstance(by, str) and by else None
