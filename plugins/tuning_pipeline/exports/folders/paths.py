"""The folder of a run's export. It depends only on the exports base, the study's name and the run's id."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath


def exports_base(base: ObjectStoragePath | str | Path) -> ObjectStoragePath:
    """`base` as an ObjectStoragePath. A path without a scheme is one on this machine, and becomes absolute."""
    from airflow.sdk import ObjectStoragePath

    if isinstance(base, ObjectStoragePath):
        return base
    text = str(base)
    return ObjectStoragePath(text if "://" in text else str(Path(text).absolute()))


def export_folder(base: ObjectStoragePath | str | Path, study_name: str, run_id: str) -> ObjectStoragePath:
    """The folder of a run's export."""
    return exports_base(base) / folder_name(study_name) / folder_name(run_id)


def folder_name(name: str) -> str:
    """A study's name or a run's id as a folder name that every disk and object store accepts.

    Airflow's `manual__2026-11-22T09:17:38+00:00` becomes `manual__2026-11-22T09-17-38Z`. In other names, each character
    that is not a letter, digit, `_`, `-` or `.` becomes `-`, and a hash is added so that two names never collide.
    """
    plain = re.sub(r"(T\d\d):(\d\d):(\d\d(?:\.\d+)?)\+00:00", r"\1-\2-\3Z", name)
    safe = re.sub(r"[^A-Za-z0-9_.-]", "-", plain)[:200]
    if safe == plain and re.match("[A-Za-z0-9_]", safe) and safe.lower() != "latest":
        return safe
    return f"{safe.strip('.-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")
