"""What a worker does around its trials."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from optuna_spark.wire.messages import Outcome
from optuna_spark.wire.payload import WorkerPayload
from optuna_spark.worker import worker
from optuna_spark.worker.worker import run_trial, run_worker
from tests.support.coordination import Coordinator, spec_for


def test_a_table_from_spark_is_gone_once_the_objective_has_made_what_it_needs_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = [pa.table({"a": [1.0, 2, 3, 4], "y": [1.0, 2, 3, 4]})]
    seen, table = [], weakref.ref(tables[0])

    def watched(objective: Any, trial: Any, n_values: int, **options: bool) -> Outcome:
        seen.append(table())
        return run_trial(objective, trial, n_values, **options)

    monkeypatch.setattr(worker, "run_trial", watched)
    spec = spec_for(objective="quadratic", trials=2)
    with Coordinator(spec, f"sqlite:///{tmp_path}/study.sqlite3") as coordinator:
        endpoint = coordinator.start()
        payload = WorkerPayload(spec.to_json(), driver=(endpoint.host, endpoint.port), secret=endpoint.secret)
        report = run_worker(payload, 0, None, tables.pop())
    assert report.error is None
    assert seen == [None, None]
