"""Plotly's script: in each report, or in one file beside all exports, as the study-file key `shared_script` says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from plotly.offline import get_plotlyjs, get_plotlyjs_version

from tuning_pipeline.exports.folders.whole_folders import publish_file

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

# A report is two folders below all exports: <study>/<run id>/report.html.
_UP = "../../"
_LOADED = re.compile(rb'<script src="\.\./\.\./(plotly-[0-9]+\.[0-9]+\.[0-9]+\.min\.js)"></script>')


def embedded() -> str:
    """The script element of a report that stands alone."""
    return f"<script>{get_plotlyjs()}</script>"


def shared() -> str:
    """The script element of a report that loads the shared file."""
    return f'<script src="{_UP}{_file_name()}"></script>'


def publish_script(base: ObjectStoragePath) -> None:
    """Write the shared file, if it is not there.

    Raises:
        OSError: It cannot be written.
    """
    file = base / _file_name()
    if not file.exists():
        base.mkdir(parents=True, exist_ok=True)
        publish_file(file, get_plotlyjs().encode())


def standing_alone(report: bytes, base: ObjectStoragePath) -> bytes:
    """A report as one file, whose script is put in where it would load the shared one.

    Raises:
        OSError: The shared file cannot be read.
    """
    found = _LOADED.search(report)
    if found is None:
        return report
    script = (base / found[1].decode()).read_bytes()
    return report.replace(found[0], b"<script>" + script + b"</script>", 1)


def _file_name() -> str:
    # With the version in its name, so that reports of earlier versions keep the script that they were made for.
    return f"plotly-{get_plotlyjs_version()}.min.js"
