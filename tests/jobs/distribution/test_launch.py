"""How a worker's report travels back through Arrow."""

from __future__ import annotations

import pytest

from optuna_spark.distribution.dataframe import as_batch
from optuna_spark.wire.payload import WorkerReport
from tests.support.programs import run_python

REPORT = """
import sys
from optuna_spark.distribution.dataframe import as_batch
from optuna_spark.wire.payload import WorkerReport
as_batch(WorkerReport(0, "host:1", 3))
print("pandas" in sys.modules)
"""


@pytest.mark.parametrize("error", [None, 'first line\nsecond "line", \u00fc and \u2028', ""])
def test_a_report_comes_back_as_it_was(error: str | None) -> None:
    report = WorkerReport(1, "host:17", 3, error, error and "DataError")
    (row,) = as_batch(report).to_pylist()
    assert WorkerReport(**row) == report


def test_a_worker_does_not_import_pandas_to_report() -> None:
    assert run_python(REPORT).stdout == "False\n"
