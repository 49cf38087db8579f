"""How many exports of a study are kept: study-file key `keep_exports`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tuning_pipeline.exports.paths import exports_base, folder_name
from tuning_pipeline.exports.published import read_published
from tuning_pipeline.exports.whole_folders import LATEST, LATEST_MARKER, local_path, remove_folder

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import ObjectStoragePath

log = logging.getLogger(__name__)

# By being there it says that a folder is a complete export; export.py writes it, and takes a second to import.
MARKER = "best_params.json"


def remove_old_exports(base: ObjectStoragePath | str | Path, study: str, keep: int | None) -> list[str]:
    """Remove all but the newest exports of a study.

    What `latest` leads to stays in any case, and what was published last. A folder that cannot be removed is left for
    the next time: the export itself is done.

    Args:
        base: The folder of all exports.
        study: The study's name.
        keep: How many stay; None for all.

    Returns:
        The names of the folders removed, the oldest first.
    """
    if keep is None:
        return []
    home = exports_base(base) / folder_name(study)
    published = read_published(base, study)
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
    """The complete exports; whatever else lies there is nobody's business here."""
    folders = [path for path in home.iterdir() if path.name != LATEST and not path.name.startswith(".")]
    markers = [folder / MARKER for folder in folders if (folder / MARKER).exists()]
    return [marker.parent for marker in sorted(markers, key=lambda marker: marker.fs.modified(marker.path))]


def _latest(home: ObjectStoragePath) -> str:
    """The name of the folder that `latest` leads to; empty where there is none."""
    local = local_path(home / LATEST)
    if local is not None and local.is_symlink():
        return local.readlink().name
    try:
        return (home / LATEST / LATEST_MARKER).read_text().strip()
    except FileNotFoundError:
        return ""
