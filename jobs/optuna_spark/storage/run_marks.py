"""Notes on single runs in a study's system attributes, such as a request to finish early. They hold no secret.

An attribute holds a text for each run, by the run's id, the latest one last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# Who asked a run to finish early. The run takes the note away when it has ended.
FINISH = "optuna_spark:finish"
# Why a run ended before its trials were spent.
ENDED_EARLY = "optuna_spark:ended_early"
# In bytes. Optuna's column holds 64 KiB. If there are too many runs, the oldest are dropped.
LIMIT = 16_000
# The longest text of a note, in characters.
LONGEST = 500


def mark(marks: Any, run_id: str) -> str | None:
    """The text for a run.

    Args:
        marks: The attribute's value; None if the study has no such attribute.
        run_id: The run.
    """
    text = marks.get(run_id) if isinstance(marks, Mapping) else None
    return text if isinstance(text, str) and text else None


def with_mark(marks: Any, run_id: str, text: str | None) -> dict[str, str]:
    """The attribute's new value, in which the run has this text, or none."""
    others = dict(marks) if isinstance(marks, Mapping) else {}
    others.pop(run_id, None)
    kept = others if text is None else {**others, run_id: text[:LONGEST]}
    while len(json.dumps(kept).encode()) > LIMIT and len(kept) > 1:
        del kept[next(iter(kept))]
    return kept


def finished_early(by: str) -> str:
    """The reason of a run that was told to finish early, in words."""
    return f"finished early by {by}"
