"""Optuna's tables: the SQL for a trial's rows, and which rows of a trial the database still lacks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState

from optuna_spark.database.connection import Statement
from optuna_spark.storage.trial_record import TrialRecord

# How a new database compares texts: every name differs from every other one, as in Python. Each server reads its own
# part of these comments: MySQL from 8.0.17 on, MariaDB from 10.2 on. Scripts in init/mysql and init/databricks have
# the same line.
LETTERS = "CHARACTER SET utf8mb4 /*!80017 COLLATE utf8mb4_0900_bin */ /*M!100200 COLLATE utf8mb4_nopad_bin */"

NEW_TRIAL = (
    "INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete) VALUES (%s, %s, %s, %s, %s)"
)
# Ids only grow, so `trial_id >` the last known one selects the new rows.
TRIAL_IDS = "SELECT number, trial_id FROM trials WHERE study_id = %s AND trial_id > %s"
# Changes no finished trial: if another process has finished it, no row matches, and StudyWriter notices.
NEW_STATE = (
    "UPDATE trials SET state = %s, datetime_start = %s, datetime_complete = %s"
    " WHERE trial_id = %s AND state IN ('RUNNING', 'WAITING')"
)
NEW_PARAM = "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (%s, %s, %s, %s)"
NEW_VALUE = "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (%s, %s, %s, %s)"
NEW_STEP = (
    "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)"
    " VALUES (%s, %s, %s, %s)"
)
NEW_USER_ATTR = "INSERT INTO trial_user_attributes (trial_id, `key`, value_json) VALUES (%s, %s, %s)"
NEW_SYSTEM_ATTR = "INSERT INTO trial_system_attributes (trial_id, `key`, value_json) VALUES (%s, %s, %s)"
USER_ATTR = "UPDATE trial_user_attributes SET value_json = %s WHERE trial_id = %s AND `key` = %s"
SYSTEM_ATTR = "UPDATE trial_system_attributes SET value_json = %s WHERE trial_id = %s AND `key` = %s"

Row = tuple[Any, ...]


@dataclass
class Written:
    """The rows that the database holds of an unfinished trial. Attributes are kept as JSON, as in the tables."""

    trial_id: int
    state: TrialState
    params: set[str] = field(default_factory=set)
    user_attrs: dict[str, str] = field(default_factory=dict)
    system_attrs: dict[str, str] = field(default_factory=dict)
    steps: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, record: TrialRecord, trial_id: int) -> Written:
        """The state after all of `record` was written."""
        return cls(
            trial_id=trial_id,
            state=record.state,
            params=set(record.params),
            user_attrs=_texts(record.user_attrs),
            system_attrs=_texts(record.system_attrs),
            steps=set(record.intermediate_values),
        )

    def note(self, record: TrialRecord) -> None:
        """Take note that a further record of the trial was written."""
        self.state = record.state
        self.params.update(record.params)
        self.user_attrs.update(_texts(record.user_attrs))
        self.system_attrs.update(_texts(record.system_attrs))
        self.steps.update(record.intermediate_values)


class Changes:
    """Collects the rows that one transaction writes, by statement."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Row]] = {}

    def add(self, record: TrialRecord, written: Written) -> None:
        """Add the rows that `record` has and the database lacks."""
        trial_id = written.trial_id
        for name, value in record.params.items():
            if name not in written.params:
                self._put(NEW_PARAM, (trial_id, name, value, record.distributions[name]))
        for step, value in record.intermediate_values.items():
            if step not in written.steps:
                self._put(NEW_STEP, (trial_id, step, *stored_number(value)))
        # Only a finished trial has values, and it is written once: they cannot be there already.
        for objective, value in enumerate(record.values):
            self._put(NEW_VALUE, (trial_id, objective, *stored_number(value)))
        self._add_attrs(trial_id, record.user_attrs, written.user_attrs, NEW_USER_ATTR, USER_ATTR)
        self._add_attrs(trial_id, record.system_attrs, written.system_attrs, NEW_SYSTEM_ATTR, SYSTEM_ATTR)

    def statements(self) -> list[Statement]:
        return list(self._rows.items())

    def _add_attrs(
        self, trial_id: int, attrs: Mapping[str, Any], written: Mapping[str, str], new: str, change: str
    ) -> None:
        for key, text in _texts(attrs).items():
            if key not in written:
                self._put(new, (trial_id, key, text))
            elif written[key] != text:
                self._put(change, (text, trial_id, key))

    def _put(self, statement: str, row: Row) -> None:
        self._rows.setdefault(statement, []).append(row)


def new_trial_rows(records: Iterable[TrialRecord], study_id: int) -> list[Row]:
    return [(r.number, study_id, r.state.name, r.start, r.complete) for r in records]


def stored_number(value: float) -> tuple[float | None, str]:
    """A float as Optuna stores it, in two columns: SQL has no infinities and no NaN, so the second names the kind."""
    if math.isnan(value):
        return None, "NAN"
    if math.isinf(value):
        return None, "INF_POS" if value > 0 else "INF_NEG"
    return value, "FINITE"


def _texts(attrs: Mapping[str, Any]) -> dict[str, str]:
    return {key: json.dumps(value) for key, value in attrs.items()}
