"""What a study published last, kept beside its exports.

`publish: better` compares with it. The asset event holds the same, but `airflow db clean` deletes events, and whatever
comes then would be better than nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from optuna_spark.errors import ExportError
from tuning_pipeline.exports.paths import exports_base, folder_name
from tuning_pipeline.exports.whole_folders import publish_file
from tuning_pipeline.failures import Failure, TaskError

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import ObjectStoragePath

log = logging.getLogger(__name__)

# Hidden: no run's folder has such a name, see folder_name.
FILE = ".published.json"


@dataclass(frozen=True)
class Published:
    """The last asset event of a study.

    Attributes:
        run_id: The run it is from.
        folder: Name of that run's export.
        value: Its best value; None for a study of several directions.
    """

    run_id: str
    folder: str
    value: float | None

    @classmethod
    def by_run(cls, best: Mapping[str, Any]) -> Published:
        """What an event with this content of best_params.json says."""
        return cls(best["run_id"], folder_name(best["run_id"]), best["value"])


def read_published(base: ObjectStoragePath | str | Path, study: str) -> Published | None:
    """What the study published last; None where nothing is noted.

    Raises:
        TaskError: The file holds something else.
    """
    file = _file(base, study)
    try:
        return _decoded(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TaskError(
            Failure(
                what=f"{file} does not say what study {study} published last",
                why=f"it cannot be read as what an export notes there ({type(error).__name__})",
                next="Remove it. The next export then compares with the study's last asset event, and publishes where"
                " there is none.",
            )
        ) from error


def note_published(base: ObjectStoragePath | str | Path, study: str, best: Mapping[str, Any]) -> None:
    """Remember that the event of this task is the last one.

    Raises:
        ExportError: The note cannot be written.
    """
    file = _file(base, study)
    try:
        publish_file(file, (json.dumps(asdict(Published.by_run(best))) + "\n").encode())
    except OSError as error:
        raise ExportError(f"cannot write {file}: {error}; check its folder's permissions and free space") from error


def note_if_better(
    base: ObjectStoragePath | str | Path, study: str, best: Mapping[str, Any], events: Sequence[Any]
) -> bool:
    """Whether a run is to publish under `publish: better`; if so that is noted.

    Args:
        base: The folder of all exports.
        study: The study's name.
        best: The content of the run's best_params.json.
        events: The study's asset events, as far as Airflow still has them.
    """
    better = beats_published(best, read_published(base, study), events)
    if better:
        note_published(base, study, best)
    return better


def beats_published(best: Mapping[str, Any], noted: Published | None, events: Sequence[Any]) -> bool:
    """Whether a run's best value is better than the one `noted`, or, where nothing is, that of the last event."""
    event = _event(events)
    if noted is not None and noted == Published.by_run(best) and event.get("run_id") != noted.run_id:
        return True  # noted, and the task ended before Airflow took the event: this is its next try
    last = noted.value if noted is not None else event.get("value")
    better = is_better(best["value"], last, best["directions"][0])
    if not better:
        log.info("No asset event: value %s is no better than %s, published last", best["value"], last)
    return better


def _event(events: Sequence[Any]) -> Mapping[str, Any]:
    extra: Mapping[str, Any] = events[-1].extra if len(events) else {}
    return extra


def _decoded(content: bytes) -> Published:
    fields = json.loads(content)
    value = fields["value"]
    if not (isinstance(fields["run_id"], str) and isinstance(fields["folder"], str)):
        raise TypeError("run_id and folder are texts")
    return Published(fields["run_id"], fields["folder"], None if value is None else float(value))


def _file(base: ObjectStoragePath | str | Path, study: str) -> ObjectStoragePath:
    return exports_base(base) / folder_name(study) / FILE


def is_better(value: float, published: float | None, direction: str) -> bool:
    """Whether a best value beats the one published last; anything beats nothing."""
    if published is None:
        return True
    return value > published if direction == "maximize" else value < published
