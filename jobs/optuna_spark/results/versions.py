"""Notes in a study with which versions each run was made, as the driver has them; its workers have the same."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING

from optuna_spark.storage.run_notes import noted

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

VERSIONS = "optuna_spark:versions"
# Distributions that decide what a trial's value is, as far as they are installed.
_PACKAGES = (
    "optuna", "numpy", "pandas", "pyarrow", "pyspark", "xgboost", "lightgbm", "catboost", "scikit-learn", "torch",
    "cudf-cu12", "cupy-cuda12x",
)  # fmt: skip


def note_versions(study: optuna.Study, storage: BaseStorage, run_id: str) -> None:
    """Note this process's versions as those of a run."""
    study_id = storage.get_study_id_from_name(study.study_name)
    attrs = storage.get_study_system_attrs(study_id)
    notes = noted(attrs.get(VERSIONS), run_id, versions())
    if notes != attrs.get(VERSIONS):
        storage.set_study_system_attr(study_id, VERSIONS, notes)


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide what a trial's value is."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
