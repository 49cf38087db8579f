"""Where the export of a run lies: made of the exports base, the study's name and the run's id, and of nothing else."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath


def exports_base(base: ObjectStoragePath | str | Path) -> ObjectStoragePath:
    """`base` as an ObjectStoragePath; a path without a scheme is one on this machine, made absolute."""
    from airflow.sdk import ObjectStoragePath

    if isinstance(base, ObjectStoragePath):
        return base
    text = str(base)
    return ObjectStoragePath(text if "://" in text else str(Path(text).absolute()))


def folder_name(name: str) -> str:
    """A study name or run id as a folder name that every disk and store takes.

    Airflow's `manual__2026-11-22T09:17:38+00:00` becomes `manual__2026-11-22T09-17-38Z`. Any other character
    than a letter, digit, `_`, `-` or `.` becomes `-`, and a hash is added that keeps different names apart.
    """
    plain = re.sub(r"(T\d\d):(\d\d):(\d\d(?:\.\d+)?)\+00:00", r"\1-\2-\3Z", name)
    safe = re.sub(r"[^A-Za-z0-9_.-]", "-", plain)[:200]
    if safe == plain and re.match("[A-Za-z0-9_]", safe) and safe.lower() != "latest":
        return safe
    return f"{safe.strip('.-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")
