"""The final model of a run, between the task that trains it and the export that takes it in.

The task puts its files into a hidden folder beside the run's export, whole or not at all. The export takes them over as
its folder `model`, and removes the hidden one. An export that is made again finds them in the export before.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from optuna_spark.errors import ExportError
from optuna_spark.results.best import best_params
from optuna_spark.results.snapshot import snapshot, without_runs
from optuna_spark.spec.model import ModelOrder
from optuna_spark.storage.optuna_storage import opened_storage
from tuning_pipeline.exports.folders.paths import export_folder
from tuning_pipeline.exports.folders.whole_folders import publish_folder, remove_folder
from tuning_pipeline.exports.runs_of_study import runs_of_study
from tuning_pipeline.exports.training_facts import facts_for, with_facts

if TYPE_CHECKING:
    import sqlalchemy
    from airflow.sdk import ObjectStoragePath

    from tuning_pipeline.runs.study_run import StudyRun

log = logging.getLogger(__name__)

# The folder in an export, and the file that says that it is complete.
MODEL, CARD = "model", "model_card.json"
_ABOUT = ("run_id", "found_by", "data", "git_commit", "versions", "settings_of")


def model_order(run: StudyRun, url: sqlalchemy.URL) -> ModelOrder:
    """The order for the final model of a run: the trial of its best_params.json.

    Raises:
        TaskError: The study is gone.
        ExportError: It has no complete trial.
    """
    with opened_storage(url) as storage:
        runs = runs_of_study(run, storage)
        stored = optuna.load_study(study_name=run.study.settings.study, storage=storage)
        best = best_params(snapshot(without_runs(stored, runs.after(run.key))), run.identity.run_id)
        best = with_facts(best, facts_for(best["found_by"], run, storage, ""))
    about = {name: best[name] for name in _ABOUT} | {"run_key": run.key}
    return ModelOrder(
        trial=best["trial"],
        params=best["params"],
        values=tuple(best["values"]),
        metrics=tuple(best["metrics"]),
        fixed=best["fixed"],
        rounds=best["rounds"],
        about=about,
    )


def keep_model(run: StudyRun, folder: Path) -> None:
    """Keep the files of a trained model for the run's export, in place of those of an earlier try.

    Raises:
        ExportError: They cannot be written.
    """
    place = _kept(run)
    try:
        publish_folder(place, {file.name: file.read_bytes() for file in sorted(folder.iterdir())}, CARD)
    except OSError as error:
        raise ExportError(
            f"cannot write the final model to {place}: {error}; check the folder's permissions and free space"
        ) from error


def model_of(run: StudyRun, best: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of the final model of a run, by name; empty if it has none.

    Args:
        run: The run.
        best: The content of its best_params.json. A model of another trial is not taken.
    """
    base, study, run_id = run.study.exports_base(), run.study.settings.study, run.identity.run_id
    for folder in (_kept(run), export_folder(base, study, run_id) / MODEL):
        try:
            card = json.loads((folder / CARD).read_bytes())
            files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        except (OSError, ValueError):
            continue
        if (card["run_key"], card["trial"], card["params"]) == (run.key, best["trial"], best["params"]):
            return files
        log.warning("The model in %s is not of this run's best trial %s, and is not exported", folder, best["trial"])
    return {}


def forget_kept_model(run: StudyRun) -> None:
    """Remove the hidden folder, once the export has its files."""
    place = _kept(run)
    try:
        if place.exists():
            remove_folder(place, CARD)
    except OSError as error:
        log.warning("%s cannot be removed (%s): remove it by hand, or leave it", place, error)


def _kept(run: StudyRun) -> ObjectStoragePath:
    folder = export_folder(run.study.exports_base(), run.study.settings.study, run.identity.run_id)
    return folder.parent / f".{folder.name}.{MODEL}"
