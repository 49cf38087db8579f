"""Whatever started a run, its mode is the one it was started with, and its study's rule is asked or not."""

from __future__ import annotations

from enum import Enum

import pytest
from airflow.sdk.api.datamodels._generated import DagRunType as TaskDagRunType
from airflow.utils.types import DagRunType

from tuning_pipeline.runs.types import ASKED_FOR, asked_for, mode_of_run


def test_every_run_type_of_this_airflow_has_an_answer() -> None:
    assert set(ASKED_FOR) == {str(run_type) for run_type in DagRunType}


@pytest.mark.parametrize("seen_by", [DagRunType, TaskDagRunType], ids=["scheduler", "task"])
def test_a_run_that_somebody_asked_for_is_told_from_one_of_the_schedule(seen_by: type[Enum]) -> None:
    asked = {run_type.value for run_type in seen_by if asked_for(run_type)}
    assert asked == {"manual", "operator_triggered", "asset_materialization"}


@pytest.mark.parametrize(
    ("conf", "mode"),
    [(None, "reset"), ({}, "reset"), ({"trials": 3}, "reset"), ({"mode": "resume"}, "resume"), ({"mode": "x"}, "x")],
)
def test_the_mode_in_conf_goes_before_that_of_the_study_file(conf: dict[str, object] | None, mode: str) -> None:
    assert mode_of_run(conf, "reset") == mode
