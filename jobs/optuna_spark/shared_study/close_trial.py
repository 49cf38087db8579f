"""Fails a trial that no worker runs any more."""

from __future__ import annotations

import copy
import datetime
from dataclasses import replace

from optuna.trial import FrozenTrial, TrialState

from optuna_spark.database.connection import Statement, Transaction
from optuna_spark.shared_study.trial_reader import read_trial
from optuna_spark.storage.optuna_tables import NEW_STATE, Changes, Written
from optuna_spark.storage.trial_marks import abandoned, ended
from optuna_spark.storage.trial_record import TrialRecord


def fail_trial(transaction: Transaction, study_id: int, trial_id: int, error: str) -> FrozenTrial | None:
    """Store a trial as failed, unless it has ended. Returns it as it is stored then; None if it is gone."""
    before = read_trial(transaction, study_id, trial_id)
    if before is None or before.state.is_finished():
        return before
    failed = copy.copy(before)
    failed.state, failed.datetime_complete = TrialState.FAIL, datetime.datetime.now()
    attrs = {**before.system_attrs, **abandoned(before, error)}
    failed.system_attrs = ended(attrs, failed.datetime_complete)
    record = whole_record(failed)
    transaction.run(new_state(record, trial_id), *changes(record, Written.of(whole_record(before), trial_id)))
    return failed


def whole_record(trial: FrozenTrial, reports_before: int = 0) -> TrialRecord:
    """The record of a trial with all its system attributes: samplers of other processes read them.

    Args:
        trial: The trial.
        reports_before: How many of its reports are stored, and left out.
    """
    record = TrialRecord.of(trial, trial.datetime_start, reports_before)
    return replace(record, system_attrs=dict(trial.system_attrs))


def new_state(record: TrialRecord, trial_id: int) -> Statement:
    """The statement that stores a trial's state. It matches no row if the trial has ended."""
    return NEW_STATE, [(record.state.name, record.start, record.complete, trial_id)]


def changes(record: TrialRecord, written: Written) -> list[Statement]:
    """The statements that write what a trial has and the database lacks."""
    missing = Changes()
    missing.add(record, written)
    return missing.statements()
