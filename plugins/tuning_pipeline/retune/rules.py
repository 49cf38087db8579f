"""Whether a scheduled run has anything to do, and the trials it tries first."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna

from optuna_spark.errors import TuningError
from optuna_spark.results.best import best_trials
from optuna_spark.spec.sections import ParamSpec, StopSpec
from optuna_spark.spec.tuning import TuningSpec
from tuning_pipeline.dag.study_names import RESCORE
from tuning_pipeline.exports.paths import exports_base, folder_name
from tuning_pipeline.failures import Failure, TaskError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from optuna_spark.spec.sections import DataSpec
    from tuning_pipeline.study_file.retune import RetuneSettings

log = logging.getLogger(__name__)

# User attribute of a study: fingerprint of the data that its last export was tuned on.
TUNED_ON = "tuned_on"


@dataclass(frozen=True)
class Decision:
    """Whether to tune, and the reason in words."""

    tune: bool
    reason: str


def decide(
    settings: RetuneSettings, *, by_hand: bool, study: optuna.Study | None, fingerprint: str, rescored: float | None
) -> Decision:
    """Apply the rule of a study.

    Args:
        settings: With the rule.
        by_hand: Somebody triggered the run: that is reason enough.
        study: The stored study, if there is one.
        fingerprint: Of today's data.
        rescored: Value of the best trial on today's data, for rule drift.
    """
    if by_hand:
        return Decision(True, "triggered by hand")
    if settings.rule == "always":
        return Decision(True, "the rule is always")
    if study is None or best_trial(study) is None:
        return Decision(True, "there is no earlier result")
    if settings.rule == "new_data":
        if study.user_attrs.get(TUNED_ON) == fingerprint:
            return Decision(False, "the data has not changed since the last export")
        return Decision(True, "the data has changed since the last export, or none is recorded")
    return _by_drift(settings.drift, float(study.best_value), rescored)


def _by_drift(limit: float, old: float, new: float | None) -> Decision:
    if new is None:
        return Decision(True, "the best trial could not be run again")
    moved = abs(new - old) / abs(old) if old else float(new != old)
    words = f"the best trial had {old:.6g} and has {new:.6g} on today's data, a change of {moved:.2%}"
    return Decision(moved > limit, f"{words}; the limit is {limit:.2%}")


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The best complete trial, if there is one."""
    try:
        return best_trials(study, 1)[0]
    except TuningError:
        return None


def data_fingerprint(data: DataSpec | None) -> str:
    """A text that changes when the data does: by names, sizes and times of its files, not by reading them.

    Raises:
        TaskError: The path cannot be looked at from here.
    """
    if data is None:
        return ""
    if data.is_bundled or data.is_url:
        return data.sha256 or data.path
    if data.is_catalog_table:
        raise _unseen(data.path, "it is a table of Spark's catalog, not files")
    from airflow.sdk import ObjectStoragePath

    try:
        path = ObjectStoragePath(data.path if "://" in data.path else f"file://{data.path}", conn_id=data.connection)
        files: Mapping[str, Mapping[str, Any]] = path.fs.find(path.path, detail=True)
    except (OSError, ImportError, ValueError) as error:
        raise _unseen(data.path, str(error)) from error
    if not files:
        raise _unseen(data.path, "there is no file")
    facts = [(name, *(str(found.get(key)) for key in _FILE_FACTS)) for name, found in sorted(files.items())]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


# What file systems call size, and time or hash of the content.
_FILE_FACTS = ("size", "mtime", "LastModified", "last_modified", "updated", "ETag", "etag", "md5Hash")


def _unseen(path: str, why: str) -> TaskError:
    return TaskError(
        Failure(
            what=f"rule new_data cannot look at the data {path} from Airflow",
            why=why,
            next="Use a path or object store URL that the Airflow worker can list, or rule: always or drift.",
        )
    )


def warm_started(spec: TuningSpec, base: str, count: int) -> TuningSpec:
    """The spec with the best parameters of the study's last export tried first, as far as they still fit.

    Args:
        spec: The run.
        base: Folder of all exports.
        count: How many trials at most.
    """
    if count == 0:
        return spec
    file = exports_base(base) / folder_name(spec.study_name) / "latest" / "best_trials.json"
    try:
        records = json.loads(file.read_text())[:count]
    except FileNotFoundError:
        log.info("warm_start: study %s has no export yet", spec.study_name)
        return spec
    fitting = [found for record in records if (found := _fitting(record["params"], spec.search_space))]
    first = [found for found in fitting if found not in spec.enqueue]
    log.info("warm_start: trying %s parameter sets of the last export first", len(first))
    return spec.with_changes(enqueue=(*spec.enqueue, *first))


def _fitting(params: Mapping[str, Any], space: Mapping[str, ParamSpec]) -> dict[str, Any]:
    """The parameters that the search space, which may have changed since, still allows."""
    if not space:
        return dict(params)
    return {name: value for name, value in params.items() if name in space and _allows(space[name], value)}


def _allows(param: ParamSpec, value: Any) -> bool:
    if param.type == "categorical":
        return value in param.choices
    if isinstance(value, bool) or not isinstance(value, int | float) or param.low is None or param.high is None:
        return False
    return param.low <= value <= param.high


def rescoring(spec: TuningSpec, params: Mapping[str, Any]) -> TuningSpec:
    """A run of one trial with these parameters, in a study beside the real one."""
    return spec.with_changes(
        study_name=rescore_study(spec.study_name),
        enqueue=(dict(params),),
        trials=1,
        tasks=1,
        stop=StopSpec(max_failures=1, max_retries=spec.stop.max_retries),
    )


def rescore_study(name: str) -> str:
    """Name of the study that holds the trials of `rescoring`."""
    return f"{name}{RESCORE}"


def rescored_value(study: optuna.Study, run_id: str) -> float | None:
    """What this run's `rescoring` found; None when its trial did not complete."""
    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    values = [trial.value for trial in done if trial.user_attrs.get("run_id") == run_id]
    return values[-1] if values else None


def is_better(value: float, published: float | None, direction: str) -> bool:
    """Whether a best value beats the one published last; anything beats nothing."""
    if published is None:
        return True
    return value > published if direction == "maximize" else value < published
