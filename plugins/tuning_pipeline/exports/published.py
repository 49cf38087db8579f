"""A file beside a study's exports with the result that the study published last.

`publish: better` compares with it. The last asset event holds the same, but `airflow db clean` deletes events. Without
this file, the next result would then be published however bad it is.
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

# No folder of a run has this name, because `folder_name` never returns one that begins with a dot.
FILE = ".published.json"


@dataclass(frozen=True)
class Published:
    """The last asset event of a study.

    Attributes:
        run_id: The run that published it.
        folder: Name of that run's export folder.
        value: Its best value; None for a study with several directions.
    """

    run_id: str
    folder: str
    value: float | None

    @classmethod
    def by_run(cls, best: Mapping[str, Any]) -> Published:
        """The asset event of a run with this content of best_params.json."""
        return cls(best["run_id"], folder_name(best["run_id"]), best["value"])


def read_published(base: ObjectStoragePath | str | Path, study: str) -> Published | None:
    """Read what the study published last; None if there is no file.

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
    """Write the file: this run's event is now the last one.

    Raises:
        ExportError: The file cannot be written.
    """
    file = _file(base, study)
    try:
        publish_file(file, (json.dumps(asdict(Published.by_run(best))) + "\n").encode())
    except OSError as error:
        raise ExportError(f"cannot write {file}: {error}; check its folder's permissions and free space") from error


def note_if_better(
    base: ObjectStoragePath | str | Path, study: str, best: Mapping[str, Any], events: Sequence[Any]
) -> bool:
    """Whether a run should publish, with `publish: better`. If so, writes the file.

    Args:
        base: The folder of all exports.
        study: The study's name.
        best: The content of the run's best_params.json.
        events: The study's asset events that Airflow still has.
    """
    better = beats_published(best, read_published(base, study), events)
    # Before the task ends, because Airflow stores the event only after that. `beats_published` handles a task that dies
    # in between.
    if better:
        note_published(base, study, best)
    return better


def beats_published(best: Mapping[str, Any], noted: Published | None, events: Sequence[Any]) -> bool:
    """Whether a run's best value is better than that in the file (`noted`), or, without a file, in the last event."""
    event = _event(events)
    if noted is not None and noted == Published.by_run(best) and event.get("run_id") != noted.run_id:
        return True  # an earlier try of this task wrote the file, but ended before Airflow stored its event
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
    """Whether a best value is better than the one published last. Any value is better than None."""
    if published is None:
        return True
    return value > published if direction == "maximize" else value < published
