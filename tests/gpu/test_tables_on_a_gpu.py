"""Each file of the conformance suite gives the same on a GPU, where cuDF reads what it can."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.data.table_files import CASES
from tests.jobs.read_tables import facts


@pytest.mark.parametrize("name", CASES)
def test_a_gpu_is_given_the_same(tmp_path: Path, name: str) -> None:
    pytest.importorskip("cudf")
    case = CASES[name]
    given = {"path": case.write(tmp_path), **case.given}
    assert facts(given, case.task, device="cuda") == facts(given, case.task)
