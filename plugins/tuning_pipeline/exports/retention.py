"""Removes old exports of a study, as the study-file key `keep_exports` says."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tuning_pipeline.exports.folders.paths import exports_base, folder_name
from tuning_pipeline.exports.folders.whole_folders import LATEST, LATEST_MARKER, local_path, remove_folder
from tuning_pipeline.exports.published import read_published

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import ObjectStoragePath

log = logging.getLogger(__name__)

# A folder with this file is a complete export. The same as in export.py, whose import would take a second.
MARKER = "best_params.json"


def remove_old_exports(base: ObjectStoragePath | str | Path, study: str, keep: int | None) -> list[str]:
    """Remove all but the newest exports of a study.

    The export that `latest` leads to and the one that was published last always stay. A folder that cannot be removed
    is only logged, and is tried again next time: the export of the present run is complete.

    Args:
        base: The folder of all exports.
        study: The study's name.
        keep: How many exports to keep; None for all.

    Returns:
        The names of the removed folders, the oldest first.
    """
    if keep is None:
        return []
    home = exports_base(base) / folder_name(study)
    published = read_published(base, study)
    # `publish: better` compares with the published export, and its readers may still use it.
    stay = {_latest(home), published.folder if published else ""}
    old = [folder for folder in _oldest_first(home)[:-keep] if folder.name not in stay]
    return [folder.name for folder in old if _removed(folder)]


def _removed(folder: ObjectStoragePath) -> bool:
    try:
        remove_folder(folder, MARKER)
    except OSError as error:
        log.warning("The old export %s cannot be removed (%s): remove it by hand, or leave it", folder, error)
        return False
    log.info("Removed the old export %s (keep_exports)", folder)
    return True


def _oldest_first(home: ObjectStoragePath) -> list[ObjectStoragePath]:
    """The complete exports in a folder, the oldest first. Files and folders of other kinds are ignored."""
    folders = [path for path in home.iterdir() if path.name != LATEST and not path.name.startswith(".")]
    markers = [folder / MARKER for folder in folders if (folder / MARKER).exists()]
    return [marker.parent for marker in sorted(markers, key=lambda marker: marker.fs.modified(marker.path))]


def _latest(home: ObjectStoragePath) -> str:
    """The name of the folder that `latest` leads to; empty if there is none."""
    local = local_path(home / LATEST)
    if local is not None and local.is_symlink():
        return local.readlink().name
    try:
        return (home / LATEST / LATEST_MARKER).read_text().strip()
    except FileNotFoundError:
        return ""
