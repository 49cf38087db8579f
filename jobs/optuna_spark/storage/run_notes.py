"""What a study notes of each of its runs: one system attribute, of bounded size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# In bytes. Optuna's column holds 64 KiB.
LIMIT = 48_000


def noted(notes: Mapping[str, Any] | None, run_id: str, note: Mapping[str, Any]) -> dict[str, Any]:
    """The notes with this run's as the newest. If they do not fit, those of the oldest runs are left out.

    Runs that have the same note share it, so that a study with many runs keeps long what they were.

    Args:
        notes: What `noted` returned last; None for the first run.
        run_id: The run.
        note: What to note of it. One that is too long by itself is left out.
    """
    by_run: dict[str, Any] = {run: note_of(notes, run) for run in (notes or {}).get("runs", {}) if run != run_id}
    by_run[run_id] = dict(note)
    while len(json.dumps(packed := _packed(by_run)).encode()) > LIMIT:
        for run in list(by_run)[: max(1, len(by_run) // 10)]:
            del by_run[run]
    return packed


def note_of(notes: Mapping[str, Any] | None, run_id: str) -> dict[str, Any] | None:
    """What is noted of a run; None if nothing is, or not any more."""
    place = (notes or {}).get("runs", {}).get(run_id)
    return None if notes is None or place is None else dict(notes["notes"][place])


def _packed(by_run: Mapping[str, Any]) -> dict[str, Any]:
    different: list[Any] = []
    places = {}
    for run, note in by_run.items():
        if note not in different:
            different.append(note)
        places[run] = different.index(note)
    return {"notes": different, "runs": places}
