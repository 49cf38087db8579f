"""Exports the study as one run left it: without the trials of later runs, and without replacing their results.

This module takes a second to import, as `export` does.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from optuna_spark.results.snapshot import mask_passwords, without_runs
from optuna_spark.storage.optuna_storage import opened_storage
from optuna_spark.storage.trial_marks import run_id_of
from tuning_pipeline.database.finish_marks import ended_early
from tuning_pipeline.database.replaced_studies import drop_replaced
from tuning_pipeline.exports.ended_early import EndedEarly
from tuning_pipeline.exports.export import export_study
from tuning_pipeline.exports.final_model import forget_kept_model, model_of
from tuning_pipeline.exports.published import Again, published_params, tried_again
from tuning_pipeline.exports.runs_of_study import runs_of_study
from tuning_pipeline.exports.training_facts import facts_for
from tuning_pipeline.exports.tuned_on import TUNED_ON

if TYPE_CHECKING:
    import sqlalchemy

    from tuning_pipeline.runs.study_run import StudyRun

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportedRun:
    """The result of an export.

    Attributes:
        best: The content of best_params.json, and the folder.
        newest: Whether no other run has worked on the study since. If so, `latest` leads to this export.
        again: The trial of the study with the parameters published last; None where `publish` does not ask for it.
    """

    best: dict[str, Any]
    newest: bool
    again: Again | None = None


def export_run(run: StudyRun, url: sqlalchemy.URL, fingerprint: str) -> ExportedRun:
    """Write the export of a run. After the newest run's, also drop old studies that resets have replaced.

    Args:
        run: The run.
        url: Storage URL of the study.
        fingerprint: Fingerprint of the data, to store in the study; empty if there is none.

    Raises:
        TaskError: The study is gone, or a later run reset it and so removed this run's trials.
        ExportError: As for `export_study`.
    """
    settings = run.study.settings
    with opened_storage(url) as storage:
        runs = runs_of_study(run, storage)
        newest = runs.is_newest(run.key)
        stored = optuna.load_study(study_name=settings.study, storage=storage)
        best = export_study(
            without_runs(stored, runs.after(run.key)), run.study.exports_base(), run.identity.run_id, settings.top_k,
            run_key=run.key, latest=newest, facts=lambda found_by: facts_for(found_by, run, storage, fingerprint),
            shared_script=settings.shared_script, ended=_ended(run, storage), model=lambda best: model_of(run, best),
            tested=_tested(run),
        )  # fmt: skip
        forget_kept_model(run)
        # Both would be wrong after an older run: later runs used other data, and may still need what was replaced.
        if newest:
            if fingerprint:
                stored.set_user_attr(TUNED_ON, fingerprint)
            drop_replaced(storage, settings.study, settings.keep_replaced)
        else:
            log.info("Run %s has worked on the study since: `latest` and the published parameters stay", runs.newest)
        return ExportedRun(best, newest, _again(run, stored))


def _again(run: StudyRun, stored: optuna.Study) -> Again | None:
    if run.study.settings.retune.publish != "better":
        return None
    params = published_params(run.study.exports_base(), run.study.settings.study)
    return tried_again(params, stored.get_trials(deepcopy=False))


def export_partial(run: StudyRun, url: sqlalchemy.URL, why: str) -> str | None:
    """Write the export of a run that failed, from what it had finished. `latest` and what is published stay.

    Args:
        run: The run.
        url: Storage URL of the study.
        why: Why it failed.

    Returns:
        The folder; None if the run has completed no trial.

    Raises:
        TaskError, ExportError: As for `export_run`.
    """
    settings = run.study.settings
    with opened_storage(url) as storage:
        runs = runs_of_study(run, storage)
        stored = optuna.load_study(study_name=settings.study, storage=storage)
        complete = stored.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not any(run_id_of(trial) == run.key for trial in complete):
            return None
        best = export_study(
            without_runs(stored, runs.after(run.key)), run.study.exports_base(), run.identity.run_id, settings.top_k,
            run_key=run.key, latest=False, facts=lambda found_by: facts_for(found_by, run, storage, ""),
            shared_script=settings.shared_script, ended=EndedEarly(mask_passwords(why), failed=True),
            tested=_tested(run),
        )  # fmt: skip
        return str(best["folder"])


def _tested(run: StudyRun) -> bool:
    data = run.study.settings.data
    return data is not None and data.test is not None


def _ended(run: StudyRun, storage: Any) -> EndedEarly | None:
    why = ended_early(run.study.settings.study, run.key, storage)
    return None if why is None else EndedEarly(why)
