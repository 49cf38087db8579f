"""The attributes of a study, in Optuna's tables."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from optuna_spark.database.connection import Transaction
from optuna_spark.shared_study.claims import lock_study


@dataclass(frozen=True)
class AttrTable:
    """The statements for one of the two tables."""

    read: str
    change: str
    new: str


USER = AttrTable(
    "SELECT `key`, value_json FROM study_user_attributes WHERE study_id = %s",
    "UPDATE study_user_attributes SET value_json = %s WHERE study_id = %s AND `key` = %s",
    "INSERT INTO study_user_attributes (study_id, `key`, value_json) VALUES (%s, %s, %s)",
)
SYSTEM = AttrTable(
    "SELECT `key`, value_json FROM study_system_attributes WHERE study_id = %s",
    "UPDATE study_system_attributes SET value_json = %s WHERE study_id = %s AND `key` = %s",
    "INSERT INTO study_system_attributes (study_id, `key`, value_json) VALUES (%s, %s, %s)",
)


def read_attrs(transaction: Transaction, table: AttrTable, study_id: int) -> dict[str, Any]:
    """A study's attributes in one of the two tables."""
    (found,) = transaction.run((table.read, [(study_id,)]))
    return {key: json.loads(text) for key, text in found.rows}


def write_attr(transaction: Transaction, table: AttrTable, study_id: int, key: str, text: str) -> None:
    """Set an attribute, given as JSON."""
    lock, _ = lock_study(study_id)  # two processes may set a new attribute at once
    _, changed = transaction.run(lock, (table.change, [(text, study_id, key)]))
    if not changed.matched:
        transaction.run((table.new, [(study_id, key, text)]))
