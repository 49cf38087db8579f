"""A journal in memory, for tests of what writes to one."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from optuna.trial import TrialState

from optuna_spark.storage.trial_record import Refusal, TrialRecord


class Notebook:
    """A journal in memory that checks what the database relies on: no new number before the ones below it."""

    def __init__(self, rows: int = 0) -> None:
        self.records: dict[int, TrialRecord] = {}
        self.refusals: list[Refusal] = []
        self._rows = rows

    def put(self, record: TrialRecord) -> None:
        assert record.number <= max([self._rows - 1, *self.records]) + 1
        before = self.records.get(record.number)
        assert before is None or not before.state.is_finished()
        self.records[record.number] = record if before is None else record.following(before)

    def put_attrs(self, attrs: Mapping[str, Any]) -> None: ...

    def put_user_attrs(self, attrs: Mapping[str, Any]) -> None: ...

    def commit(self, record: TrialRecord) -> Future[None]:
        self.put(record)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def take_refusals(self) -> list[Refusal]:
        refusals, self.refusals = self.refusals, []
        return refusals

    def count(self, *states: TrialState) -> int:
        return sum(r.state in states for r in self.records.values())
