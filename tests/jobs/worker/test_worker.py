"""What a worker does around its trials."""

from __future__ import annotations

import contextlib
import math
import weakref
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pytest
from optuna.trial import TrialState

from optuna_spark.wire.messages import Outcome
from optuna_spark.wire.payload import WorkerPayload
from optuna_spark.worker import worker
from optuna_spark.worker.worker import run_trial, run_worker
from tests.support.coordination import Coordinator, spec_for


@pytest.mark.parametrize(
    ("result", "values"),
    [
        (1, (1.0,)),
        (True, (1.0,)),
        (np.float32(1.5), (1.5,)),
        (np.array(1.5), (1.5,)),
        (Fraction(3, 2), (1.5,)),
        ([1.5], (1.5,)),
        (math.inf, (math.inf,)),
        ("1.5", None),
        ("1", None),
        (["1.5"], None),
        (10**400, None),
        ([10**5000], None),
        (math.nan, None),
        (None, None),
        ((1.0, 2.0), None),
        (1j, None),
    ],
    ids=lambda value: repr(value)[:12] if not isinstance(value, list) or value != [10**5000] else "huge",
)
def test_what_an_objective_may_return(result: Any, values: tuple[float, ...] | None) -> None:
    study = optuna.create_study()
    with contextlib.suppress(TypeError, OverflowError, AssertionError):  # Optuna fails on some itself
        study.optimize(lambda _: result, n_trials=1)
    assert study.trials[0].values == (None if values is None else list(values))
    outcome = run_trial(lambda _: result, study.trials[0], 1)
    assert (outcome.state, outcome.values) == (TrialState.COMPLETE if values else TrialState.FAIL, values)
    assert values or "the objective must" in str(outcome.error)


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
