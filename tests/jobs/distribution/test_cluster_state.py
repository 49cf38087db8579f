"""What a master's page says, and what no worker has: with both numbers."""

from __future__ import annotations

from typing import Any

import pytest

from optuna_spark.distribution.cluster_state import Application, ClusterState, Part, ask_master, busy_with, lacking

WORKERS = {"small": Part(2, 4096, 0), "big": Part(4, 2048, 1)}
CLUSTER = ClusterState(
    WORKERS,
    (Application("app-1", "tune wine", 3, 1024), Application("app-2", "tune me", 0, 1024)),
)


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (Part(64, 512, 0), "no worker has 64 cores; the largest has 4"),
        (Part(1, 500_000, 0), "no worker has 500,000 MiB of memory; the largest has 4,096"),
        (Part(1, 512, 2), "no worker has 2 GPUs; the largest has 1"),
        (Part(3, 3000, 1), "no worker has 3 cores, 3,000 MiB of memory and 1 GPU together"),
    ],
)
def test_what_no_worker_has_is_named_with_both_numbers(wanted: Part, sentence: str) -> None:
    assert lacking(wanted, CLUSTER) == sentence


def test_what_a_worker_has_is_not_lacking_whoever_uses_it() -> None:
    assert lacking(Part(4, 2048, 1), CLUSTER) is None


def test_a_cluster_without_workers_is_one_sentence() -> None:
    assert lacking(Part(1, 1, 0), ClusterState({})) == "the cluster has no worker"


def test_the_others_that_use_cores_are_named() -> None:
    assert busy_with(CLUSTER, "app-2") == "tune wine (3 cores)"
    assert busy_with(CLUSTER, "app-1") == ""


def test_a_masters_page_is_read_and_a_dead_worker_is_none() -> None:
    worker: dict[str, Any] = {"id": "w", "cores": 2, "memory": 1024, "state": "ALIVE"}
    worker["resources"] = {"gpu": {"name": "gpu", "addresses": ["0", "1", "2"]}}
    app = {"id": "a", "name": "evil\x1b[2Jname", "cores": 1, "memoryperexecutor": 512}
    state = ClusterState.of({"workers": [worker, {**worker, "id": "x", "state": "DEAD"}], "activeapps": [app]})
    assert state.workers == {"w": Part(2, 1024, 3)}
    assert state.applications == (Application("a", r"evil\x1b[2Jname", 1, 512),)


@pytest.mark.parametrize("page", ["http://127.0.0.1:1", "file:///etc/passwd", "", "spark://127.0.0.1:7077"])
def test_a_page_that_does_not_answer_tells_nothing(page: str) -> None:
    assert ask_master(page) is None
