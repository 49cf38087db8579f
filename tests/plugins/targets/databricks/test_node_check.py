"""A study whose trials fit on no node of its cluster is refused before anything is sent, with both numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.connections import set_connection
from tests.support.databricks import VOLUME, Workspace
from tests.support.databricks_fixtures import DATABRICKS
from tests.support.databricks_fixtures import workspace as workspace  # a fixture
from tests.support.studies import study_reader
from tuning_pipeline.failures import TaskError
from tuning_pipeline.study_file.study_file import StudyFile
from tuning_pipeline.targets.databricks.node_check import check_nodes

Study = Callable[..., StudyFile]
NODE_TYPES, GET = "/api/2.1/clusters/list-node-types", "/api/2.1/clusters/get"
OWN = "existing_cluster_id: 0101-c"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    read = study_reader(tmp_path)

    def make(cluster: str, resources: str = "", spark: str = "") -> StudyFile:
        where = cluster if cluster.startswith("existing") else f"cluster: {{{cluster}}}"
        return read(
            "objective: quadratic\ntarget: databricks\n"
            f"resources: {{{resources}}}\nspark: {{{spark}}}\ndatabricks:\n  files: {VOLUME}\n  {where}\n"
        )

    return make


def check(study: StudyFile) -> None:
    check_nodes(study, study.to_spec("run"))


REFUSED = [
    (
        ("node_type: i3.xlarge", "cpus_per_task: 64"),
        "databricks.cluster.node_type i3.xlarge has 4 cores and no GPU, and one trial needs 64 cores"
        " (resources.cpus_per_task)",
        "Set resources.cpus_per_task to 4 or less, or choose nodes with 64 cores.",
    ),
    (
        ("node_type: i3.xlarge", "gpus_per_task: 0.25"),
        "i3.xlarge has 4 cores and no GPU, and one trial needs 1 GPU (resources.gpus_per_task)",
        "Set resources.gpus_per_task to 0, or choose nodes with 1 GPU.",
    ),
    (
        ("node_type: i3.xlarge", "cpus_per_task: 8, gpus_per_task: 1"),
        "one trial needs 8 cores (resources.cpus_per_task) and 1 GPU (resources.gpus_per_task)",
        "Set resources.cpus_per_task to 4 or less and resources.gpus_per_task to 0, or choose nodes with 8 cores and"
        " 1 GPU.",
    ),
    (
        ("node_type: i3.xlarge, workers: 0, driver_node_type: i3.4xlarge", "cpus_per_task: 17"),
        "databricks.cluster.driver_node_type i3.4xlarge has 16 cores",
        "to 16 or less",
    ),
    (
        ("node_type: i3.xlarge, autoscale: {min_workers: 1, max_workers: 99}", "cpus_per_task: 5"),
        "has 4 cores and no GPU, and one trial needs 5 cores",
        "",
    ),
    (
        ("node_type: i3.xlarge", "", "executor_cores: 8"),
        "i3.xlarge has 4 cores and 31,232 MiB of memory, and one executor needs 8 cores (spark.executor.cores)",
        "Set spark.executor.cores to 4 or less",
    ),
    (
        ("node_type: i3.xlarge, spark_conf: {spark.executor.memory: 31G}", "", "executor_memory: 2g"),
        "and one executor needs 31,744 MiB of memory (spark.executor.memory)",
        "Set spark.executor.memory to 31,232 or less",
    ),
    (
        (OWN, "cpus_per_task: 8"),
        "databricks.existing_cluster_id 0101-c (nodes i3.xlarge) has 4 cores and no GPU, and one trial needs 8 cores",
        "or choose nodes with 8 cores",
    ),
    ((OWN, "gpus_per_task: 1"), "(nodes i3.xlarge) has 4 cores and no GPU, and one trial needs 1 GPU", ""),
]


@pytest.mark.parametrize(("given", "what", "then"), REFUSED)
def test_what_fits_on_no_node_is_refused_with_both_numbers(
    workspace: Workspace, study: Study, given: tuple[str, ...], what: str, then: str
) -> None:
    workspace.clusters["0101-c"] = {"node_type_id": "i3.xlarge", "driver_node_type_id": "i3.4xlarge", "num_workers": 2}
    with pytest.raises(TaskError) as caught:
        check(study(*given))
    failure = caught.value.failure
    assert what in failure.what
    assert then in failure.next
    assert not failure.retry


FITS = [
    ("node_type: i3.xlarge", "cpus_per_task: 4"),
    ("node_type: g4dn.xlarge", "cpus_per_task: 4, gpus_per_task: 1"),
    ("node_type: g4dn.xlarge", "gpus_per_task: 0.25"),
    # One machine alone is the driver's: executors are asked for nowhere.
    ("node_type: i3.xlarge, workers: 0, driver_node_type: i3.4xlarge", "cpus_per_task: 16", "executor_cores: 64"),
    ("node_type: i3.xlarge, driver_node_type: i3.4xlarge", "cpus_per_task: 4", "executor_memory: 512m"),
    ("node_type: i3.xlarge, spark_conf: {spark.executor.memory: '{{secrets/a/b}}'}", "cpus_per_task: 4"),
    ("node_type: i3.xlarge, spark_conf: {spark.executor.memory: 31000}", ""),
    # Workers may be told to offer more cores than their machine has.
    ("node_type: i3.xlarge, env: {SPARK_WORKER_CORES: '8'}", "cpus_per_task: 8"),
    ("node_type: shared", "cpus_per_task: 3"),
    (OWN, "cpus_per_task: 16"),
]


@pytest.mark.parametrize("given", FITS)
def test_what_fits_goes_on(
    workspace: Workspace, study: Study, given: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    workspace.node_types["shared"] = (2.5, 8192, 0)
    workspace.clusters["0101-c"] = {"node_type_id": "i3.xlarge", "driver_node_type_id": "i3.4xlarge", "num_workers": 0}
    with caplog.at_level(logging.INFO):
        check(study(*given))
    assert "is not known" not in caplog.text, "the nodes were looked at"


UNKNOWN: list[tuple[str, tuple[str, ...], str]] = [
    ("node_type: i3.xlarge", (NODE_TYPES,), "may not use /api/2.1/clusters/list-node-types"),
    (OWN, (GET,), "may not use /api/2.1/clusters/get"),
    ("existing_cluster_id: gone", (), "Cluster gone does not exist"),
    ("node_type: n", (), "the workspace lists no node type n"),
    ("instance_pool_id: p", (), "the instance pool decides what they are"),
    ("policy_id: p", (), "the cluster policy decides what they are"),
    ("node_type: i3.xlarge, driver_instance_pool_id: p, workers: 0", (), "the instance pool decides what they are"),
]


@pytest.mark.parametrize(("cluster", "forbidden", "why"), UNKNOWN)
def test_where_the_workspace_does_not_say_the_run_goes_on_with_one_line(
    workspace: Workspace,
    study: Study,
    cluster: str,
    forbidden: tuple[str, ...],
    why: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    workspace.faults.forbidden = forbidden
    with caplog.at_level(logging.INFO, "tuning_pipeline"):
        check(study(cluster, "cpus_per_task: 64"))
    (line,) = [record.getMessage() for record in caplog.records if "tuning_pipeline" in record.name]
    assert line.startswith("Whether trials fit on the cluster's nodes is not known: ")
    assert why in line


def test_a_workspace_that_tells_gpus_of_no_type_is_no_reason_to_refuse_one(workspace: Workspace, study: Study) -> None:
    workspace.node_types = {name: (cores, memory, None) for name, (cores, memory, _) in workspace.node_types.items()}
    check(study("node_type: i3.xlarge", "gpus_per_task: 1"))
    with pytest.raises(TaskError, match=r"i3\.xlarge has 4 cores, and one trial needs 5 cores"):
        check(study("node_type: i3.xlarge", "gpus_per_task: 1, cpus_per_task: 5"))


def test_a_workspace_that_does_not_answer_at_all_is_one_card(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    fields: dict[str, Any] = {"host": "127.0.0.1", "schema": "http", "port": 1, "password": "t"}
    set_connection(monkeypatch, DATABRICKS, conn_type="databricks", **fields)
    monkeypatch.setattr("tuning_pipeline.targets.databricks.workspace.access.RETRY_S", 1)
    with pytest.raises(TaskError, match="no Databricks workspace answers at http://127") as caught:
        check(study("node_type: i3.xlarge"))
    assert caught.value.failure.retry
