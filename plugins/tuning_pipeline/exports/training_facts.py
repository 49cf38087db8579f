"""What a run trains on and with, beside each trial's parameters: enough to train its best trial again.

A run notes it in its study when it begins, because its best trial may be exported by a later run, which has other
settings. Asset events carry it, and many people may read those: nothing here is a secret.
"""

from __future__ import annotations

import logging
import platform
import re
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from optuna_spark.objectives.registry import fixed_params
from optuna_spark.results.trial_rows import to_json_value
from optuna_spark.results.versions import VERSIONS
from optuna_spark.spec.decode import to_dict
from optuna_spark.storage.run_notes import note_of, noted
from tuning_pipeline.exports.git_commit import git_commit

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from optuna_spark.spec.data import DataSpec
    from optuna_spark.spec.tuning import TuningSpec
    from tuning_pipeline.runs.study_run import StudyRun

log = logging.getLogger(__name__)

TRAINING = "optuna_spark:training"


def training_facts(run: StudyRun, fingerprint: str) -> dict[str, Any]:
    """What a run trains on and with, as plain data.

    Args:
        run: The run.
        fingerprint: Fingerprint of its data; empty if Airflow cannot tell one.
    """
    spec = run.spec
    return {
        "objective": spec.objective,
        "fixed": {name: to_json_value(value) for name, value in fixed_params(spec).items()},
        "data": _data(spec, fingerprint),
        "seed": spec.seed,
        "git_commit": git_commit(run.study.path.parent),
    }


def note_training(run: StudyRun, storage: BaseStorage, fingerprint: str) -> None:
    """Note the facts of a run in its study."""
    study_id = storage.get_study_id_from_name(run.study.settings.study)
    before = storage.get_study_system_attrs(study_id).get(TRAINING)
    storage.set_study_system_attr(study_id, TRAINING, noted(before, run.key, training_facts(run, fingerprint)))


def facts_for(found_by: str, run: StudyRun, storage: BaseStorage, fingerprint: str) -> dict[str, Any]:
    """The facts to export with a best trial.

    Args:
        found_by: The run that found it.
        run: The run that exports it.
        storage: Holds the study.
        fingerprint: Fingerprint of the exporting run's data.

    Returns:
        The facts, with versions, and `settings_of`: the run that they are about. That is `found_by`, or the exporting
        run where nothing is noted of that one.
    """
    attrs = storage.get_study_system_attrs(storage.get_study_id_from_name(run.study.settings.study))
    facts = note_of(attrs.get(TRAINING), found_by)
    about = found_by if facts is not None else run.key
    if facts is None:
        facts = note_of(attrs.get(TRAINING), run.key) or training_facts(run, fingerprint)
    versions = note_of(attrs.get(VERSIONS), about) or {"python": platform.python_version()}
    return {**facts, "versions": {**versions, **_own_version()}, "settings_of": about}


def with_facts(best: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The content of best_params.json with a run's facts. `fixed` has what the trial found in its data, too."""
    return {**best, **facts, "fixed": {**facts.get("fixed", {}), **best["fixed"]}}


def shareable_path(path: str) -> str:
    """A path or address without what may be a login in it: user, password, query, and options of JDBC.

    The container in an address of Azure (`abfss://container@account...`) stands where others have a login, and stays.
    """
    jdbc = path.startswith("jdbc:")
    plain = re.split(r"[?;]", path, maxsplit=1)[0] if jdbc else path
    if not jdbc and "://" in path:
        plain = re.split(r"[?#]", path, maxsplit=1)[0] if _has_query(path) else path
    return _LOGIN.sub(_without_login, plain)


_LOGIN = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*)://(?P<login>[^/?#\s]*)@")
_CONTAINERS = ("abfs", "abfss", "wasb", "wasbs")


def _has_query(path: str) -> bool:
    # In an object store's path a question mark alone is a pattern: part-?.parquet.
    return path.startswith(("http://", "https://", "ftp://")) or re.search(r"\?[^/]*=", path) is not None


def _without_login(found: re.Match[str]) -> str:
    scheme, login = found["scheme"], found["login"]
    if scheme.lower() in _CONTAINERS and ":" not in login:
        return found[0]
    return f"{scheme}://"


def _data(spec: TuningSpec, fingerprint: str) -> dict[str, Any] | None:
    data: DataSpec | None = spec.data
    if data is None:
        return None
    return {
        "path": _shareable(data),
        "format": data.format,
        "label": data.label,
        "separator": data.separator,
        "encoding": data.encoding,
        "missing": None if data.missing is None else list(data.missing),
        "columns": to_dict(data.columns),
        "categorical": to_dict(data.categorical),
        "sha256": data.sha256,
        "fingerprint": shareable_path(fingerprint) or None,
    }


def _shareable(data: DataSpec) -> str | list[str]:
    paths = [shareable_path(path) for path in data.paths]
    return paths[0] if isinstance(data.path, str) else paths


def _own_version() -> Mapping[str, str]:
    try:
        return {"optuna_spark": metadata.version("optuna-spark-airflow")}
    except metadata.PackageNotFoundError:  # a checkout, which git_commit tells
        return {}
