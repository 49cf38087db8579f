"""Finds and reads the report of a run."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from tuning_pipeline.exports.folders.paths import exports_base, folder_name
from tuning_pipeline.exports.folders.whole_folders import local_path

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

REPORT = "report.html"


def folder_below(base: str, study: str, run_id: str) -> ObjectStoragePath | None:
    """The folder of a run's export; None if it would be outside `base`, for example through a symlink."""
    whole = exports_base(base)
    folder = whole / folder_name(study) / folder_name(run_id)
    inside, around = local_path(folder), local_path(whole)
    if inside is not None and around is not None and not inside.resolve().is_relative_to(around.resolve()):
        return None
    return folder


def has_report(folder: ObjectStoragePath) -> bool:
    """Whether an export folder holds a report. It is not read: a tab asks at each look.

    Raises:
        OSError: Nobody knows, because the folder cannot be read.
    """
    return bool((folder / REPORT).exists())


def read_report(folder: ObjectStoragePath) -> bytes | None:
    """The report in an export folder, as one file; None if there is none yet.

    Raises:
        OSError: The report cannot be read.
    """
    try:
        report = bytes((folder / REPORT).read_bytes())
    except FileNotFoundError:
        return None
    from tuning_pipeline.exports.report.plotly_script import standing_alone  # takes a second to import

    return standing_alone(report, folder.parent.parent)


def with_sentence(report: bytes, sentence: str) -> bytes:
    """The report with a sentence above it that was not known when it was written."""
    note = f'<main>\n<p class="note">{html.escape(sentence)}</p>'
    return report.replace(b"<main>", note.encode(), 1)
