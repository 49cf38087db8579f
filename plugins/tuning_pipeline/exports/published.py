"""A file beside a study's exports with the result that the study published last, and whether a run beats that.

`publish: better` compares with it. The last asset event holds the same, but `airflow db clean` deletes events. Without
this file, the next result would then be published however bad it is.

Values are compared within one study only. Its trials had the same data, which a study that was begun anew may not have:
a run of such a study first tries the parameters published last (`retune.first_tries`), and their value there counts.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, TrialState

from optuna_spark.errors import ExportError
from optuna_spark.results.trial_rows import to_json_value
from tuning_pipeline.exports.folders.paths import exports_base, folder_name
from tuning_pipeline.exports.folders.whole_folders import publish_file
from tuning_pipeline.failures import Failure, TaskError

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import ObjectStoragePath

log = logging.getLogger(__name__)

# No folder of a run has this name, because `folder_name` never returns one that begins with a dot.
FILE = ".published.json"
# The same as in export.py, whose import would take a second.
MARKER = "best_params.json"


@dataclass(frozen=True)
class Published:
    """The last asset event of a study.

    Attributes:
        run_id: The run that published it.
        folder: Name of that run's export folder.
        value: Its best value; None for a study with several directions.
        params: The parameters of that value; None in a file of an earlier version.
    """

    run_id: str
    folder: str
    value: float | None
    params: Mapping[str, Any] | None = None

    @classmethod
    def by_run(cls, best: Mapping[str, Any]) -> Published:
        """The asset event of a run with this content of best_params.json."""
        return cls(best["run_id"], folder_name(best["run_id"]), best["value"], best["params"])

    def is_of(self, best: Mapping[str, Any]) -> bool:
        """Whether it is the event of a run with this content of best_params.json."""
        return self.run_id == best["run_id"] and self.params in (None, best["params"])


@dataclass(frozen=True)
class Again:
    """The trial of a study that has the parameters published last: the newest, if there are several."""

    value: float
    trial: int


@dataclass(frozen=True)
class Verdict:
    """Whether a run's result is published, and the reason in words."""

    publish: bool
    why: str

    def __str__(self) -> str:
        return f"{'published' if self.publish else 'not published'}: {self.why}"


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


def published_params(base: ObjectStoragePath | str | Path, study: str) -> dict[str, Any] | None:
    """The parameters that the study published last; None if it published nothing, or they cannot be found.

    Raises:
        TaskError: As for `read_published`.
    """
    noted = read_published(base, study)
    if noted is None or noted.params is not None:
        return None if noted is None else dict(noted.params or {})
    file = exports_base(base) / folder_name(study) / noted.folder / MARKER  # noted by an earlier version
    try:
        return dict(json.loads(file.read_bytes())["params"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def tried_again(params: Mapping[str, Any] | None, trials: Sequence[FrozenTrial]) -> Again | None:
    """The newest complete trial with these parameters that keeps its constraints."""
    for trial in reversed(trials):
        if params is None or trial.state != TrialState.COMPLETE or any(v > 0 for v in trial.constraints.values()):
            continue
        if {name: to_json_value(value) for name, value in trial.params.items()} == params:
            return Again(trial.values[0], trial.number)
    return None


def note_if_better(
    base: ObjectStoragePath | str | Path,
    study: str,
    best: Mapping[str, Any],
    events: Sequence[Any],
    again: Again | None,
) -> Verdict:
    """Whether a run should publish, with `publish: better`. If so, writes the file.

    Args:
        base: The folder of all exports.
        study: The study's name.
        best: The content of the run's best_params.json.
        events: The study's asset events that Airflow still has.
        again: The trial of the study that has the parameters published last.
    """
    verdict = judge(best, read_published(base, study), events, published_params(base, study), again)
    # Before the task ends, because Airflow stores the event only after that. `judge` handles a task that dies in
    # between.
    if verdict.publish:
        note_published(base, study, best)
    return verdict


def judge(
    best: Mapping[str, Any],
    noted: Published | None,
    events: Sequence[Any],
    params: Mapping[str, Any] | None,
    again: Again | None,
) -> Verdict:
    """Whether a run's best value is better than what was published last.

    Args:
        best: The content of the run's best_params.json.
        noted: The file; None if there is none, so that the last event counts.
        events: The study's asset events that Airflow still has.
        params: The parameters published last. Where they are known, only their value in this study counts.
        again: The trial of the study that has them.
    """
    event = _event(events)
    if noted is not None and noted.is_of(best) and event.get("run_id") != noted.run_id:
        return Verdict(True, "an earlier try of this task noted it, and Airflow has no event of it yet")
    value, direction = float(best["value"]), best["directions"][0]  # an infinite one is a text in JSON
    if noted is None or params is None:
        last = event.get("value") if noted is None else noted.value
        if last is None:
            return Verdict(True, "nothing was published before")
        return _compared(value, last, direction, "that was published last")
    if best["params"] == params:
        return Verdict(False, f"the parameters published last are still the best, with {value:.6g}")
    if again is None:
        return Verdict(True, "the parameters published last have no value in this study to compare with")
    return _compared(value, again.value, direction, f"which those published last have here (trial {again.trial})")


def _compared(value: float, last: float, direction: str, which: str) -> Verdict:
    better = is_better(value, last, direction)
    return Verdict(better, f"the value {value:.6g} is {'better' if better else 'no better'} than {last:.6g}, {which}")


def _event(events: Sequence[Any]) -> Mapping[str, Any]:
    extra: Mapping[str, Any] = events[-1].extra if len(events) else {}
    return extra


def _decoded(content: bytes) -> Published:
    fields = json.loads(content)
    value = fields["value"]
    params = fields.get("params")
    if not (isinstance(fields["run_id"], str) and isinstance(fields["folder"], str)):
        raise TypeError("run_id and folder are texts")
    if not isinstance(params, dict | None):
        raise TypeError("params are values by name")
    return Published(fields["run_id"], fields["folder"], None if value is None else float(value), params)


def _file(base: ObjectStoragePath | str | Path, study: str) -> ObjectStoragePath:
    return exports_base(base) / folder_name(study) / FILE


def is_better(value: float, published: float, direction: str) -> bool:
    """Whether a best value is better than the one published last."""
    return value > published if direction == "maximize" else value < published
