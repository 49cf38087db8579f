"""The last best value of a study, for the page of its DAG: read from its newest export, without Airflow's database.

A DAG file is read every few seconds, so this reads one small file of this machine and never asks an object store.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tuning_pipeline.exports.paths import folder_name

FILE = "latest/best_params.json"
# A study of hundreds of parameters stays far below this.
MAX_BYTES = 2**20

NONE_YET = "none yet: no run has exported"
UNREADABLE = f"`{FILE}` of the study's exports cannot be read"
ELSEWHERE = f"in `{FILE}` of the study's exports (an object store, which this page does not ask)"


def last_best(base: str, study: str) -> str:
    """What the newest export says is best, as Markdown.

    The texts of the file are not shown: only its numbers and its time, so that nothing in it can change the page.

    Args:
        base: The folder of all exports: a path, or the URL of an object store.
        study: The study's name.
    """
    parts = urlsplit(base)
    if "://" in base and parts.scheme != "file":
        return ELSEWHERE
    file = Path(unquote(parts.path) if "://" in base else base, folder_name(study), FILE)
    try:
        return _sentence(json.loads(_content(file)))
    except FileNotFoundError:
        return NONE_YET
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return UNREADABLE


def _content(file: Path) -> bytes:
    """The content of a regular file of a bounded size. Another kind of file could keep the reader waiting.

    Raises:
        OSError: The file cannot be read, is no regular file, or is too large.
    """
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError("no regular file")
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError("too large")
    return content


def _sentence(best: Mapping[str, Any]) -> str:
    values = [float(value) for value in best["values"]]
    if not values:
        raise ValueError("no value")
    shown = ", ".join(f"{value:.6g}" for value in values)
    front = " (the first of the Pareto front)" if len(values) > 1 else ""
    when = f", {datetime.fromisoformat(best['datetime']):%Y-%m-%d %H:%M}" if best["datetime"] else ""
    return f"**{shown}**{front}, trial {int(best['trial'])} of {int(best['n_trials'])}{when}"
